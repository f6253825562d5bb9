package metadata

import (
	"slices"
	"sort"
)

// maxPage is the number of entries after which a page is split. Why 128: a
// change copies one page (a few KiB) and the list of pages; at 100 000 entries
// both cost about a microsecond.
const maxPage = 128

// ordered is what a key of pages can do.
type ordered[K any] interface {
	compare(K) int
}

// pages is an immutable map in key order, kept as a list of sorted pages. Two
// generations share every page that was not touched between them. The zero
// value is the empty map.
//
// Invariant: no page is empty; keys grow within a page and from page to page.
type pages[K ordered[K], V any] struct {
	list  []*page[K, V]
	count int
}

type page[K ordered[K], V any] struct {
	owner   *owner
	entries []entry[K, V]
}

type entry[K ordered[K], V any] struct {
	key K
	val V
}

// owner marks the pages that one edit made and so may change in place. It has a
// size so that two owners never share an address.
type owner struct{ _ byte }

// find gives the page and place where key is or would be.
func (p *pages[K, V]) find(key K) (pageNo, place int, found bool) {
	pageNo = sort.Search(len(p.list), func(i int) bool {
		return p.list[i].entries[0].key.compare(key) > 0
	}) - 1
	if pageNo < 0 {
		return 0, 0, false
	}
	place, found = slices.BinarySearchFunc(p.list[pageNo].entries, key, func(e entry[K, V], k K) int {
		return e.key.compare(k)
	})
	return pageNo, place, found
}

// look gives the value of key.
func (p *pages[K, V]) look(key K) (v V, ok bool) {
	n, i, ok := p.find(key)
	if !ok {
		return v, false
	}
	return p.list[n].entries[i].val, true
}

// values gives all values in key order.
func (p *pages[K, V]) values() []V {
	all := make([]V, 0, p.count)
	for _, pg := range p.list {
		for _, e := range pg.entries {
			all = append(all, e.val)
		}
	}
	return all
}

// edit is a map on its way to the next generation: the first change of a page
// copies it, later ones go into the copy.
type edit[K ordered[K], V any] struct {
	pages[K, V]
	owner *owner // nil until the first change
}

// touch makes the list of pages, and the page with this number if there is one,
// this edit's own.
func (e *edit[K, V]) touch(pageNo int) *page[K, V] {
	if e.owner == nil {
		e.owner = new(owner)
		e.list = slices.Clone(e.list)
	}
	if len(e.list) == 0 {
		e.list = append(e.list, &page[K, V]{owner: e.owner})
	}
	pg := e.list[pageNo]
	if pg.owner != e.owner {
		own := &page[K, V]{owner: e.owner, entries: make([]entry[K, V], len(pg.entries), len(pg.entries)+1)}
		copy(own.entries, pg.entries)
		e.list[pageNo] = own
		pg = own
	}
	return pg
}

// set gives key this value.
func (e *edit[K, V]) set(key K, val V) {
	n, i, found := e.find(key)
	pg := e.touch(n)
	if found {
		pg.entries[i].val = val
		return
	}
	pg.entries = slices.Insert(pg.entries, i, entry[K, V]{key, val})
	e.count++
	if len(pg.entries) <= maxPage {
		return
	}
	cut := len(pg.entries) / 2
	if i == len(pg.entries)-1 {
		cut = i // Why: keys that come in order leave full pages behind
	}
	right := &page[K, V]{owner: e.owner, entries: slices.Clone(pg.entries[cut:])}
	clear(pg.entries[cut:])
	pg.entries = pg.entries[:cut]
	e.list = slices.Insert(e.list, n+1, right)
}

// remove takes key out; it does nothing if key is not there.
func (e *edit[K, V]) remove(key K) {
	n, i, found := e.find(key)
	if !found {
		return
	}
	pg := e.touch(n)
	pg.entries = slices.Delete(pg.entries, i, i+1)
	e.count--
	if len(pg.entries) == 0 {
		e.list = slices.Delete(e.list, n, n+1)
	}
}

// done gives the next generation. The edit must not be used after it.
func (e *edit[K, V]) done() pages[K, V] { return e.pages }

// differences calls f for every key whose value differs between two
// generations, in key order; has tells on which side the key is. Pages that
// both share are stepped over unread.
func differences[K ordered[K], V comparable](a, b *pages[K, V], f func(key K, old, new V, hasOld, hasNew bool)) {
	var none V
	ca, cb := cursor[K, V]{list: a.list}, cursor[K, V]{list: b.list}
	for {
		if ca.atStart() && cb.atStart() && ca.list[0] == cb.list[0] {
			ca.nextPage()
			cb.nextPage()
			continue
		}
		ea, eb := ca.entry(), cb.entry()
		switch {
		case ea == nil && eb == nil:
			return
		case eb == nil || ea != nil && ea.key.compare(eb.key) < 0:
			f(ea.key, ea.val, none, true, false)
			ca.next()
		case ea == nil || ea.key.compare(eb.key) > 0:
			f(eb.key, none, eb.val, false, true)
			cb.next()
		default:
			if ea.val != eb.val {
				f(ea.key, ea.val, eb.val, true, true)
			}
			ca.next()
			cb.next()
		}
	}
}

// cursor walks the entries of a list of pages.
type cursor[K ordered[K], V any] struct {
	list  []*page[K, V]
	place int
}

func (c *cursor[K, V]) atStart() bool { return len(c.list) > 0 && c.place == 0 }

func (c *cursor[K, V]) nextPage() { c.list, c.place = c.list[1:], 0 }

func (c *cursor[K, V]) entry() *entry[K, V] {
	if len(c.list) == 0 {
		return nil
	}
	return &c.list[0].entries[c.place]
}

func (c *cursor[K, V]) next() {
	if c.place++; c.place == len(c.list[0].entries) {
		c.nextPage()
	}
}
