package group

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// OffsetCommit, versions 0 to 10. Time-stamps of the client (1 only), retention (2 to 4),
// KIP-320 leader epoch (6), KIP-345 instance (7), KIP-848 member epoch (9) and topic IDs
// (10; the names are given too by then). Version 0, which Kafka kept in ZooKeeper, is kept
// like all others.

// commit writes offsets down and answers when they are committed.
func (s *shard) commit(r *kmsg.OffsetCommitRequest, answer func(*kmsg.OffsetCommitResponse)) {
	if g := s.groups[r.Group]; g != nil && g.ofConsumers() {
		s.commitConsumers(g, r, answer)
		return
	}
	g, c := s.mayCommit(r)
	s.commitAs(g, nil, r, func(topic.Partition) code { return c }, answer)
}

// commitConsumers is commit for a group of the new protocol.
func (s *shard) commitConsumers(g *group, r *kmsg.OffsetCommitRequest, answer func(*kmsg.OffsetCommitResponse)) {
	all := func(c code) func(topic.Partition) code { return func(topic.Partition) code { return written(c) } }
	fail := func(c code) { s.commitAs(g, nil, r, all(c), answer) }
	s.turn(g, fail, func(d *draft) func(code) {
		if d.next == nil && !d.over {
			now, c := s.mayCommit(r)
			s.commitAs(now, nil, r, all(c), answer)
		} else {
			s.commitAs(g, nil, r, d.mayCommit(r), answer)
		}
		return func(code) {}
	})
}

