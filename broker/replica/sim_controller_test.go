package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// modelController is the controller of the simulation: what rules R8 to R13 ask of one, in
// as few words as possible, and never wrong. Everything it does is committed at once.
type modelController struct {
	min int // min.insync.replicas

	mu    sync.Mutex
	img   *metadata.Image
	index uint64
	beat  map[metadata.BrokerID]time.Time
	said  func(string, ...any)
	// kept are the controller's own thoughts about a partition.
	parts []metadata.Partition
	// spoiled are the replicas that said they are damaged, and did not say otherwise since.
	spoiled map[spoiledReplica]bool
}

type spoiledReplica struct {
	id   metadata.BrokerID
	part int32
}

const (
	simSession   = 1500 * time.Millisecond
	simHeartbeat = 500 * time.Millisecond
)

func newModelController(nodes, partitions, minISR int, said func(string, ...any)) *modelController {
	c := &modelController{min: minISR, img: metadata.Empty(), beat: make(map[metadata.BrokerID]time.Time), said: said, spoiled: make(map[spoiledReplica]bool)}
	var ids []metadata.BrokerID
	for i := range nodes {
		ids = append(ids, metadata.BrokerID(i+1))
	}
	records := []metadata.Record{&metadata.TopicCreated{Name: orders.Topic, ID: idA}}
	for n := range partitions {
		replicas := slices.Concat(ids[n%nodes:], ids[:n%nodes])
		p := metadata.Partition{Leader: metadata.NoBroker, Replicas: replicas, ISR: slices.Clone(replicas), Dirs: make([]topic.ID, nodes)}
		c.parts = append(c.parts, p)
		records = append(records, &metadata.PartitionCreated{Topic: idA, Number: int32(n), State: p})
	}
	c.fold(records)
	return c
}

func (c *modelController) fold(records []metadata.Record) {
	if len(records) == 0 {
		return
	}
	c.index++
	img, err := c.img.Fold(c.index, records)
	if err != nil {
		panic(fmt.Sprintf("BUG: the model controller's records do not fit: %v", err))
	}
	c.img = img
}

func (c *modelController) image() *metadata.Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.img
}

func (c *modelController) serves(id metadata.BrokerID) bool {
	b := c.img.Broker(id)
	return b != nil && !b.Fenced
}

// change notes a partition's next state. The thoughts in parts change at once, so that
// several steps may be one batch.
func (c *modelController) change(n int, next metadata.Partition) metadata.Record {
	next.PartitionEpoch = c.parts[n].PartitionEpoch + 1
	c.parts[n] = next
	c.said("controller: partition %d leader %d epoch %d isr %v elr %v state %d", n, next.Leader, next.LeaderEpoch, next.ISR, next.ELR, next.PartitionEpoch)
	return &metadata.PartitionChanged{Topic: idA, Number: int32(n), State: next}
}

func without(ids []metadata.BrokerID, id metadata.BrokerID) []metadata.BrokerID {
	return slices.DeleteFunc(slices.Clone(ids), func(other metadata.BrokerID) bool { return other == id })
}

// elect gives the partition a leader that may lead, or none, in a new epoch.
func (c *modelController) elect(n int, p *metadata.Partition, not metadata.BrokerID) {
	p.LeaderEpoch++
	p.Leader = metadata.NoBroker
	good := func(id metadata.BrokerID) bool {
		return id != not && c.serves(id) && !c.spoiled[spoiledReplica{id, int32(n)}]
	}
	for _, id := range p.Replicas {
		if contains(p.ISR, id) && good(id) {
			p.Leader = id
			return
		}
	}
	for _, id := range p.Replicas {
		if contains(p.ELR, id) && good(id) {
			// Who was in sync until now has all that is committed, as this one has.
			p.Leader, p.ISR, p.ELR = id, []metadata.BrokerID{id}, without(slices.Concat(p.ISR, p.ELR), id)
			return
		}
	}
}

// leaves takes a broker out of a partition's in-sync set, but for the last one.
func (c *modelController) leaves(p *metadata.Partition, id metadata.BrokerID) {
	if len(p.ISR) > 1 && contains(p.ISR, id) {
		p.ISR = without(p.ISR, id)
		if len(p.ISR) < c.min {
			p.ELR = append(slices.Clone(p.ELR), id)
		}
	}
}

// fenceLocked takes a broker out of service, if it is in.
func (c *modelController) fenceLocked(id metadata.BrokerID) {
	b := c.img.Broker(id)
	if b == nil || b.Fenced {
		return
	}
	c.said("controller: fences %d", id)
	c.fold([]metadata.Record{&metadata.BrokerFenced{ID: id, Epoch: b.Epoch}})
	var records []metadata.Record
	for n := range c.parts {
		p := c.parts[n]
		if p.Leader != id && !contains(p.ISR, id) {
			continue
		}
		c.leaves(&p, id)
		if p.Leader == id {
			c.elect(n, &p, id)
		}
		records = append(records, c.change(n, p))
	}
	c.fold(records)
}

// register begins a broker's new life. lost tells that it may have lost what it had: then it
// is no longer eligible.
func (c *modelController) register(id metadata.BrokerID, lost bool) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fenceLocked(id)
	if lost {
		var records []metadata.Record
		for n := range c.parts {
			if p := c.parts[n]; contains(p.ELR, id) || contains(p.ISR, id) {
				p.ELR, p.ISR = without(p.ELR, id), without(p.ISR, id)
				records = append(records, c.change(n, p))
			}
		}
		c.fold(records)
	}
	c.fold([]metadata.Record{&metadata.BrokerRegistered{Broker: metadata.Broker{ID: id, Epoch: metadata.EpochFromIndex, Fenced: true}}})
	c.beat[id] = time.Now()
	return c.img.Broker(id).Epoch
}

