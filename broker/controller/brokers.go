package controller

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// producerBlock is how many producer IDs a broker gets at a time.
// Source: KIP-730.
const producerBlock = 1000

// ProducerIDs hands this broker a block [first, first+n).
func (c *Controller) ProducerIDs(ctx context.Context) (first int64, n int, err error) {
	d, end, err := c.begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	first = d.img.NextProducerID()
	_, err = c.quorum.Propose(ctx, []metadata.Record{&metadata.ProducerBlock{First: first, Count: producerBlock}})
	return first, producerBlock, err
}

// RegisterBroker registers a broker, out of service (fenced), and gives its epoch
// (R10). A broker that registers again, after a restart, leads its partitions in
// new leader epochs: it may have lost what it had not flushed.
//
// Errors: Refusal if the ID is not one.
func (c *Controller) RegisterBroker(ctx context.Context, b metadata.Broker) (epoch int64, err error) {
	d, end, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	records, err := d.registerBroker(b)
	if err != nil {
		return 0, err
	}
	index, err := c.quorum.Propose(ctx, records)
	if err != nil {
		return 0, err
	}
	return int64(index), nil
}

func (d *decision) registerBroker(b metadata.Broker) ([]metadata.Record, error) {
	if b.ID < 0 {
		return nil, refuse(codeInvalidRequest, "%d is no broker ID; want 0 or more", b.ID)
	}
	b.Epoch, b.Fenced = metadata.EpochFromIndex, true
	records := []metadata.Record{&metadata.BrokerRegistered{Broker: b}}
	if d.img.Broker(b.ID) != nil {
		records = append(records, &metadata.LeadershipRenewed{ID: b.ID})
	}
	return records, nil
}

// UnfenceBroker puts a registered broker into service. Epoch is what
// RegisterBroker gave.
func (c *Controller) UnfenceBroker(ctx context.Context, id metadata.BrokerID, epoch int64) error {
	return c.setFenced(ctx, id, epoch, false)
}

// FenceBroker takes a broker out of service before it stops.
func (c *Controller) FenceBroker(ctx context.Context, id metadata.BrokerID, epoch int64) error {
	return c.setFenced(ctx, id, epoch, true)
}

func (c *Controller) setFenced(ctx context.Context, id metadata.BrokerID, epoch int64, fenced bool) error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	records, err := d.setFenced(id, epoch, fenced)
	if err != nil || len(records) == 0 {
		return err
	}
	_, err = c.quorum.Propose(ctx, records)
	return err
}

func (d *decision) setFenced(id metadata.BrokerID, epoch int64, fenced bool) ([]metadata.Record, error) {
	b := d.img.Broker(id)
	switch {
	case b == nil:
		return nil, refuse(codeBrokerIDNotRegistered, "broker %d is not registered; register it first", id)
	case b.Epoch != epoch:
		return nil, refuse(codeStaleBrokerEpoch, "broker %d is registered with epoch %d, not %d; register it again", id, b.Epoch, epoch)
	case b.Fenced == fenced:
		return nil, nil
	case fenced:
		return []metadata.Record{&metadata.BrokerFenced{ID: id, Epoch: epoch}}, nil
	}
	return []metadata.Record{&metadata.BrokerUnfenced{ID: id, Epoch: epoch}}, nil
}

// UnregisterBroker forgets a broker that is gone for good (KIP-631).
//
// Errors: Refusal if it is not registered, still in service, or has replicas.
func (c *Controller) UnregisterBroker(ctx context.Context, id metadata.BrokerID) error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	records, err := d.unregisterBroker(id)
	if err != nil {
		return err
	}
	_, err = c.quorum.Propose(ctx, records)
	return err
}

func (d *decision) unregisterBroker(id metadata.BrokerID) ([]metadata.Record, error) {
	b := d.img.Broker(id)
	switch {
	case b == nil:
		return nil, refuse(codeBrokerIDNotRegistered, "broker %d is not registered; registered are %v", id, d.brokerIDs())
	case !b.Fenced:
		return nil, refuse(codeInvalidRequest, "broker %d is in service; stop it first", id)
	}
	for _, t := range d.img.Topics() {
		for n := range t.Partitions {
			if slices.Contains(t.Partitions[n].Replicas, id) {
				return nil, refuse(codeInvalidRequest, "broker %d holds a replica of partition %d of topic %q; move or delete it first", id, n, t.Name)
			}
		}
	}
	return []metadata.Record{&metadata.BrokerUnregistered{ID: id, Epoch: b.Epoch}}, nil
}
