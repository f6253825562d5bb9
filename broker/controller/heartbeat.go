package controller

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Heartbeat is what a broker says every few seconds (KIP-631).
type Heartbeat struct {
	ID       metadata.BrokerID
	Epoch    int64  // of its registration
	Seen     uint64 // index of the newest image that it acts on
	Fence    bool   // it does not wish to serve
	Shutdown bool   // it wishes to stop
	// Offline are its replicas on log directories that have failed, all of them each time.
	Offline []Replica
	// Damaged are its replicas whose data is not what was written, until they begin anew, all
	// of them each time (R20).
	Damaged []DamagedReplica
	// Tie ends with the connection by which it was heard; nil: there is none.
	Tie context.Context
}

// Replica is one partition by its topic's ID.
type Replica struct {
	Topic  topic.ID
	Number int32
}

// DamagedReplica is a replica that does not have what it had.
type DamagedReplica struct {
	Replica
	Epoch record.Epoch // the last leader epoch in which its broker may have said what it has
}

// Pulse is what the controller answers.
type Pulse struct {
	CaughtUp bool // the broker has seen its own registration
	Fenced   bool // it is out of service
	MayStop  bool // its leaderships are elsewhere, and the others know
}

// step is what a heartbeat leads to.
type step int

const (
	stay    step = iota
	enter        // into service
	retire       // out of service
	depart       // its leaderships go to others
	wait         // until the others know of that
	release      // it is out of service and may stop
)

// next decides on a heartbeat; it is a pure function of it, the broker's registration,
// its session and the oldest image that another broker acts on.
func (h *Heartbeat) next(b *metadata.Broker, s session, lowest uint64) step {
	switch {
	case h.Shutdown && b.Fenced:
		return release
	case h.Shutdown && !b.Leaving:
		return depart
	case h.Shutdown && (s.left == 0 || lowest < s.left):
		return wait
	case h.Shutdown:
		return release
	case b.Fenced && !h.Fence && h.Seen >= uint64(b.Epoch):
		return enter
	case !b.Fenced && h.Fence:
		return retire
	}
	return stay
}

// Heartbeat takes a broker's heartbeat and does what follows from it. It waits for
// nobody unless something has to change.
//
// Errors: Refusal if the broker is not registered with that epoch, or this is not the
// active controller.
func (c *Controller) Heartbeat(ctx context.Context, h Heartbeat) (Pulse, error) {
	d := &decision{img: c.quorum.Image()}
	b, err := d.registered(h.ID, h.Epoch)
	if err != nil {
		// Why asked first: who is not the controller may know less than the one who asks.
		if leads, _ := c.quorum.Leading(); !leads {
			return Pulse{}, c.notActive()
		}
		return Pulse{}, err
	}
	s, ok := c.watch.beat(c.o.Now(), h.ID, h.Epoch, h.Seen)
	if !ok {
		return Pulse{}, c.notActive()
	}
	c.tie(h)
	if err := c.damagesOf(ctx, h); err != nil {
		return Pulse{}, err
	}
	if err := c.disksOf(ctx, h); err != nil {
		return Pulse{}, err
	}
	p := Pulse{CaughtUp: h.Seen >= uint64(b.Epoch), Fenced: b.Fenced}
	switch h.next(b, s, c.watch.lowest(c.others(d.img, h.ID))) {
	case enter:
		err = c.UnfenceBroker(ctx, h.ID, h.Epoch)
		p.Fenced = err != nil
	case retire:
		err = c.FenceBroker(ctx, h.ID, h.Epoch)
		p.Fenced = err == nil
	case depart:
		var index uint64
		if index, err = c.change(ctx, h.ID, h.Epoch, (*decision).leave); err == nil {
			c.watch.leaves(h.ID, h.Epoch, index)
			c.o.Logger.Info("a broker wishes to stop; others lead its partitions", "broker", int(h.ID), "index", index)
		}
	case wait:
		if s.left == 0 { // another controller took its leaderships
			c.watch.leaves(h.ID, h.Epoch, d.img.Index())
		}
	case release:
		err = c.FenceBroker(ctx, h.ID, h.Epoch)
		p.Fenced, p.MayStop = err == nil, err == nil
	}
	return p, err
}

func (c *Controller) notActive() error {
	return refuse(codeNotController, "broker %d is not the active controller; ask the one that is", c.o.Node)
}

// others gives the active brokers but two: the one named, and this one, which acts on
// every image at once.
func (c *Controller) others(img *metadata.Image, id metadata.BrokerID) (ids []metadata.BrokerID) {
	for _, b := range img.Brokers() {
		if b.Active() && b.ID != id && b.ID != c.o.Node {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// disksOf takes leaderships from a broker's replicas whose disks have failed (R19).
func (c *Controller) disksOf(ctx context.Context, h Heartbeat) error {
	places := make([]place, 0, len(h.Offline)+len(h.Damaged))
	for _, r := range h.Offline {
		places = append(places, place{r.Topic, r.Number})
	}
	for _, r := range h.Damaged {
		places = append(places, place{r.Topic, r.Number})
	}
	if !c.watch.failed(h.ID, h.Epoch, places) {
		return nil
	}
	_, err := c.change(ctx, h.ID, h.Epoch, func(d *decision, b *metadata.Broker) []wish {
		return d.settleWhere(asNow, holds(b.ID))
	})
	return err
}

// damagesOf takes a broker's damaged replicas out of all that they are counted for.
func (c *Controller) damagesOf(ctx context.Context, h Heartbeat) error {
	if len(h.Damaged) == 0 {
		return nil
	}
	_, err := c.change(ctx, h.ID, h.Epoch, func(d *decision, b *metadata.Broker) []wish { return d.renounce(b.ID, h.Damaged) })
	return err
}

// renounce gives what becomes of partitions of which a broker's replica is damaged: it
// leaves the ISR and the ELR, unless nobody else is in them, and where the cluster goes on
// without it, it does so in a new leader epoch.
//
// Why a new one where the leader stays: by it the broker knows that nothing it said before
// counts any more, nor an in-sync set that was proposed because of it, and that it may begin
// anew with an empty log.
func (d *decision) renounce(id metadata.BrokerID, damaged []DamagedReplica) (wishes []wish) {
	seen := make(map[Replica]bool, len(damaged))
	for _, r := range damaged {
		t := d.img.TopicByID(r.Topic)
		if t == nil || r.Number < 0 || int(r.Number) >= len(t.Partitions) || seen[r.Replica] {
			continue
		}
		seen[r.Replica] = true
		p := &t.Partitions[r.Number]
		if !slices.Contains(p.Replicas, id) {
			continue
		}
		s := d.situation(t, r.Number, circumstance{broker: id, lost: true})
		next, changed := settle(*p, p.ISR, s)
		counts := next.Leader == metadata.NoBroker || slices.Contains(next.ISR, id) || slices.Contains(next.ELR, id)
		if !counts && next.LeaderEpoch <= r.Epoch {
			next.LeaderEpoch++
			if !changed {
				next.PartitionEpoch++
			}
			changed = true
		}
		if changed {
			wishes = append(wishes, wish{records: []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: r.Number, State: next}}})
		}
	}
	return wishes
}
