package group

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Offsets in transactions (KIP-98, 447, 890). They lie in the log as records of the
// producer's transaction and count when its commit marker is there; an abort marker drops
// them. Both markers go through the same journal, so their order with the offsets is the
// log's.

// openTxn is a producer's transaction in the shard's partition.
type openTxn struct {
	epoch  int16
	groups map[string]bool // that have offsets pending in it
	ending int             // markers on their way
}

// guard watches over an offset commit between its transaction's coordinator and the journal.
//
// Invariant: offsets are not written behind the marker of the transaction that they belong
// to (KIP-890): a marker that comes in between makes the guard stale.
type guard struct {
	producer int64
	stale    bool
}

// unstable tells whether the offset of a partition is about to change: a transaction with
// it is open, or a commit on its way.
func (g *group) unstable(p topic.Partition) bool {
	if g.committing[p] > 0 {
		return true
	}
	for _, ps := range g.pending {
		if _, ok := ps[p]; ok {
			return true
		}
	}
	return false
}

// inTransactions gives the partitions that have offsets in open transactions.
func (g *group) inTransactions() map[topic.Partition]bool {
	all := make(map[topic.Partition]bool)
	for _, ps := range g.pending {
		for p := range ps {
			all[p] = true
		}
	}
	return all
}

// unstablePartitions gives all partitions that unstable holds for.
func (g *group) unstablePartitions() map[topic.Partition]bool {
	all := g.inTransactions()
	for p := range g.committing {
		all[p] = true
	}
	return all
}

// dropPending forgets what transactions hold for a partition: its offset was deleted.
func (g *group) dropPending(p topic.Partition) {
	for id, ps := range g.pending {
		if delete(ps, p); len(ps) == 0 {
			delete(g.pending, id)
		}
	}
}

// txn finds or makes what is known of a producer's transaction.
func (s *shard) txn(id int64, epoch int16) *openTxn {
	t := s.open[id]
	if t == nil {
		t = &openTxn{groups: make(map[string]bool)}
		s.open[id] = t
	}
	t.epoch = max(t.epoch, epoch)
	return t
}

// replayPending takes an offset in that counts only after its transaction's commit.
func (s *shard) replayPending(g *group, batch record.Header, p topic.Partition, o offset) {
	s.txn(batch.ProducerID, batch.ProducerEpoch).groups[g.id] = true
	ps := g.pending[batch.ProducerID]
	if ps == nil {
		ps = make(map[topic.Partition]offset)
		g.pending[batch.ProducerID] = ps
	}
	ps[p] = o
}

// ReplayMarker ends a transaction. An offset that was committed later than the one of the
// transaction stays.
func (s *shard) ReplayMarker(m record.Marker) error {
	t := s.open[m.ProducerID]
	if t == nil {
		return nil
	}
	for id := range t.groups {
		g := s.groups[id]
		if g == nil {
			continue
		}
		for p, o := range g.pending[m.ProducerID] {
			if now, ok := g.offsets[p]; m.Commit && (!ok || now.record < o.record) {
				g.offsets[p] = o
			}
		}
		delete(g.pending, m.ProducerID)
		s.forget(g)
	}
	clear(t.groups)
	s.closeTxn(m.ProducerID, t)
	return nil
}

func (s *shard) closeTxn(id int64, t *openTxn) {
	if s.open[id] == t && len(t.groups) == 0 && t.ending == 0 {
		delete(s.open, id)
	}
}

// writeMarker ends a producer's transaction in this partition; done is told when that is
// committed.
func (s *shard) writeMarker(m record.Marker, done func(error)) {
	for g := range s.guards {
		g.stale = g.stale || g.producer == m.ProducerID
	}
	t := s.txn(m.ProducerID, m.ProducerEpoch)
	t.ending++
	ended := func(err error) {
		t.ending--
		s.closeTxn(m.ProducerID, t)
		s.later(func() { done(err) })
	}
	if err := s.append(journal.Entry{Marker: &m, Done: ended}); err != nil {
		ended(err)
	}
}

