package controller

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Member is one replica that a leader proposes as in sync.
type Member struct {
	ID    metadata.BrokerID
	Epoch int64 // of the registration that the leader saw it under; NoEpoch: it does not say
}

// ISRChange is what a leader proposes for one partition (KIP-497). The epochs are those
// of the state that it was decided on.
type ISRChange struct {
	Topic          topic.ID
	Partition      int32
	LeaderEpoch    record.Epoch
	PartitionEpoch int32
	ISR            []Member
}

// ISRChanged is what became of an ISRChange: the partition's new state, or why it
// stays as it is.
type ISRChanged struct {
	State metadata.Partition
	Err   error
}

// AlterISR takes what a broker proposes for partitions that it leads; what became of
// each is at its position. One that is taken moves the partition epoch also where nothing
// else changes.
//
// Errors: Refusal of all if the broker is not registered with that epoch; of one, if the
// leader decided on another state than there is (FENCED_LEADER_EPOCH,
// INVALID_UPDATE_VERSION), is ahead of this controller (NOT_CONTROLLER), or a member is
// not in service under the epoch given (INELIGIBLE_REPLICA, KIP-841, KIP-903).
func (c *Controller) AlterISR(ctx context.Context, from metadata.BrokerID, epoch int64, changes []ISRChange) ([]ISRChanged, error) {
	d, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := d.registered(from, epoch); err != nil {
		return nil, err
	}
	done := make([]ISRChanged, len(changes))
	wishes := make([]wish, len(changes))
	seen := make(map[place]bool, len(changes))
	for i, change := range changes {
		at := place{change.Topic, change.Partition}
		if seen[at] {
			wishes[i].err = refuse(codeInvalidRequest, "partition %d of topic ID %v stands in the request more than once; name it once", at.number, at.topic)
			continue
		}
		seen[at] = true
		done[i].State, wishes[i] = d.alterISR(from, change)
	}
	c.commit(ctx, wishes)
	for i := range done {
		done[i].Err = wishes[i].err
		if now := done[i].State; done[i].Err == nil && now.LeaderEpoch != changes[i].LeaderEpoch && now.Leader != from {
			done[i].Err = refuse(codeNewLeaderElected, "partition %d of topic ID %v is led by broker %d from now on", changes[i].Partition, changes[i].Topic, now.Leader)
		}
	}
	return done, nil
}

func (d *decision) alterISR(from metadata.BrokerID, c ISRChange) (metadata.Partition, wish) {
	t := d.img.TopicByID(c.Topic)
	if t == nil {
		return metadata.Partition{}, wish{err: refuse(codeUnknownTopicID, "there is no topic with ID %v", c.Topic)}
	}
	if c.Partition < 0 || int(c.Partition) >= len(t.Partitions) {
		return metadata.Partition{}, wish{err: refuse(codeUnknownTopicOrPartition, "topic %q has no partition %d", t.Name, c.Partition)}
	}
	p := t.Partitions[c.Partition]
	isr := make([]metadata.BrokerID, len(c.ISR))
	for i, m := range c.ISR {
		isr[i] = m.ID
	}
	s := d.situation(t, c.Partition, asNow)
	if err := d.checkISR(from, t.Name, &p, c, isr, s); err != nil {
		return p, wish{err: err}
	}
	next, changed := settle(p, isr, s)
	if !changed {
		// Why a change all the same: by its epoch the leader knows that no earlier proposal
		// of it is still on its way.
		next.PartitionEpoch++
	}
	return next, wish{records: []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: c.Partition, State: next}}}
}

// checkISR tells why a proposal cannot be taken.
func (d *decision) checkISR(from metadata.BrokerID, name string, p *metadata.Partition, c ISRChange, isr []metadata.BrokerID, s situation) error {
	at := func(code int16, format string, args ...any) error {
		return refuse(code, "partition %d of topic %q: "+format, append([]any{c.Partition, name}, args...)...)
	}
	switch {
	// Why this code: the leader saw a commit that this node has not seen, so this is not
	// the controller that made it.
	case c.LeaderEpoch > p.LeaderEpoch || c.PartitionEpoch > p.PartitionEpoch:
		return at(codeNotController, "leader epoch %d and partition epoch %d are newer than %d and %d, which this controller knows", c.LeaderEpoch, c.PartitionEpoch, p.LeaderEpoch, p.PartitionEpoch)
	case c.LeaderEpoch < p.LeaderEpoch:
		return at(codeFencedLeaderEpoch, "leader epoch %d is over, the present one is %d", c.LeaderEpoch, p.LeaderEpoch)
	case p.Leader != from:
		return at(codeInvalidRequest, "broker %d does not lead it, broker %d does", from, p.Leader)
	case c.PartitionEpoch < p.PartitionEpoch:
		return at(codeInvalidUpdateVersion, "partition epoch %d is over, the present one is %d", c.PartitionEpoch, p.PartitionEpoch)
	case !slices.Contains(isr, from):
		return at(codeInvalidRequest, "its leader, broker %d, is missing in the proposed ISR %v", from, isr)
	}
	for i, m := range c.ISR {
		b := d.img.Broker(m.ID)
		switch {
		case slices.Contains(isr[:i], m.ID):
			return at(codeInvalidRequest, "broker %d is proposed twice", m.ID)
		case !slices.Contains(p.Replicas, m.ID):
			return at(codeInvalidRequest, "broker %d is proposed as in sync and has no replica", m.ID)
		case !s.active(m.ID):
			return at(codeIneligibleReplica, "broker %d is not in service or about to stop", m.ID)
		case m.Epoch != NoEpoch && m.Epoch != b.Epoch:
			return at(codeIneligibleReplica, "broker %d is registered with epoch %d, not %d: it has started anew", m.ID, b.Epoch, m.Epoch)
		}
	}
	return nil
}
