package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// judge holds what the simulation has seen against what must hold at every moment.
type judge struct {
	w       *world
	parts   []*judged
	judged  int // of w.mu.acked
	settled []ackedRecord
}

// judged is what is known of one partition for good.
type judged struct {
	committed []written // of every offset that lay below some replica's high watermark
	leaders   map[record.Epoch]metadata.BrokerID
	latest    record.Offset // the largest "latest offset" that any leader gave, and its epoch
	epoch     record.Epoch
	seen      map[metadata.BrokerID]*seen
}

// written is one record, with the epoch in which it was written.
type written struct {
	epoch record.Epoch
	value string
}

// seen is one replica in one life.
type seen struct {
	inc    int
	of     *Partition // another one after it began anew
	hw     record.Offset
	leader record.Epoch // it was looked at as the leader of this epoch
}

func newJudge(w *world) *judge {
	j := &judge{w: w}
	for range w.parts {
		j.parts = append(j.parts, &judged{leaders: make(map[record.Epoch]metadata.BrokerID), epoch: -1, seen: make(map[metadata.BrokerID]*seen)})
	}
	return j
}

// look checks everything. Requires: nothing moves.
func (j *judge) look() error {
	for n := range j.parts {
		for _, node := range j.w.nodes {
			set, inc := node.now()
			if set == nil {
				continue
			}
			p, err := set.Partition(nameOf(int32(n)))
			if err != nil {
				continue // it has not applied an image yet
			}
			if err := j.replica(n, node.id, inc, p); err != nil {
				return fmt.Errorf("partition %d on node %d: %w", n, node.id, err)
			}
		}
	}
	return j.acked()
}

// replica looks at one copy of a partition.
func (j *judge) replica(n int, id metadata.BrokerID, inc int, p *Partition) error {
	part := j.parts[n]
	s := part.seen[id]
	if s == nil || s.inc != inc || s.of != p {
		s = &seen{inc: inc, of: p, hw: -1, leader: -1}
		part.seen[id] = s
	}
	hw := p.HighWatermark()
	if hw < s.hw {
		return fmt.Errorf("the high watermark went back from %d to %d", s.hw, hw)
	}
	from := max(s.hw, 0)
	s.hw = hw
	got, err := entries(p, from, hw)
	if errors.Is(err, storage.ErrOffline) {
		return nil // its damage was found: it serves nobody
	}
	if err != nil {
		return err
	}
	for i, e := range got {
		o := int(from) + i
		if o < len(part.committed) {
			if part.committed[o] != e {
				return fmt.Errorf("offset %d, below the high watermark %d, is %v here and %v elsewhere", o, hw, e, part.committed[o])
			}
			continue
		}
		part.committed = append(part.committed, e)
	}
	return j.leader(n, id, p, s)
}

// leader looks at a replica that leads.
func (j *judge) leader(n int, id metadata.BrokerID, p *Partition, s *seen) error {
	part := j.parts[n]
	_, epoch := p.Leader()
	if p.CheckLeader(-1) != nil {
		return nil
	}
	if other, ok := part.leaders[epoch]; ok && other != id {
		return fmt.Errorf("it leads in epoch %d, and so does node %d", epoch, other)
	}
	part.leaders[epoch] = id
	if latest, _, err := p.Latest(false); err == nil {
		if epoch >= part.epoch && latest < part.latest {
			return fmt.Errorf("in epoch %d the latest offset is %d, after it was %d in epoch %d", epoch, latest, part.latest, part.epoch)
		}
		if epoch >= part.epoch {
			part.latest, part.epoch = latest, epoch
		}
	}
	now := j.w.control.part(n)
	if now.Leader != id || now.LeaderEpoch != epoch || s.leader == epoch {
		return nil
	}
	// A new leader has everything that was ever committed.
	s.leader = epoch
	if p.End() < record.Offset(len(part.committed)) {
		return fmt.Errorf("it leads in epoch %d with a log that ends at %d; committed is up to %d", epoch, p.End(), len(part.committed))
	}
	got, err := entries(p, 0, record.Offset(len(part.committed)))
	if errors.Is(err, storage.ErrOffline) {
		return nil
	}
	if err != nil {
		return err
	}
	for o, e := range got {
		if part.committed[o] != e {
			return fmt.Errorf("it leads in epoch %d with %v at offset %d, where %v is committed", epoch, e, o, part.committed[o])
		}
	}
	return nil
}

// entries reads records; each batch has one. Why checked: a byte may be changed after it was
// read for the first time, and who reads it again must not see it.
func entries(p *Partition, from, to record.Offset) (out []written, err error) {
	for at := from; at < to; {
		s, err := p.Log().ReadChecked(at, 1<<20, to, true)
		if err != nil {
			return nil, fmt.Errorf("cannot read offset %d of a log from %d to %d: %w", at, p.LogStart(), p.End(), err)
		}
		b := make([]byte, s.Len())
		_, _ = s.ReadAt(b, 0)
		s.Release()
		if len(b) == 0 {
			return nil, fmt.Errorf("nothing at offset %d of a log from %d to %d", at, p.LogStart(), p.End())
		}
		for len(b) > 0 {
			h, err := record.Verify(b)
			if err != nil {
				return nil, err
			}
			if h.Base != at {
				return nil, fmt.Errorf("the batch at offset %d says %d", at, h.Base)
			}
			err = record.Each(b[:h.Size()], func(r record.Record) error {
				out = append(out, written{h.LeaderEpoch, string(r.Value)})
				return nil
			})
			if err != nil {
				return nil, err
			}
			b, at = b[h.Size():], h.Last()+1
		}
	}
	return out, nil
}

// acked compares what producers were promised with what is committed.
func (j *judge) acked() error {
	j.w.mu.Lock()
	news := slices.Clone(j.w.mu.acked[j.judged:])
	j.judged = len(j.w.mu.acked)
	j.w.mu.Unlock()
	j.settled = append(j.settled, news...)
	for _, a := range news {
		if c := j.parts[a.part].committed; int(a.at) < len(c) && c[a.at].value != a.value {
			return fmt.Errorf("partition %d: %q was acknowledged at offset %d, committed is %v", a.part, a.value, a.at, c[a.at])
		}
	}
	return nil
}

// end checks a cluster that has had time to heal: nothing acknowledged is lost, and all
// replicas are the same.
func (j *judge) end() error {
	if err := j.look(); err != nil {
		return err
	}
	slices.SortFunc(j.settled, byOffset)
	for _, a := range j.settled {
		c := j.parts[a.part].committed
		if int(a.at) >= len(c) || c[a.at].value != a.value {
			return fmt.Errorf("partition %d: %q was acknowledged at offset %d and is lost; committed is up to %d", a.part, a.value, a.at, len(c))
		}
	}
	for n := range j.parts {
		var first []written
		for i, node := range j.w.nodes {
			set, _ := node.now()
			p, err := set.Partition(nameOf(int32(n)))
			if err != nil {
				return fmt.Errorf("partition %d on node %d after the healing: %w", n, node.id, err)
			}
			all, err := entries(p, 0, p.End())
			if err != nil {
				return fmt.Errorf("partition %d on node %d after the healing: %w", n, node.id, err)
			}
			if i == 0 {
				first = all
			}
			if !slices.Equal(first, all) || p.HighWatermark() != p.End() {
				return fmt.Errorf("partition %d after the healing: node %d ends at %d, committed %d, node %d ends at %d", n, node.id, p.End(), p.HighWatermark(), j.w.nodes[0].id, len(first))
			}
		}
	}
	return nil
}
