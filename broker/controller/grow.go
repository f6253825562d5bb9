package controller

import (
	"context"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Growth is one CreatePartitions wish: Count is the new total. Assignment, if
// set, gives the replicas of each new partition.
type Growth struct {
	Topic      string
	Count      int32
	Assignment [][]metadata.BrokerID
}

// CreatePartitions gives topics more partitions; errors by position.
func (c *Controller) CreatePartitions(ctx context.Context, gs []Growth, validateOnly bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(gs), err)
	}
	defer end()
	wishes := d.createPartitions(gs)
	if !validateOnly {
		c.commit(ctx, wishes)
	}
	return errorsOf(wishes)
}

func (d *decision) createPartitions(gs []Growth) []wish {
	wishes := make([]wish, len(gs))
	names := make(map[string]int)
	for _, g := range gs {
		names[g.Topic]++
	}
	for i, g := range gs {
		if names[g.Topic] > 1 {
			wishes[i].err = refuse(codeInvalidRequest, "topic %q stands %d times in the request; name it once", g.Topic, names[g.Topic])
			continue
		}
		wishes[i].records, wishes[i].err = d.grow(g)
		if wishes[i].err == nil {
			d.countPartitions(g.Topic, len(wishes[i].records))
		}
	}
	return wishes
}

// grow decides on one topic.
func (d *decision) grow(g Growth) ([]metadata.Record, error) {
	t := d.img.Topic(g.Topic)
	if t == nil {
		return nil, refuse(codeUnknownTopicOrPartition, "there is no topic %q", g.Topic)
	}
	have := len(t.Partitions)
	more := int(g.Count) - have
	switch {
	case topic.IsInternal(g.Topic):
		return nil, refuse(codeInvalidRequest, "topic %q is internal and cannot grow: groups would be looked for on other partitions than they are stored on", g.Topic)
	case more == 0:
		return nil, refuse(codeInvalidPartitions, "topic %q has %d partitions already; ask for more than that", g.Topic, have)
	case more < 0:
		return nil, refuse(codeInvalidPartitions, "topic %q has %d partitions, %d is fewer: partitions can only be added; ask for more than %d", g.Topic, have, g.Count, have)
	case int(g.Count) > maxTopicPartitions:
		return nil, refuse(codeInvalidPartitions, "topic %q cannot have %d partitions; %d is the limit", g.Topic, g.Count, maxTopicPartitions)
	}
	if n := beingMoved(t); n >= 0 {
		return nil, refuse(codeReassignmentInProgress, "topic %q cannot grow while partition %d is being moved; wait or cancel the move", g.Topic, n)
	}
	placed, err := d.placeGrowth(t, g, more)
	if err != nil {
		return nil, err
	}
	if err := d.checkLimit(g.Topic, more); err != nil {
		return nil, err
	}
	var records []metadata.Record
	for i, replicas := range placed {
		p, err := d.newPartition(replicas)
		if err != nil {
			return nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: %v", have+i, g.Topic, err)
		}
		records = append(records, &metadata.PartitionCreated{Topic: t.ID, Number: int32(have + i), State: p})
	}
	return records, nil
}

func (d *decision) placeGrowth(t *metadata.Topic, g Growth, more int) ([][]metadata.BrokerID, error) {
	replicas := 1
	if len(t.Partitions) > 0 {
		replicas = len(t.Partitions[0].Replicas)
	}
	if g.Assignment == nil {
		return d.place(t.Name, more, replicas)
	}
	if len(g.Assignment) != more {
		return nil, refuse(codeInvalidReplicaAssignment,
			"topic %q grows from %d to %d partitions but %d are assigned; assign %d", t.Name, len(t.Partitions), g.Count, len(g.Assignment), more)
	}
	return g.Assignment, d.checkAssignment(t.Name, len(t.Partitions), g.Assignment, replicas)
}
