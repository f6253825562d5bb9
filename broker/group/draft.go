package group

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/belfry-mq/belfry/broker/record"
)

// draft is a group of the new protocol with changes that are not written yet. It reads what
// is committed and copies what it changes; members are replaced, never changed.
type draft struct {
	s    *shard
	g    *group
	view *topics
	base *consumerGroup // as committed; nil: the group is none of the new protocol
	next *consumerGroup // as it shall be; base until something changes; nil: none
	own  bool           // next is a copy

	owners map[part]string // who has each partition, also those to be let go of; nil: not worked out
	looked bool            // the topics of now have been looked at

	classic *group // what the group becomes when its last member of the new protocol has gone
	over    bool   // the group is none of the new protocol any more: nothing may be added
	// dropsOffsets says that the group's offsets go with it.
	dropsOffsets bool
}

func (s *shard) draft(g *group) *draft {
	return &draft{s: s, g: g, view: s.topics(), base: g.consumers, next: g.consumers}
}

// touch makes next a copy that may be changed.
func (d *draft) touch() {
	if d.own {
		return
	}
	d.own = true
	if d.next == nil {
		d.next = newConsumerGroup()
		return
	}
	next := *d.next
	next.members, next.regexes = maps.Clone(next.members), maps.Clone(next.regexes)
	d.next = &next
}

// put takes a member in, or what it has become.
func (d *draft) put(c *consumer) {
	d.disown(d.next.members[c.id])
	d.touch()
	d.next.members[c.id] = c
	if d.owners != nil {
		d.claim(c)
	}
}

// drop takes a member out.
func (d *draft) drop(c *consumer) {
	d.disown(c)
	d.touch()
	delete(d.next.members, c.id)
}

func (d *draft) claim(c *consumer) {
	for at := range c.owned {
		d.owners[at] = c.id
	}
	for at := range c.revoking {
		d.owners[at] = c.id
	}
}

func (d *draft) disown(c *consumer) {
	if c == nil || d.owners == nil {
		return
	}
	for at := range c.owned {
		delete(d.owners, at)
	}
	for at := range c.revoking {
		delete(d.owners, at)
	}
}

// owner gives who has a partition and has not let go of it; "" is nobody.
func (d *draft) owner(at part) string {
	if d.owners == nil {
		d.owners = make(map[part]string)
		for _, c := range d.next.members {
			d.claim(c)
		}
	}
	return d.owners[at]
}

// look brings the patterns up to date with the topics of now, and tells whether the group
// has to be assigned anew: because of that, or because a topic that it wants came, went or
// grew.
func (d *draft) look() (changed bool) {
	d.looked = true
	inUse := make(map[string]bool)
	for _, c := range d.next.members {
		if c.regex != "" {
			inUse[c.regex] = true
		}
	}
	for _, text := range slices.Sorted(maps.Keys(inUse)) {
		found := matching(text, d.view)
		if r := d.next.regexes[text]; r != nil && slices.Equal(r.topics, found) {
			continue
		}
		d.touch()
		d.next.regexes[text] = &resolved{topics: found, version: d.view.version, at: d.s.now.UnixMilli()}
		changed = true
	}
	for text := range d.next.regexes {
		if !inUse[text] {
			d.touch()
			delete(d.next.regexes, text)
		}
	}
	if h := d.hash(); h != d.next.hash {
		d.touch()
		d.next.hash = h
		changed = true
	}
	return changed
}

// hash tells topics that the group wants from those it wanted before: by name, ID and size.
func (d *draft) hash() int64 {
	names := slices.Sorted(maps.Keys(d.next.subscribed()))
	h := fnv.New64a()
	some := false
	for _, name := range names {
		if t, ok := d.view.byName[name]; ok {
			some = true
			h.Write(t.id[:])
			h.Write(binary.BigEndian.AppendUint32([]byte(name), uint32(t.partitions)))
			h.Write([]byte{0})
		}
	}
	if !some {
		return 0
	}
	return int64(h.Sum64())
}