// commitAs writes those offsets down that may tells none of, in a producer's transaction or
// (nil) for good.
func (s *shard) commitAs(g *group, by *journal.Producer, r *kmsg.OffsetCommitRequest, may func(topic.Partition) code, answer func(*kmsg.OffsetCommitResponse)) {
	resp := kmsg.NewPtrOffsetCommitResponse()
	var records []record.Record
	var written []topic.Partition
	var wait []*code
	most := s.limits().offsetMetadata
	for i := range r.Topics {
		t := &r.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		name := strings.Clone(t.Topic)
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Partition = p.Partition
			at := topic.Partition{Topic: name, Partition: p.Partition}
			c := may(at)
			switch {
			case c != none:
				rp.ErrorCode = c
			case !s.exists(at):
				rp.ErrorCode = unknownPartition
			case p.Metadata != nil && len(*p.Metadata) > most:
				rp.ErrorCode = offsetMetadataTooLarge
			default:
				records = append(records, offsetRecord(r.Group, at, s.newOffset(r, p)))
				written = append(written, at)
				wait = append(wait, &rp.ErrorCode)
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(records) == 0 {
		s.later(func() { answer(resp) })
		return
	}
	if g == nil {
		g = s.group(strings.Clone(r.Group))
	}
	once := s.answerOnce(func(c code) {
		for _, w := range wait {
			*w = c
		}
		s.later(func() { answer(resp) })
	})
	s.writeOffsets(g, by, records, written, once)
}

// mayCommit judges who commits: a member of this generation, or somebody outside while the
// group has no members.
func (s *shard) mayCommit(r *kmsg.OffsetCommitRequest) (*group, code) {
	g := s.groups[r.Group]
	outside := r.Generation < 0
	switch {
	case g == nil && outside:
		return nil, none
	case g == nil:
		return nil, illegalGeneration
	case g.state == dead:
		return g, notAvailable
	case outside && g.state == empty:
		return g, none
	}
	m, c := g.member(r.MemberID, r.InstanceID)
	switch {
	case c != none:
		return g, c
	case r.Generation != g.generation && !planted("no generation fencing"):
		return g, illegalGeneration
	case g.state == completingRebalance:
		return g, rebalanceInProgress
	}
	if m.join == nil && m.sync == nil {
		s.heard(g, m)
	}
	return g, none
}

// mayCommit judges who commits to a group of the new protocol: a member in its epoch, or
// somebody outside while the group has no members. A member whose epoch went on may still
// commit for what it has had since the epoch that it knows (KIP-1251).
func (d *draft) mayCommit(r *kmsg.OffsetCommitRequest) func(topic.Partition) code {
	all := func(c code) func(topic.Partition) code { return func(topic.Partition) code { return c } }
	if d.next == nil {
		return all(unknownMember)
	}
	if r.Generation < 0 && len(d.next.members) == 0 {
		return all(none)
	}
	m := d.next.members[r.MemberID]
	switch {
	case m == nil:
		return all(unknownMember)
	case m.classic == nil && r.Version < 9:
		return all(unsupportedVersion)
	case m.epoch == r.Generation:
		return all(none)
	case m.classic != nil:
		return all(illegalGeneration)
	case r.Generation > m.epoch || r.Generation < 0:
		return all(staleEpoch)
	}
	return func(p topic.Partition) code {
		if since, ok := m.owned[part{d.view.byName[p.Topic].id, p.Partition}]; ok && since <= r.Generation {
			return none
		}
		return staleEpoch
	}
}

func (s *shard) newOffset(r *kmsg.OffsetCommitRequest, p *kmsg.OffsetCommitRequestTopicPartition) offset {
	o := offset{at: p.Offset, epoch: p.LeaderEpoch, metadata: cloned(p.Metadata), committed: s.now.UnixMilli(), expires: -1}
	if r.Version < 6 {
		o.epoch = -1
	}
	if r.Version == 1 && p.Timestamp >= 0 {
		o.committed = p.Timestamp
	}
	if r.Version >= 2 && r.Version <= 4 && r.RetentionTimeMillis >= 0 {
		now := s.now.UnixMilli()
		o.expires = now + min(r.RetentionTimeMillis, math.MaxInt64-now)
	}
	return o
}

// writeOffsets writes offsets or their deletion, and keeps in mind which are on their way.
func (s *shard) writeOffsets(g *group, by *journal.Producer, rs []record.Record, ps []topic.Partition, done func(code)) {
	for _, p := range ps {
		g.committing[p]++
	}
	s.write(g, by, rs, func(c code) {
		for _, p := range ps {
			if g.committing[p]--; g.committing[p] == 0 {
				delete(g.committing, p)
			}
		}
		done(c)
	})
}

// OffsetFetch, versions 0 to 10. All topics (2), KIP-447 stable offsets (7), KIP-709 several
// groups (8), KIP-848 member epoch (9) and topic IDs (10; the names are given too by then).
// Offsets are visible here only once committed.

// fetcher is the member that asks for offsets; a nil ID is somebody outside.
type fetcher struct {
	id    *string
	epoch int32
}

// mayFetch judges who asks. Only members of the new protocol say who they are and have to
// be right.
func (s *shard) mayFetch(groupID string, who fetcher) code {
	g := s.groups[groupID]
	if g == nil || g.consumers == nil || who.id == nil && who.epoch < 0 {
		return none
	}
	m := g.consumers.members[cloned(who.id)]
	switch {
	case m == nil:
		return unknownMember
	case m.epoch == who.epoch:
		return none
	case m.classic != nil:
		return illegalGeneration
	}
	return staleEpoch
}

// fetch gives the offsets of one group: of the topics asked for, or of all of them. stable
// asks for an error instead of an offset that is about to change (KIP-447).
func (s *shard) fetch(groupID string, topics []kmsg.OffsetFetchRequestGroupTopic, stable bool) []kmsg.OffsetFetchResponseGroupTopic {
	g := s.groups[groupID]
	if g == nil {
		g = &group{}
	}
	one := func(p topic.Partition) kmsg.OffsetFetchResponseGroupTopicPartition {
		if stable && g.unstable(p) {
			rp := fetched(p.Partition, offset{}, false)
			rp.ErrorCode = unstableOffset
			return rp
		}
		o, ok := g.offsets[p]
		return fetched(p.Partition, o, ok)
	}
	if topics == nil {
		return allOffsets(g.offsets, one)
	}
	out := make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(topics))
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, n := range t.Partitions {
			rt.Partitions = append(rt.Partitions, one(topic.Partition{Topic: t.Topic, Partition: n}))
		}
		out = append(out, rt)
	}
	return out
}

