package controller

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Reassignment wishes the replicas of one partition on these brokers, the preferred
// leader first; nil takes a wish back whose moves are still running (KIP-455).
type Reassignment struct {
	Partition topic.Partition
	Replicas  []metadata.BrokerID
}

// Reassign changes where partitions have their replicas; errors by position. A
// partition whose replicas only change their order is done at once. FixedFactor
// refuses a change of their number (KIP-860).
//
// Errors: Refusal.
func (c *Controller) Reassign(ctx context.Context, rs []Reassignment, fixedFactor bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(rs), err)
	}
	defer end()
	wishes := make([]wish, len(rs))
	seen := make(map[topic.Partition]bool, len(rs))
	for i, r := range rs {
		if seen[r.Partition] {
			wishes[i].err = refuse(codeInvalidRequest, "partition %d of topic %q stands in the request more than once; name it once", r.Partition.Partition, r.Partition.Topic)
			continue
		}
		seen[r.Partition] = true
		wishes[i].records, wishes[i].err = d.reassign(r, fixedFactor)
	}
	c.commit(ctx, wishes)
	return errorsOf(wishes)
}

// reassign decides on one partition. Its new replicas are added at once, those that go
// are removed when the new ones are in sync (R15): settle sees to that.
func (d *decision) reassign(r Reassignment, fixedFactor bool) ([]metadata.Record, error) {
	t, p, err := d.partition(r.Partition)
	if err != nil {
		return nil, err
	}
	number, name := r.Partition.Partition, r.Partition.Topic
	next, isr := moving{*p}, p.ISR
	original := without(p.Replicas, p.Adding...)
	s := d.situation(t, number, asNow)
	if r.Replicas == nil {
		if len(p.Adding)+len(p.Removing) == 0 {
			return nil, refuse(codeNoReassignmentInProgress, "partition %d of topic %q is not being moved", number, name)
		}
		isr = without(p.ISR, p.Adding...)
		if !slices.ContainsFunc(isr, s.active) {
			return nil, refuse(codeInvalidReplicaAssignment, "the move of partition %d of topic %q cannot be taken back: only its new replicas are in sync", number, name)
		}
		next.place(original)
		next.Adding, next.Removing = nil, nil
	} else {
		if err := d.checkMove(r, original, fixedFactor); err != nil {
			return nil, err
		}
		going := only(p.Replicas, func(id metadata.BrokerID) bool {
			begun := slices.Contains(p.Adding, id) && !slices.Contains(p.ISR, id) // by an earlier wish: nobody needs it
			return !begun && !slices.Contains(r.Replicas, id)
		})
		next.place(slices.Concat(r.Replicas, going))
		next.Adding, next.Removing = without(r.Replicas, original...), going
		if slices.Equal(next.Replicas, p.Replicas) && slices.Equal(next.Adding, p.Adding) && slices.Equal(next.Removing, p.Removing) {
			return nil, nil
		}
	}
	state, changed := settle(next.Partition, isr, s)
	if !changed {
		state.PartitionEpoch++
	}
	return []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: number, State: state}}, nil
}

// beingMoved gives the first partition of a topic whose replicas are on their way, -1 if there
// is none. Such a topic is neither deleted nor grown: a plan is being carried out for it.
func beingMoved(t *metadata.Topic) int {
	return slices.IndexFunc(t.Partitions, func(p metadata.Partition) bool { return len(p.Adding)+len(p.Removing) > 0 })
}

// checkMove tells why replicas cannot be what is wished. Original are those before any move.
func (d *decision) checkMove(r Reassignment, original []metadata.BrokerID, fixedFactor bool) error {
	number, name := r.Partition.Partition, r.Partition.Topic
	switch {
	case len(r.Replicas) == 0:
		return refuse(codeInvalidReplicaAssignment, "partition %d of topic %q needs a replica; name at least one broker", number, name)
	case fixedFactor && len(r.Replicas) != len(original):
		return refuse(codeInvalidReplicationFactor, "partition %d of topic %q has %d replicas, the request has %d and forbids to change their number", number, name, len(original), len(r.Replicas))
	}
	for n, id := range r.Replicas {
		if slices.Contains(r.Replicas[:n], id) {
			return refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: broker %d is named twice", number, name, id)
		}
		if d.img.Broker(id) == nil {
			return refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: broker %d is not registered; registered are %v", number, name, id, d.brokerIDs())
		}
	}
	return nil
}
