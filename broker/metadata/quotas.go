package metadata

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// QuotaName says whom one part of a QuotaEntity means.
type QuotaName struct {
	Of   QuotaMatch
	Name string // only with QuotaNamed
}

// QuotaMatch is how a part of a QuotaEntity is meant.
type QuotaMatch uint8

// The kinds of QuotaName.
const (
	QuotaUnset   QuotaMatch = iota // the entity does not look at it
	QuotaNamed                     // the one with this name
	QuotaDefault                   // everybody without a quota of their own
)

// QuotaEntity is whom quotas hold for: a user, a client ID, both together, or an
// address (KIP-546, KIP-612).
type QuotaEntity struct{ User, Client, IP QuotaName }

func (n QuotaName) compare(m QuotaName) int {
	return cmp.Or(cmp.Compare(n.Of, m.Of), cmp.Compare(n.Name, m.Name))
}

func (e QuotaEntity) compare(f QuotaEntity) int {
	return cmp.Or(e.User.compare(f.User), e.Client.compare(f.Client), e.IP.compare(f.IP))
}

// check tells what no entity may look like.
func (e QuotaEntity) check() error {
	set := 0
	for _, n := range []QuotaName{e.User, e.Client, e.IP} {
		if n.Of > QuotaDefault || (n.Of == QuotaNamed) != (n.Name != "") {
			return fmt.Errorf("quota entity %+v has a name that cannot be", e)
		}
		if n.Of != QuotaUnset {
			set++
		}
	}
	if set == 0 || e.IP.Of != QuotaUnset && set > 1 {
		return fmt.Errorf("quota entity %+v is none of user, client, both, or address", e)
	}
	return nil
}

// Quota is what holds for one entity: Kafka's names and numbers.
type Quota struct {
	Entity QuotaEntity
	Values map[string]float64
}

// quotas is the value behind an entity; immutable.
type quotas struct{ values map[string]float64 }

// Quotas gives all client quotas in the order of their entities. Read only.
func (i *Image) Quotas() []Quota {
	out := make([]Quota, 0, i.quotas.count)
	for _, pg := range i.quotas.list {
		for _, e := range pg.entries {
			out = append(out, Quota{e.key, e.val.values})
		}
	}
	return out
}

// QuotaCount gives the number of entities that have quotas.
func (i *Image) QuotaCount() int { return i.quotas.count }

// Quota gives the quotas of one entity, nil for none. Read only.
func (i *Image) Quota(e QuotaEntity) map[string]float64 {
	q, ok := i.quotas.look(e)
	if !ok {
		return nil
	}
	return q.values
}

// QuotaSet sets one quota of an entity.
type QuotaSet struct {
	Entity QuotaEntity
	Name   string // "producer_byte_rate"
	Value  float64
}

// QuotaRemoved takes one quota of an entity back.
type QuotaRemoved struct {
	Entity QuotaEntity
	Name   string
}

func (*QuotaSet) kind() kind     { return kindQuotaSet }
func (*QuotaRemoved) kind() kind { return kindQuotaRemoved }

func (n QuotaName) encode(e *encoder) { e.int(int64(n.Of)); e.text(n.Name) }
func (n *QuotaName) decode(d *decoder) {
	of := d.int16()
	if of < 0 || of > int16(QuotaDefault) {
		d.fail("%d is no kind of quota name", of)
	}
	n.Of, n.Name = QuotaMatch(of), d.text()
}

func (q QuotaEntity) encode(e *encoder)  { q.User.encode(e); q.Client.encode(e); q.IP.encode(e) }
func (q *QuotaEntity) decode(d *decoder) { q.User.decode(d); q.Client.decode(d); q.IP.decode(d) }

func (r *QuotaSet) encode(e *encoder) { r.Entity.encode(e); e.text(r.Name); e.float(r.Value) }
func (r *QuotaSet) decode(d *decoder) { r.Entity.decode(d); r.Name, r.Value = d.text(), d.float() }

func (r *QuotaRemoved) encode(e *encoder) { r.Entity.encode(e); e.text(r.Name) }
func (r *QuotaRemoved) decode(d *decoder) { r.Entity.decode(d); r.Name = d.text() }

func (r *QuotaSet) fold(f *folding) error {
	if err := r.Entity.check(); err != nil {
		return err
	}
	if r.Name == "" || !(r.Value > 0) { // NaN neither
		return fmt.Errorf("quota %q of %+v cannot be %v", r.Name, r.Entity, r.Value)
	}
	next := &quotas{values: map[string]float64{}}
	if old, ok := f.quotas.look(r.Entity); ok {
		maps.Copy(next.values, old.values)
	}
	next.values[r.Name] = r.Value
	f.quotas.set(r.Entity, next)
	return nil
}

func (r *QuotaRemoved) fold(f *folding) error {
	old, ok := f.quotas.look(r.Entity)
	if !ok {
		return fmt.Errorf("there is no quota of %+v to remove", r.Entity)
	}
	if _, ok := old.values[r.Name]; !ok {
		return fmt.Errorf("%+v has no quota %q to remove", r.Entity, r.Name)
	}
	next := &quotas{values: maps.Clone(old.values)}
	delete(next.values, r.Name)
	if len(next.values) == 0 {
		f.quotas.remove(r.Entity)
	} else {
		f.quotas.set(r.Entity, next)
	}
	return nil
}

// quotaRecords makes the records of Snapshot about quotas.
func (i *Image) quotaRecords(emit func(Record)) {
	for _, q := range i.Quotas() {
		for _, name := range slices.Sorted(maps.Keys(q.Values)) {
			emit(&QuotaSet{Entity: q.Entity, Name: name, Value: q.Values[name]})
		}
	}
}