func allOffsets(offsets map[topic.Partition]offset, one func(topic.Partition) kmsg.OffsetFetchResponseGroupTopicPartition) []kmsg.OffsetFetchResponseGroupTopic {
	out := []kmsg.OffsetFetchResponseGroupTopic{}
	keys := slices.AppendSeq(make([]topic.Partition, 0, len(offsets)), maps.Keys(offsets))
	slices.SortFunc(keys, comparePartitions)
	for len(keys) > 0 {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = keys[0].Topic
		n := 1
		for n < len(keys) && keys[n].Topic == rt.Topic {
			n++
		}
		rt.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, n)
		for i, p := range keys[:n] {
			rt.Partitions[i] = one(p)
		}
		out, keys = append(out, rt), keys[n:]
	}
	return out
}

func comparePartitions(a, b topic.Partition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

func fetched(n int32, o offset, ok bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	if !ok {
		o = offset{at: -1, epoch: -1}
	}
	said := o.metadata // Why a copy: the answer keeps this string and not the whole offset
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = n, o.at, o.epoch, &said
	return rp
}

// OffsetDelete, version 0 (KIP-496).

// deleteOffsets forgets offsets of topics that no member consumes.
func (s *shard) deleteOffsets(r *kmsg.OffsetDeleteRequest, answer func(*kmsg.OffsetDeleteResponse)) {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	g := s.groups[r.Group]
	var subscribed func(string) bool
	switch {
	case r.Group == "":
		resp.ErrorCode = invalidGroupID
	case g == nil || g.state == dead:
		resp.ErrorCode = groupNotFound
	default:
		if subscribed = g.subscribed(); subscribed == nil {
			resp.ErrorCode = nonEmptyGroup
		}
	}
	if resp.ErrorCode != none {
		s.later(func() { answer(resp) })
		return
	}
	var gone []topic.Partition
	var wait []*code
	for _, t := range r.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		for i, p := range t.Partitions {
			rp := &rt.Partitions[i]
			rp.Partition = p.Partition
			at := topic.Partition{Topic: strings.Clone(t.Topic), Partition: p.Partition}
			switch {
			case subscribed(t.Topic):
				rp.ErrorCode = subscribedToTopic
			case g.has(at):
				gone = append(gone, at)
				wait = append(wait, &rp.ErrorCode)
			case !s.exists(at):
				rp.ErrorCode = unknownPartition
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	once := s.answerOnce(func(c code) {
		for _, w := range wait {
			*w = c
		}
		s.later(func() { answer(resp) })
	})
	if len(gone) == 0 {
		once(none)
		return
	}
	g.lingers = true
	s.tombstones(g, gone, once)
}

// has tells whether the group has an offset there, or will have one in a moment.
func (g *group) has(p topic.Partition) bool {
	_, ok := g.offsets[p]
	return ok || g.unstable(p)
}

// tombstones deletes offsets.
func (s *shard) tombstones(g *group, ps []topic.Partition, done func(code)) {
	rs := make([]record.Record, 0, len(ps))
	for _, p := range ps {
		rs = append(rs, record.Record{Key: offsetKey(g.id, p)})
	}
	s.writeOffsets(g, nil, rs, ps, done)
}

// subscribed gives what tells whether some member consumes a topic; nil when nobody can
// tell, because the members are no consumers. What cannot be read counts as everything.
func (g *group) subscribed() func(string) bool {
	if g.consumers != nil {
		names := g.consumers.subscribed()
		return func(name string) bool { return names[name] }
	}
	if g.state == empty {
		return func(string) bool { return false }
	}
	if g.protocolType != "consumer" {
		return nil
	}
	topics := make(map[string]bool)
	for _, m := range g.members {
		for _, p := range m.protocols {
			names, ok := subscribedTopics(p.metadata)
			if !ok {
				return func(string) bool { return true }
			}
			for _, name := range names {
				topics[name] = true
			}
		}
	}
	return func(name string) bool { return topics[name] }
}
