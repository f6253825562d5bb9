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
// Errors: Refusal, also where replicas would have to be made or moved: brokers cannot
// copy from each other yet.
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

// reassign decides on one partition.
func (d *decision) reassign(r Reassignment, fixedFactor bool) ([]metadata.Record, error) {
	t, p, err := d.partition(r.Partition)
	if err != nil {
		return nil, err
	}
	number, name := r.Partition.Partition, r.Partition.Topic
	switch {
	case r.Replicas == nil && len(p.Adding)+len(p.Removing) == 0:
		return nil, refuse(codeNoReassignmentInProgress, "partition %d of topic %q is not being moved", number, name)
	case r.Replicas == nil:
		return nil, refuse(codeInvalidRequest, "the move of partition %d of topic %q cannot be taken back", number, name)
	case len(r.Replicas) == 0:
		return nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q needs a replica; name at least one broker", number, name)
	case fixedFactor && len(r.Replicas) != len(p.Replicas):
		return nil, refuse(codeInvalidReplicationFactor, "partition %d of topic %q has %d replicas, the request has %d and forbids to change their number", number, name, len(p.Replicas), len(r.Replicas))
	}
	for n, id := range r.Replicas {
		if slices.Contains(r.Replicas[:n], id) {
			return nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: broker %d is named twice", number, name, id)
		}
		if d.img.Broker(id) == nil {
			return nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: broker %d is not registered; registered are %v", number, name, id, d.brokerIDs())
		}
	}
	if slices.Equal(r.Replicas, p.Replicas) {
		return nil, nil
	}
	if !sameBrokers(r.Replicas, p.Replicas) {
		return nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q has its replicas on brokers %v and cannot be moved to %v: copying between brokers is not served", number, name, p.Replicas, r.Replicas)
	}
	next := *p
	next.Replicas = slices.Clone(r.Replicas)
	next.Dirs = nil
	for _, id := range next.Replicas {
		if len(p.Dirs) > 0 { // each replica keeps its directory
			next.Dirs = append(next.Dirs, p.Dirs[slices.Index(p.Replicas, id)])
		}
	}
	next.PartitionEpoch++
	return []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: number, State: next}}, nil
}

func sameBrokers(a, b []metadata.BrokerID) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
