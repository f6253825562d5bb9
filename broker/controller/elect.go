package controller

import (
	"context"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// ElectLeaders has the preferred replica (the first one) of each partition lead, or,
// unclean, any replica of a partition that nobody leads; errors by position.
//
// Errors: Refusal ELECTION_NOT_NEEDED where it is so already.
func (c *Controller) ElectLeaders(ctx context.Context, ps []topic.Partition, unclean bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(ps), err)
	}
	defer end()
	wishes := make([]wish, len(ps))
	seen := make(map[topic.Partition]bool, len(ps))
	for i, p := range ps {
		if seen[p] {
			wishes[i].err = refuse(codeInvalidRequest, "partition %d of topic %q stands in the request more than once; name it once", p.Partition, p.Topic)
			continue
		}
		seen[p] = true
		wishes[i].records, wishes[i].err = d.elect(p, unclean)
	}
	c.commit(ctx, wishes)
	return errorsOf(wishes)
}

// partition finds one partition of the image.
func (d *decision) partition(p topic.Partition) (*metadata.Topic, *metadata.Partition, error) {
	t := d.img.Topic(p.Topic)
	if t == nil {
		return nil, nil, refuse(codeUnknownTopicOrPartition, "there is no topic %q", p.Topic)
	}
	if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
		return nil, nil, refuse(codeUnknownTopicOrPartition, "topic %q has the partitions 0 to %d, there is no partition %d", p.Topic, len(t.Partitions)-1, p.Partition)
	}
	return t, &t.Partitions[p.Partition], nil
}

// elect decides on one partition.
func (d *decision) elect(name topic.Partition, unclean bool) ([]metadata.Record, error) {
	t, p, err := d.partition(name)
	if err != nil {
		return nil, err
	}
	s := d.situation(t, name.Partition, asNow)
	leads := p.Leader != metadata.NoBroker && s.active(p.Leader)
	s.unclean, s.prefer = unclean, !unclean
	switch {
	case unclean && leads:
		return nil, refuse(codeElectionNotNeeded, "partition %d of topic %q is led by broker %d already", name.Partition, name.Topic, p.Leader)
	case !unclean && leads && p.Leader == p.Replicas[0]:
		return nil, refuse(codeElectionNotNeeded, "partition %d of topic %q is led by its preferred replica, broker %d, already", name.Partition, name.Topic, p.Leader)
	}
	next, _ := settle(*p, p.ISR, s)
	switch {
	case unclean && next.Leader == metadata.NoBroker:
		return nil, refuse(codeEligibleLeadersNotAvailable, "partition %d of topic %q has no replica on a broker in service: %v", name.Partition, name.Topic, p.Replicas)
	case !unclean && next.Leader != p.Replicas[0]:
		return nil, refuse(codePreferredLeaderNotAvailable, "the preferred replica of partition %d of topic %q, broker %d, is not in sync or not in service", name.Partition, name.Topic, p.Replicas[0])
	}
	return []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: name.Partition, State: next}}, nil
}
