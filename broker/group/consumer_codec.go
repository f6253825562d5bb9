package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Kinds of the new protocol's records, which are the versions of their keys.
// Source: Kafka 4.3, group-coordinator's record schemas. 4 (subscribed topics) was written
// until 4.0; the hash in 3 took its place (KIP-1101).
const (
	keyGroup         = 3
	keyTopics        = 4
	keyMember        = 5
	keyTargetEpoch   = 6
	keyTarget        = 7
	keyCurrent       = 8
	keyRegex         = 16
	flexibleVersion0 = 0 // the only version of each value
)

// consumerKey makes the key of a record; name is the member's or the pattern, if the kind
// has one.
func consumerKey(kind int16, group string, name ...string) []byte {
	k := kbin.AppendString(kbin.AppendInt16(nil, kind), group)
	for _, n := range name {
		k = kbin.AppendString(k, n)
	}
	return k
}

// tagged appends the tagged fields of a struct; each has its number for an index, nil ones
// are left out.
func tagged(b []byte, fields ...[]byte) []byte {
	n := uint32(0)
	for _, f := range fields {
		if f != nil {
			n++
		}
	}
	b = kbin.AppendUvarint(b, n)
	for tag, f := range fields {
		if f != nil {
			b = kbin.AppendUvarint(b, uint32(tag))
			b = kbin.AppendUvarint(b, uint32(len(f)))
			b = append(b, f...)
		}
	}
	return b
}

func valueOf() []byte { return kbin.AppendInt16(nil, flexibleVersion0) }

func (g *consumerGroup) groupRecord(id string) record.Record {
	v := kbin.AppendInt32(valueOf(), g.epoch)
	var hash []byte
	if g.hash != 0 {
		hash = kbin.AppendInt64(nil, g.hash)
	}
	return record.Record{Key: consumerKey(keyGroup, id), Value: tagged(v, hash)}
}

func (g *consumerGroup) targetEpochRecord(id string) record.Record {
	v := kbin.AppendInt32(valueOf(), g.targetEpoch)
	var at []byte
	if g.targetTime != 0 {
		at = kbin.AppendInt64(nil, g.targetTime)
	}
	return record.Record{Key: consumerKey(keyTargetEpoch, id), Value: tagged(v, at)}
}

func (r *resolved) record(id, regex string) record.Record {
	v := kbin.AppendCompactArrayLen(valueOf(), len(r.topics))
	for _, t := range r.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = kbin.AppendInt64(kbin.AppendInt64(v, r.version), r.at)
	return record.Record{Key: consumerKey(keyRegex, id, regex), Value: tagged(v)}
}

