package controller

import (
	"context"
	"net"
	"slices"
	"strconv"

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

// Registration is a broker that begins to take part.
type Registration struct {
	Broker    metadata.Broker // Epoch, Fenced and Leaving do not count
	ClusterID string          // that it belongs to; "" is not looked at
	// Previous is the epoch of its last registration if what it had then is all there
	// still, else NoEpoch (R13).
	Previous int64
}

// NoEpoch stands where there is no broker epoch.
const NoEpoch int64 = -1

// RegisterBroker registers a broker, out of service (fenced), and gives its epoch
// (R10). What it led is led by others; where it is the only broker, it leads in new
// leader epochs instead: it may have lost what it had not flushed. An incarnation that
// is registered already gets the epoch that it has.
//
// Errors: Refusal if the ID is not one, another broker has it and lives, or it belongs
// to another cluster.
func (c *Controller) RegisterBroker(ctx context.Context, r Registration) (epoch int64, err error) {
	d, end, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	id := r.Broker.ID
	if old := d.img.Broker(id); old != nil && old.Incarnation == r.Broker.Incarnation && !old.Incarnation.IsZero() {
		return old.Epoch, nil
	}
	within, tied := c.watch.lives(c.o.Now(), id)
	wishes, err := d.registerBroker(r, within, tied)
	if err != nil {
		return 0, err
	}
	index, err := c.settled(ctx, wishes)
	if err != nil {
		return 0, err
	}
	c.watch.begin(c.o.Now(), id, int64(index))
	return int64(index), nil
}

// registerBroker decides on a registration. Within tells that the session of the one
// there is has not ended, tied that a connection of it is there.
func (d *decision) registerBroker(r Registration, within, tied bool) ([]wish, error) {
	b := r.Broker
	old := d.img.Broker(b.ID)
	switch {
	case b.ID < 0:
		return nil, refuse(codeInvalidRequest, "%d is no broker ID; want 0 or more", b.ID)
	case r.ClusterID != "" && r.ClusterID != d.img.ClusterID():
		return nil, refuse(codeInconsistentClusterID, "broker %d belongs to cluster %q, this is %q", b.ID, r.ClusterID, d.img.ClusterID())
	case old == nil || b.ID == d.node || old.Fenced || !within:
	// Why taken though the session lasts: two processes cannot have one address, so the
	// one before is gone if it holds no connection.
	case !tied && slices.ContainsFunc(b.Endpoints, func(e metadata.Endpoint) bool { return slices.Contains(old.Endpoints, e) }):
	default:
		return nil, refuse(codeDuplicateBroker, "broker %d is registered by another process that lives, at %s; give this one another node.id, or wait until that one is gone", b.ID, addressOf(old))
	}
	b.Epoch, b.Fenced, b.Leaving = metadata.EpochFromIndex, true, false
	b.Settings = comparableOf(b.Settings)
	registered := &metadata.BrokerRegistered{Broker: b}
	switch {
	case old == nil:
		return []wish{{records: []metadata.Record{registered}}}, nil
	case len(d.img.Brokers()) == 1:
		return []wish{{records: []metadata.Record{registered, &metadata.LeadershipRenewed{ID: b.ID}}}}, nil
	}
	c := circumstance{broker: b.ID, lost: r.Previous != old.Epoch}
	// Why last: who sees its own registration must not see itself lead in its old epoch.
	return append(d.settleWhere(c, holds(b.ID)), wish{records: []metadata.Record{registered}}), nil
}

func addressOf(b *metadata.Broker) string {
	if len(b.Endpoints) == 0 {
		return "an unknown address"
	}
	return net.JoinHostPort(b.Endpoints[0].Host, strconv.Itoa(int(b.Endpoints[0].Port)))
}

// holds tells of the partitions that a broker leads, or may lead as it is.
func holds(id metadata.BrokerID) func(*metadata.Partition) bool {
	return func(p *metadata.Partition) bool {
		return p.Leader == id || slices.Contains(p.ISR, id) || slices.Contains(p.ELR, id)
	}
}

// waitsFor tells of the partitions that nobody leads and that a broker has a replica of.
func waitsFor(id metadata.BrokerID) func(*metadata.Partition) bool {
	return func(p *metadata.Partition) bool {
		return p.Leader == metadata.NoBroker && slices.Contains(p.Replicas, id)
	}
}

// UnfenceBroker puts a registered broker into service; it leads where nobody else can.
// Epoch is what RegisterBroker gave.
func (c *Controller) UnfenceBroker(ctx context.Context, id metadata.BrokerID, epoch int64) error {
	_, err := c.change(ctx, id, epoch, (*decision).unfence)
	return err
}

// FenceBroker takes a broker out of service; others lead what it led.
func (c *Controller) FenceBroker(ctx context.Context, id metadata.BrokerID, epoch int64) error {
	_, err := c.change(ctx, id, epoch, (*decision).fence)
	return err
}

// change decides on a registered broker and gives the index at which that holds.
func (c *Controller) change(ctx context.Context, id metadata.BrokerID, epoch int64, decide func(*decision, *metadata.Broker) []wish) (uint64, error) {
	d, end, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	b, err := d.registered(id, epoch)
	if err != nil {
		return 0, err
	}
	wishes := decide(d, b)
	if len(wishes) == 0 {
		return d.img.Index(), nil
	}
	if _, err := c.settled(ctx, wishes); err != nil {
		return 0, err
	}
	return c.quorum.Image().Index(), nil
}

// settled commits wishes that belong together, in as few batches as possible and not one
// after one that failed; it gives the index of the last batch.
func (c *Controller) settled(ctx context.Context, wishes []wish) (last uint64, err error) {
	var batch []metadata.Record
	for i := range wishes {
		batch = append(batch, wishes[i].records...)
		if len(batch) < maxBatchRecords && i < len(wishes)-1 {
			continue
		}
		if last, err = c.quorum.Propose(ctx, batch); err != nil {
			return 0, err
		}
		batch = nil
	}
	return last, nil
}

func (d *decision) registered(id metadata.BrokerID, epoch int64) (*metadata.Broker, error) {
	b := d.img.Broker(id)
	switch {
	case b == nil:
		return nil, refuse(codeBrokerIDNotRegistered, "broker %d is not registered; register it first", id)
	case b.Epoch != epoch:
		return nil, refuse(codeStaleBrokerEpoch, "broker %d is registered with epoch %d, not %d; register it again", id, b.Epoch, epoch)
	}
	return b, nil
}

func (d *decision) unfence(b *metadata.Broker) []wish {
	if !b.Fenced {
		return nil
	}
	return append([]wish{{records: []metadata.Record{&metadata.BrokerUnfenced{ID: b.ID, Epoch: b.Epoch}}}},
		d.settleWhere(circumstance{broker: b.ID, active: true}, waitsFor(b.ID))...)
}

func (d *decision) fence(b *metadata.Broker) []wish {
	if b.Fenced {
		return nil
	}
	return append([]wish{{records: []metadata.Record{&metadata.BrokerFenced{ID: b.ID, Epoch: b.Epoch}}}},
		d.settleWhere(circumstance{broker: b.ID}, holds(b.ID))...)
}

// leave takes a broker's leaderships away before it stops (R14).
func (d *decision) leave(b *metadata.Broker) []wish {
	if b.Fenced || b.Leaving {
		return nil
	}
	return append([]wish{{records: []metadata.Record{&metadata.BrokerLeaving{ID: b.ID, Epoch: b.Epoch}}}},
		d.settleWhere(circumstance{broker: b.ID}, holds(b.ID))...)
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
	if _, err = c.quorum.Propose(ctx, records); err == nil {
		c.watch.end(id)
	}
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