// Verify asks the coordinator of a transaction whether the partition of __consumer_offsets
// belongs to it, or to add it; answer is called once, perhaps at once, with a Kafka code.
type Verify func(partition topic.Partition, answer func(code int16))

// mostVerifications bounds how often an offset commit is verified anew because its
// transaction ended meanwhile.
const mostVerifications = 3

// TxnOffsetCommit writes offsets down in a transaction; the reply comes when they are
// committed to the log, or with an error. They count when the transaction does. r must stay
// as it is until then.
func (c *Coordinator) TxnOffsetCommit(r *kmsg.TxnOffsetCommitRequest, verify Verify, reply func(*kmsg.TxnOffsetCommitResponse)) {
	why := invalidGroupID
	if r.Group != "" {
		why = c.do(r.Group, func(s *shard) { s.verifyCommit(r, verify, reply, mostVerifications) })
	}
	if why != none {
		reply(refusedTxnOffsets(r, why))
	}
}

// verifyCommit writes offsets of a transaction after its coordinator said that it is open,
// unless that is known from its offsets before these.
func (s *shard) verifyCommit(r *kmsg.TxnOffsetCommitRequest, verify Verify, reply func(*kmsg.TxnOffsetCommitResponse), tries int) {
	if t := s.open[r.ProducerID]; t != nil && t.epoch == r.ProducerEpoch && len(t.groups) > 0 && t.ending == 0 {
		s.commitInTxn(r, reply)
		return
	}
	watch := s.guard(r.ProducerID)
	verdict := func(verdict code) {
		why := s.reenter(func(s *shard) {
			stale := s.unguard(watch)
			switch {
			case verdict == none && stale && tries > 1:
				s.verifyCommit(r, verify, reply, tries-1)
				return
			case verdict == none && stale:
				verdict = notAvailable
			}
			if verdict != none {
				s.later(func() { reply(refusedTxnOffsets(r, verdict)) })
				return
			}
			s.commitInTxn(r, reply)
		})
		if why != none {
			reply(refusedTxnOffsets(r, why))
		}
	}
	s.later(func() {
		verify(topic.Partition{Topic: topic.ConsumerOffsets, Partition: s.partition}, verdict)
	})
}

// commitInTxn writes offsets of a transaction whose coordinator knows of it.
func (s *shard) commitInTxn(r *kmsg.TxnOffsetCommitRequest, reply func(*kmsg.TxnOffsetCommitResponse)) {
	plain := plainCommit(r)
	by := &journal.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}
	commit := func(g *group, may func(topic.Partition) code) {
		s.commitAs(g, by, plain, may, func(resp *kmsg.OffsetCommitResponse) { reply(txnOffsetsResponse(resp)) })
	}
	all := func(c code) func(topic.Partition) code { return func(topic.Partition) code { return c } }
	g := s.groups[r.Group]
	if g == nil || !g.ofConsumers() {
		commit(g, all(s.mayCommitInTxn(g, plain)))
		return
	}
	watch := s.guard(r.ProducerID)
	late := func(c code) { s.unguard(watch); commit(g, all(c)) }
	s.turn(g, late, func(d *draft) func(code) {
		switch {
		case s.unguard(watch):
			commit(g, all(notAvailable))
		case d.next == nil && !d.over:
			now := s.groups[plain.Group]
			commit(now, all(s.mayCommitInTxn(now, plain)))
		default:
			commit(g, d.mayCommitInTxn(plain))
		}
		return func(code) {}
	})
}

// guard begins to watch for the end of a producer's transaction.
func (s *shard) guard(producer int64) *guard {
	watch := &guard{producer: producer}
	s.guards[watch] = true
	return watch
}

// unguard tells whether the transaction may have ended since.
func (s *shard) unguard(watch *guard) (stale bool) {
	stale = watch.stale || !s.guards[watch]
	delete(s.guards, watch)
	return stale
}