// bump has the group assigned anew. The epoch of a group never falls, so that no member of
// an earlier life is taken for one of this.
func (d *draft) bump() {
	d.touch()
	d.next.stored = true
	d.next.epoch++
}

// current makes sure that the target is that of the group's epoch, after members changed
// (changed) or topics did.
func (d *draft) current(changed bool) {
	if changed || !d.looked && d.g.seen != d.view.version {
		if d.look() || changed {
			d.bump()
		}
	}
	if d.next.epoch > d.next.targetEpoch {
		d.aim()
	}
}

// aim works the target out.
func (d *draft) aim() {
	d.touch()
	ws := make([]*wish, 0, len(d.next.members))
	members := d.next.inOrder()
	for _, c := range members {
		w := &wish{id: c.id, order: c.id, held: c.target}
		if c.instance != nil {
			w.order = *c.instance
		}
		for _, name := range d.next.subscribes(c) {
			if t, ok := d.view.byName[name]; ok {
				w.topics = append(w.topics, t)
			}
		}
		slices.SortFunc(w.topics, func(a, b topicInfo) int { return compareIDs(a.id, b.id) })
		ws = append(ws, w)
	}
	name := d.next.assignorName(d.s.limits().consumer.assignors)
	for i, target := range assignors[name](ws) {
		if !target.same(members[i].target) {
			c := *members[i]
			c.target, c.has[hasTarget] = target, true
			d.put(&c)
		}
	}
	d.next.hasTarget, d.next.targetEpoch, d.next.targetTime = true, d.next.epoch, d.s.now.UnixMilli()
	d.s.logger.Debug("group has a new target", "group", d.g.id, "epoch", d.next.epoch, "members", len(members), "assignor", name)
}

// reconcile brings a member a step nearer to its target. claims is what the member says it
// owns; not said, it may still own everything.
func (d *draft) reconcile(c *consumer, claims parts, said bool) *consumer {
	if c.done(d.next.targetEpoch) {
		return c
	}
	holds := func(ps parts) bool {
		for at := range ps {
			if _, ok := claims[at]; ok || !said {
				return true
			}
		}
		return false
	}
	if c.state == unrevoked && holds(c.revoking) {
		return c
	}
	next := *c
	next.owned, next.revoking, next.has[hasCurrent] = make(parts), make(parts), true
	for at, since := range c.owned {
		if _, ok := c.target[at]; ok {
			next.owned[at] = since
		} else {
			next.revoking[at] = since
		}
	}
	if holds(next.revoking) {
		next.state, next.previous = unrevoked, c.epoch
	} else {
		next.revoking = make(parts)
		next.state, next.previous, next.epoch = reconciled, c.epoch, d.next.targetEpoch
		for at := range c.target {
			if _, ok := next.owned[at]; ok {
				continue
			}
			if who := d.owner(at); who != "" && who != c.id {
				next.state = unreleased
				continue
			}
			next.owned[at] = d.next.targetEpoch
		}
	}
	if next.state == c.state && next.epoch == c.epoch && next.owned.same(c.owned) && next.revoking.same(c.revoking) {
		return c
	}
	d.put(&next)
	return &next
}

// records gives what has to be written so that a replay makes base into next.
func (d *draft) records() []record.Record {
	id := d.g.id
	switch {
	case d.over:
		rs := d.base.erased(id)
		if d.g.stored != nil && d.classic == nil {
			rs = append(rs, record.Record{Key: groupKey(id)})
		}
		if d.classic != nil {
			v := d.classic.value()
			rs = append(rs, record.Record{Key: groupKey(id), Value: v.AppendTo(nil)})
		}
		return rs
	case !d.own:
		return nil
	}
	var rs []record.Record
	base := d.base
	if base == nil {
		base = newConsumerGroup()
		if d.g.stored != nil {
			rs = append(rs, record.Record{Key: groupKey(id)})
		}
	}
	return append(rs, base.difference(id, d.next)...)
}