func (c *consumer) metadataRecord(id string) record.Record {
	v := kbin.AppendCompactNullableString(valueOf(), c.instance)
	v = kbin.AppendCompactNullableString(v, c.rack)
	v = kbin.AppendCompactString(v, c.client.ID)
	v = kbin.AppendCompactString(v, c.client.Host)
	v = kbin.AppendCompactArrayLen(v, len(c.topics))
	for _, t := range c.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = kbin.AppendCompactNullableString(v, optional(c.regex))
	v = kbin.AppendInt32(v, int32(c.rebalance.Milliseconds()))
	v = kbin.AppendCompactNullableString(v, optional(c.assignor))
	var classic []byte
	if c.classic != nil {
		classic = kbin.AppendInt8(nil, 1) // the struct is there
		classic = kbin.AppendInt32(classic, int32(c.classic.session.Milliseconds()))
		classic = kbin.AppendCompactArrayLen(classic, len(c.classic.protocols))
		for _, p := range c.classic.protocols {
			classic = kbin.AppendCompactString(classic, p.name)
			classic = tagged(kbin.AppendCompactBytes(classic, p.metadata))
		}
		classic = tagged(classic)
	}
	return record.Record{Key: consumerKey(keyMember, id, c.id), Value: tagged(v, classic)}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (c *consumer) targetRecord(id string) record.Record {
	return record.Record{Key: consumerKey(keyTarget, id, c.id), Value: tagged(appendParts(valueOf(), c.target, false))}
}

func (c *consumer) currentRecord(id string) record.Record {
	v := kbin.AppendInt32(kbin.AppendInt32(valueOf(), c.epoch), c.previous)
	v = kbin.AppendInt8(v, int8(c.state))
	v = appendParts(appendParts(v, c.owned, true), c.revoking, true)
	return record.Record{Key: consumerKey(keyCurrent, id, c.id), Value: tagged(v)}
}

// appendParts writes partitions topic by topic, with the epochs they were given in if wanted.
func appendParts(b []byte, ps parts, epochs bool) []byte {
	all := ps.byTopic()
	b = kbin.AppendCompactArrayLen(b, len(all))
	for _, t := range all {
		b = kbin.AppendUuid(b, t.topic)
		b = kbin.AppendCompactArrayLen(b, len(t.ns))
		for _, n := range t.ns {
			b = kbin.AppendInt32(b, n)
		}
		var since []byte
		if epochs {
			since = kbin.AppendCompactArrayLen(nil, len(t.ns))
			for _, n := range t.ns {
				since = kbin.AppendInt32(since, ps[part{t.topic, n}])
			}
		}
		b = tagged(b, since)
	}
	return b
}

// consumerKeys is a key, read.
type consumerKeys struct {
	kind        int16
	group, name string
}

func readConsumerKey(b []byte) (k consumerKeys, err error) {
	r := &kbin.Reader{Src: b}
	k.kind, k.group = r.Int16(), r.String()
	if k.kind == keyMember || k.kind == keyTarget || k.kind == keyCurrent || k.kind == keyRegex {
		k.name = r.String()
	}
	if err := r.Complete(); err != nil {
		return k, fmt.Errorf("cannot read the key of a group's record: %w", err)
	}
	return k, nil
}

// replayConsumer takes one committed record of the new protocol in.
func (s *shard) replayConsumer(rec record.Record) error {
	k, err := readConsumerKey(rec.Key)
	if err != nil {
		return err
	}
	g := s.groups[k.group]
	if rec.Value == nil {
		if g != nil && g.consumers != nil {
			g.consumers.erase(k)
			if g.consumers.gone() {
				g.consumers = nil
			}
			s.forget(g)
		}
		return nil
	}
	if err := known16(rec.Value, flexibleVersion0); err != nil {
		return fmt.Errorf("cannot read a record of group %q: %w", k.group, err)
	}
	if g == nil {
		g = s.group(k.group)
	}
	if g.consumers == nil {
		g.consumers = newConsumerGroup()
	}
	r := &kbin.Reader{Src: rec.Value[2:]}
	g.consumers.take(k, r)
	if err := r.Complete(); err != nil {
		return fmt.Errorf("cannot read a record of group %q: %w", k.group, err)
	}
	if g.consumers.gone() { // subscribed topics alone are no group
		g.consumers = nil
		s.forget(g)
	}
	return nil
}

// take takes a record's value in.
func (g *consumerGroup) take(k consumerKeys, r *kbin.Reader) {
	switch k.kind {
	case keyGroup:
		g.stored, g.epoch, g.hash = true, r.Int32(), 0
		readTags(r, func(r *kbin.Reader) { g.hash = r.Int64() })
	case keyTopics: // the hash says it shorter
		r.Src = nil
	case keyTargetEpoch:
		g.hasTarget, g.targetEpoch, g.targetTime = true, r.Int32(), 0
		readTags(r, func(r *kbin.Reader) { g.targetTime = r.Int64() })
	case keyRegex:
		v := &resolved{topics: readStrings(r), version: r.Int64(), at: r.Int64()}
		readTags(r)
		g.regexes[k.name] = v
	case keyMember, keyTarget, keyCurrent:
		c := consumer{id: k.name, state: reconciled}
		if old := g.members[k.name]; old != nil {
			c = *old
		}
		switch k.kind {
		case keyMember:
			c.readMetadata(r)
			c.has[hasMetadata] = true
		case keyTarget:
			c.target = readParts(r)
			readTags(r)
			c.has[hasTarget] = true
		case keyCurrent:
			c.epoch, c.previous, c.state = r.Int32(), r.Int32(), memberState(r.Int8())
			c.owned, c.revoking = readParts(r), readParts(r)
			readTags(r)
			c.has[hasCurrent] = true
		}
		g.members[k.name] = &c
	}
}

// erase takes a record's deletion in.
func (g *consumerGroup) erase(k consumerKeys) {
	switch k.kind {
	case keyGroup:
		g.stored, g.epoch, g.hash = false, 0, 0
	case keyTargetEpoch:
		g.hasTarget, g.targetEpoch, g.targetTime = false, 0, 0
	case keyRegex:
		delete(g.regexes, k.name)
	case keyMember, keyTarget, keyCurrent:
		old := g.members[k.name]
		if old == nil {
			return
		}
		c := *old
		switch k.kind {
		case keyMember:
			c.has[hasMetadata] = false
		case keyTarget:
			c.target, c.has[hasTarget] = nil, false
		case keyCurrent:
			c.epoch, c.previous, c.state, c.owned, c.revoking = 0, 0, reconciled, nil, nil
			c.has[hasCurrent] = false
		}
		g.members[k.name] = &c
		if c.has == [3]bool{} {
			delete(g.members, k.name)
		}
	}
}

func (c *consumer) readMetadata(r *kbin.Reader) {
	c.instance, c.rack = r.CompactNullableString(), r.CompactNullableString()
	c.client = Client{ID: r.CompactString(), Host: r.CompactString()}
	c.topics = readStrings(r)
	c.regex = text(r.CompactNullableString())
	c.rebalance = time.Duration(r.Int32()) * time.Millisecond
	c.assignor = text(r.CompactNullableString())
	c.classic = nil
	readTags(r, func(r *kbin.Reader) {
		if r.Int8() < 0 {
			return
		}
		c.classic = &classicLife{session: time.Duration(r.Int32()) * time.Millisecond}
		for range r.CompactArrayLen() {
			if !r.Ok() {
				return
			}
			p := protocol{name: r.CompactString(), metadata: append([]byte{}, r.CompactBytes()...)}
			readTags(r)
			c.classic.protocols = append(c.classic.protocols, p)
		}
		readTags(r)
	})
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func readStrings(r *kbin.Reader) (out []string) {
	for range r.CompactArrayLen() {
		if !r.Ok() {
			return nil
		}
		out = append(out, r.CompactString())
	}
	return out
}

func readParts(r *kbin.Reader) parts {
	out := make(parts)
	for range r.CompactArrayLen() {
		id := topic.ID(r.Uuid())
		var ns []int32
		for range r.CompactArrayLen() {
			if !r.Ok() {
				return out
			}
			ns = append(ns, r.Int32())
			out[part{id, ns[len(ns)-1]}] = 0
		}
		readTags(r, func(r *kbin.Reader) {
			for i := range r.CompactArrayLen() {
				if !r.Ok() || int(i) >= len(ns) {
					return
				}
				out[part{id, ns[i]}] = r.Int32()
			}
		})
	}
	return out
}

// readTags reads a struct's tagged fields: fields[tag] reads what is known, the rest is
// skipped.
func readTags(r *kbin.Reader, fields ...func(*kbin.Reader)) {
	for range r.Uvarint() {
		tag, size := r.Uvarint(), r.Uvarint()
		b := r.Span(int(size))
		if !r.Ok() {
			return
		}
		if int(tag) < len(fields) {
			in := &kbin.Reader{Src: b}
			fields[tag](in)
			if !in.Ok() {
				r.Span(-1) // Why: the outer record is then just as broken
			}
		}
	}
}

// reviveConsumers makes a group of the new protocol live again: its members have one session
// from now on to be heard of.
func (s *shard) reviveConsumers(g *group) {
	if g.consumers == nil {
		return
	}
	for id, c := range g.consumers.members {
		if !c.has[hasMetadata] { // the rest of a member whose deletion was compacted away
			delete(g.consumers.members, id)
		}
	}
	g.since = s.now.UnixMilli()
	s.tend(g)
}