// mayCommitInTxn judges who commits in a transaction. The member is looked at only if the
// client says who it is: before KIP-447 the transactional ID alone fenced.
func (s *shard) mayCommitInTxn(g *group, r *kmsg.OffsetCommitRequest) code {
	nobody := r.Generation < 0 && r.MemberID == "" && r.InstanceID == nil
	switch {
	case g == nil && r.Generation < 0:
		return none
	case g == nil:
		return illegalGeneration
	case g.state == dead:
		return notAvailable
	case nobody, r.Generation < 0 && g.state == empty:
		return none
	}
	if _, c := g.member(r.MemberID, r.InstanceID); c != none {
		return c
	}
	if r.Generation != g.generation {
		return illegalGeneration
	}
	return none
}

// mayCommitInTxn is the same for a group of the new protocol.
func (d *draft) mayCommitInTxn(r *kmsg.OffsetCommitRequest) func(topic.Partition) code {
	if r.Generation < 0 && r.MemberID == "" && r.InstanceID == nil {
		return func(topic.Partition) code { return none }
	}
	may := d.mayCommit(r)
	return func(p topic.Partition) code {
		if c := may(p); c != staleEpoch {
			return c
		}
		return illegalGeneration // the only one that the clients of this API know
	}
}

// plainCommit gives the same offsets as the request of a commit outside of transactions.
func plainCommit(r *kmsg.TxnOffsetCommitRequest) *kmsg.OffsetCommitRequest {
	out := kmsg.NewPtrOffsetCommitRequest()
	out.Version = 9 // Why: the version tells which fields count
	out.Group, out.Generation = strings.Clone(r.Group), -1
	if r.Version >= 3 {
		out.Generation, out.MemberID, out.InstanceID = r.Generation, r.MemberID, r.InstanceID
	}
	for _, t := range r.Topics {
		ot := kmsg.NewOffsetCommitRequestTopic()
		ot.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewOffsetCommitRequestTopicPartition()
			op.Partition, op.Offset, op.LeaderEpoch, op.Metadata = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata
			if r.Version < 2 {
				op.LeaderEpoch = -1
			}
			ot.Partitions = append(ot.Partitions, op)
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}

func txnOffsetsResponse(r *kmsg.OffsetCommitResponse) *kmsg.TxnOffsetCommitResponse {
	out := kmsg.NewPtrTxnOffsetCommitResponse()
	for _, t := range r.Topics {
		ot := kmsg.NewTxnOffsetCommitResponseTopic()
		ot.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			op.Partition, op.ErrorCode = p.Partition, p.ErrorCode
			ot.Partitions = append(ot.Partitions, op)
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}

// refusedTxnOffsets tells all partitions of a request the same.
func refusedTxnOffsets(r *kmsg.TxnOffsetCommitRequest, why code) *kmsg.TxnOffsetCommitResponse {
	out := kmsg.NewPtrTxnOffsetCommitResponse()
	for _, t := range r.Topics {
		ot := kmsg.NewTxnOffsetCommitResponseTopic()
		ot.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			op.Partition, op.ErrorCode = p.Partition, why
			ot.Partitions = append(ot.Partitions, op)
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}

// errLoading is what a marker meets while the partition's log is being replayed.
var errLoading = errors.New("the groups of the partition are being loaded")

// WriteMarker ends a producer's transaction in a partition of __consumer_offsets.
//
// Errors: replica.ErrNotLeader; while loading one that passes; the journal's; ctx's, after
// which the marker may still be written.
func (c *Coordinator) WriteMarker(ctx context.Context, partition int32, m record.Marker) error {
	done := make(chan error, 1)
	h := c.hosts.At(partition)
	if h == nil {
		return replica.ErrNotLeader
	}
	switch h.Do(func(s *shard) { s.writeMarker(m, func(err error) { done <- err }) }) {
	case journal.Loading:
		return errLoading
	case journal.Elsewhere:
		return replica.ErrNotLeader
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