// difference gives the records that make g into next.
func (g *consumerGroup) difference(id string, next *consumerGroup) (rs []record.Record) {
	for _, c := range g.inOrder() {
		if next.members[c.id] == nil {
			rs = append(rs, c.erased(id)...)
		}
	}
	members := next.inOrder()
	for _, c := range members {
		if old := g.members[c.id]; c.has[hasMetadata] && (old == nil || !old.has[hasMetadata] || !c.saysSame(old)) {
			rs = append(rs, c.metadataRecord(id))
		}
	}
	for _, text := range slices.Sorted(maps.Keys(next.regexes)) {
		if g.regexes[text] != next.regexes[text] {
			rs = append(rs, next.regexes[text].record(id, text))
		}
	}
	for _, text := range slices.Sorted(maps.Keys(g.regexes)) {
		if next.regexes[text] == nil {
			rs = append(rs, record.Record{Key: consumerKey(keyRegex, id, text)})
		}
	}
	if next.stored && (!g.stored || g.epoch != next.epoch || g.hash != next.hash) {
		rs = append(rs, next.groupRecord(id))
	}
	for _, c := range members {
		if old := g.members[c.id]; c.has[hasTarget] && (old == nil || !old.has[hasTarget] || !c.target.same(old.target)) {
			rs = append(rs, c.targetRecord(id))
		}
	}
	if next.hasTarget && (!g.hasTarget || g.targetEpoch != next.targetEpoch) {
		rs = append(rs, next.targetEpochRecord(id))
	}
	for _, c := range members {
		if old := g.members[c.id]; c.has[hasCurrent] && (old == nil || !old.has[hasCurrent] || !c.standsSame(old)) {
			rs = append(rs, c.currentRecord(id))
		}
	}
	return rs
}

// erased gives the deletion of all of the group's records.
func (g *consumerGroup) erased(id string) (rs []record.Record) {
	if g == nil {
		return nil
	}
	for _, c := range g.inOrder() {
		rs = append(rs, c.erased(id)...)
	}
	if g.hasTarget {
		rs = append(rs, record.Record{Key: consumerKey(keyTargetEpoch, id)})
	}
	for _, text := range slices.Sorted(maps.Keys(g.regexes)) {
		rs = append(rs, record.Record{Key: consumerKey(keyRegex, id, text)})
	}
	if g.stored {
		rs = append(rs, record.Record{Key: consumerKey(keyGroup, id)})
	}
	return rs
}

// erased gives the deletion of a member's records, the last one first.
func (c *consumer) erased(id string) (rs []record.Record) {
	for i, kind := range []int16{keyCurrent, keyTarget, keyMember} {
		if c.has[hasCurrent-i] {
			rs = append(rs, record.Record{Key: consumerKey(kind, id, c.id)})
		}
	}
	return rs
}

// saysSame tells whether two states of a member have the same metadata.
func (c *consumer) saysSame(o *consumer) bool {
	if c == o {
		return true
	}
	return samePtr(c.instance, o.instance) && samePtr(c.rack, o.rack) && c.client == o.client &&
		slices.Equal(c.topics, o.topics) && c.regex == o.regex && c.rebalance == o.rebalance &&
		c.assignor == o.assignor && c.classic.same(o.classic)
}

// standsSame tells whether two states of a member have the same current assignment.
func (c *consumer) standsSame(o *consumer) bool {
	return c == o || c.epoch == o.epoch && c.previous == o.previous && c.state == o.state &&
		maps.Equal(c.owned, o.owned) && maps.Equal(c.revoking, o.revoking)
}

func samePtr(a, b *string) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (c *classicLife) same(o *classicLife) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.session == o.session && slices.EqualFunc(c.protocols, o.protocols, func(a, b protocol) bool {
		return a.name == b.name && string(a.metadata) == string(b.metadata)
	})
}