// heartbeat keeps a broker in service, or puts it there when it has caught up with its registration.
func (c *modelController) heartbeat(id metadata.BrokerID, epoch int64, applied uint64, ds []Damaged) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.img.Broker(id)
	if b == nil || b.Epoch != epoch {
		return false
	}
	c.beat[id] = time.Now()
	c.damagedLocked(id, ds)
	if !b.Fenced || applied < uint64(b.Epoch) {
		return true
	}
	c.said("controller: unfences %d", id)
	c.fold([]metadata.Record{&metadata.BrokerUnfenced{ID: id, Epoch: epoch}})
	var records []metadata.Record
	for n := range c.parts {
		if p := c.parts[n]; p.Leader == metadata.NoBroker && (contains(p.ISR, id) || contains(p.ELR, id)) {
			c.elect(n, &p, metadata.NoBroker)
			records = append(records, c.change(n, p))
		}
	}
	c.fold(records)
	return true
}

// damagedLocked takes a broker's damaged replicas out of all that they are counted for, but
// for the last one (R20).
func (c *modelController) damagedLocked(id metadata.BrokerID, ds []Damaged) {
	for r := range c.spoiled {
		if r.id == id {
			delete(c.spoiled, r)
		}
	}
	var records []metadata.Record
	for _, d := range ds {
		n := int(d.Partition)
		c.spoiled[spoiledReplica{id, d.Partition}] = true
		p := c.parts[n]
		counts := contains(p.ISR, id) || contains(p.ELR, id)
		p.ISR, p.ELR = without(p.ISR, id), without(p.ELR, id)
		switch {
		case len(p.ISR)+len(p.ELR) == 0 && p.Leader != id:
			continue // nobody has more than it
		case len(p.ISR)+len(p.ELR) == 0:
			p.ISR, p.ELR = c.parts[n].ISR, c.parts[n].ELR
			c.elect(n, &p, id)
		case p.Leader == id:
			c.elect(n, &p, id)
		case p.LeaderEpoch <= d.Epoch && p.Leader != metadata.NoBroker:
			p.LeaderEpoch++
		case !counts:
			continue
		}
		records = append(records, c.change(n, p))
	}
	c.fold(records)
}

// expire fences who was not heard of.
func (c *modelController) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.beat {
		if time.Since(at) > simSession {
			c.fenceLocked(id)
		}
	}
}

// move gives a partition another leader for no reason.
func (c *modelController) move(n int, not metadata.BrokerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[n]
	if p.Leader == metadata.NoBroker {
		return
	}
	before := p
	c.elect(n, &p, not)
	if p.Leader == metadata.NoBroker || !contains(before.ISR, p.Leader) {
		return
	}
	c.fold([]metadata.Record{c.change(n, p)})
}

// full tells whether every broker is in service and in sync everywhere.
func (c *modelController) full(nodes int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.parts {
		if len(c.parts[n].ISR) < nodes || c.parts[n].Leader == metadata.NoBroker {
			return false
		}
	}
	return true
}

func (c *modelController) part(n int) metadata.Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts[n]
}

// alter decides on proposals (R8).
func (c *modelController) alter(from metadata.BrokerID, ps []Proposal) (out []Altered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range ps {
		out = append(out, c.alterOne(from, q))
	}
	return out
}

func (c *modelController) alterOne(from metadata.BrokerID, q Proposal) Altered {
	p := c.parts[q.Partition]
	if p.Leader != from || p.LeaderEpoch != q.LeaderEpoch || p.PartitionEpoch != q.PartitionEpoch {
		return Altered{Err: ErrStale}
	}
	var ids []metadata.BrokerID
	for _, m := range q.ISR {
		if b := c.img.Broker(m.Broker); b == nil || b.Fenced || b.Epoch != m.BrokerEpoch || c.spoiled[spoiledReplica{m.Broker, q.Partition}] {
			return Altered{Err: ErrIneligible}
		}
		ids = append(ids, m.Broker)
	}
	switch {
	case len(ids) >= c.min:
		p.ELR = nil
	default:
		p.ELR = slices.Clone(p.ELR)
		for _, id := range p.ISR {
			if !contains(ids, id) {
				p.ELR = append(p.ELR, id)
			}
		}
	}
	for _, id := range ids {
		p.ELR = without(p.ELR, id)
	}
	p.ISR = ids
	c.fold([]metadata.Record{c.change(int(q.Partition), p)})
	return Altered{PartitionEpoch: c.parts[q.Partition].PartitionEpoch, ISR: slices.Clone(ids)}
}

// controllerOf is the controller as one broker reaches it.
type controllerOf struct {
	w *world
	n *simNode
	// inc is the life of the broker that asks.
	inc int
}

func (c controllerOf) Alter(ctx context.Context, ps []Proposal) ([]Altered, error) {
	return call(ctx, c.w, c.n.id, 0, func() ([]Altered, error) {
		if !c.n.lives(c.inc) {
			return nil, errSim
		}
		return c.w.control.alter(c.n.id, ps), nil
	})
}
