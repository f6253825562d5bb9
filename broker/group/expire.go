package group

import (
	"maps"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// expireLater looks at the offsets' age from time to time.
func (s *shard) expireLater() {
	s.alarms.set(&s.expiry, s.now.Add(s.limits().expiryInterval), func() {
		s.expireOffsets()
		s.expireLater()
	})
}

// expireOffsets forgets offsets that nobody has used for offsets.retention.minutes, and
// groups of which then nothing is left.
func (s *shard) expireOffsets() {
	for _, g := range s.inOrder() {
		g.lingers = false
		if g.writing > 0 {
			continue // R32: what is on its way is not judged; the next look will
		}
		if g.consumers != nil {
			s.expireConsumers(g)
			continue
		}
		if old := g.expired(s.now, s.limits().retention); len(old) > 0 {
			s.logger.Info("offsets expired", "group", g.id, "offsets", len(old))
			s.removeOffsets(g, old)
		} else if g.state == empty && len(g.offsets) == 0 && len(g.pending) == 0 && g.stored != nil && len(g.promised) == 0 {
			s.removeOffsets(g, nil)
		} else {
			s.forget(g)
		}
	}
}

// expireConsumers does the same for a group of the new protocol. The clock of one without
// members begins again when the group is loaded: when it lost them is not stored.
func (s *shard) expireConsumers(g *group) {
	old := g.expired(s.now, s.limits().retention)
	if len(g.consumers.members) > 0 || len(old) < len(g.offsets) || len(g.pending) > 0 {
		if len(old) > 0 {
			s.logger.Info("offsets expired", "group", g.id, "offsets", len(old))
			s.removeOffsets(g, old)
		}
		return
	}
	s.turn(g, nil, func(d *draft) func(code) {
		if d.next != nil && len(d.next.members) == 0 {
			d.dissolve()
			d.dropsOffsets = true
		}
		return func(c code) {
			if c != none {
				s.logger.Warn("cannot delete group", "group", g.id, "code", c)
			}
		}
	})
}

func (s *shard) inOrder() []*group {
	out := make([]*group, 0, len(s.groups))
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		out = append(out, s.groups[id])
	}
	return out
}

// expired gives the offsets that are too old. The clock of a group without members runs
// from the day it lost them, or from a later commit; a stable one loses the topics that
// none of its members consumes any more (KIP-211).
func (g *group) expired(now time.Time, retention time.Duration) (old []topic.Partition) {
	var subscribed func(string) bool
	vacant := g.state == empty && (g.consumers == nil || len(g.consumers.members) == 0)
	switch {
	case vacant:
		subscribed = func(string) bool { return false }
	case g.consumers != nil || g.state == stable:
		subscribed = g.subscribed()
	}
	if subscribed == nil {
		return nil
	}
	for p, o := range g.offsets {
		from := o.committed
		if vacant && (g.protocolType != "" || g.consumers != nil) {
			from = max(from, g.since)
		}
		due := from + retention.Milliseconds()
		if o.expires >= 0 {
			due = o.expires
		}
		if !subscribed(p.Topic) && now.UnixMilli() >= due && !g.unstable(p) {
			old = append(old, p)
		}
	}
	slices.SortFunc(old, comparePartitions)
	return old
}

// removeOffsets deletes offsets, and the group with the last of them.
func (s *shard) removeOffsets(g *group, ps []topic.Partition) {
	rs := make([]record.Record, 0, len(ps)+1)
	for _, p := range ps {
		rs = append(rs, record.Record{Key: offsetKey(g.id, p)})
	}
	last := g.state == empty && !g.ofConsumers() && len(ps) == len(g.offsets) && len(g.pending) == 0 && len(g.promised) == 0
	if last && g.stored != nil {
		rs = append(rs, record.Record{Key: groupKey(g.id)})
		g.state = dead
	}
	s.writeOffsets(g, nil, rs, ps, func(c code) {
		if c != none {
			s.logger.Warn("cannot delete offsets", "group", g.id, "offsets", len(ps), "code", c)
		}
		if c != none && g.state == dead {
			g.state = empty
		}
	})
}

// dropUnknown deletes the offsets of partitions that are gone from the metadata: a topic of
// the same name made later must not begin where the deleted one was left.
func (s *shard) dropUnknown() {
	s.dropOffsets(func(p topic.Partition) bool { return !s.exists(p) })
}

func (s *shard) dropOffsets(gone func(topic.Partition) bool) {
	for _, g := range s.inOrder() {
		var ps []topic.Partition
		for p := range g.offsets {
			if gone(p) {
				ps = append(ps, p)
			}
		}
		for p := range g.unstablePartitions() {
			if _, listed := g.offsets[p]; !listed && gone(p) {
				ps = append(ps, p)
			}
		}
		if len(ps) == 0 || g.state == dead {
			continue
		}
		slices.SortFunc(ps, comparePartitions)
		s.tombstones(g, ps, func(c code) {
			if c != none {
				s.logger.Warn("cannot delete the offsets of a deleted topic", "group", g.id, "code", c)
			}
		})
	}
}
