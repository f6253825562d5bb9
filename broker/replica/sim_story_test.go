package replica

import (
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/topic"
)

// A story is a row of faults that chance alone would hardly ever put together. None of them
// may do harm; each is what some rule is there for.
func (w *world) story() {
	n := w.roll(w.parts)
	p := w.control.part(n)
	if p.Leader == metadata.NoBroker || len(p.ISR) < 3 {
		return
	}
	for _, node := range w.nodes {
		if set, _ := node.now(); set == nil {
			return
		}
	}
	w.join()
	w.mu.Lock()
	w.mu.lossy, w.mu.slow = 0, 0
	w.mu.Unlock()
	others := without(p.Replicas, p.Leader)
	if w.roll(2) == 0 {
		others[0], others[1] = others[1], others[0]
	}
	a, b, c := p.Leader, others[0], others[1]
	switch w.roll(3) {
	case 0:
		w.thereAndBack(n, a, b, c)
	case 1:
		w.secondLife(n, a, b, c)
	case 2:
		w.unheardAnswer(n, a, b, c)
	}
	w.join()
}

func (w *world) setCut(on bool, from, to metadata.BrokerID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.cut[[2]metadata.BrokerID{from, to}] = on
}

// pause lets from 2/3 of d to d pass.
func (w *world) pause(d time.Duration) {
	sleep(w.ctx, d*2/3+time.Duration(w.roll(int(d/3))))
}

func (w *world) produceMany(part int) {
	for range 3 + w.roll(4) {
		w.produce(part)
	}
}

// thereAndBack: the leadership goes from a, which does not hear of it, to b, which lacks what
// c has, and back; then old fetches of c arrive, which tell of records that c has cut since.
func (w *world) thereAndBack(n int, a, b, c metadata.BrokerID) {
	w.say("story: partition %d from %d to %d and back, then to %d", n, a, b, c)
	w.setCut(true, 0, a)
	w.setCut(true, a, b)
	w.produceMany(n)
	w.pause(60 * time.Millisecond)
	w.control.moveTo(n, b)
	w.setCut(false, a, b)
	w.pause(600 * time.Millisecond)
	w.control.moveTo(n, a)
	w.setCut(true, a, c)
	w.setCut(false, 0, a)
	w.pause(550 * time.Millisecond)
	w.replay(c)
	w.pause(20 * time.Millisecond)
	w.control.moveTo(n, c)
	w.pause(600 * time.Millisecond)
}

// secondLife: c loses what it did not sync, and fetches of its life before arrive after it
// has registered again.
func (w *world) secondLife(n int, a, b, c metadata.BrokerID) {
	node := w.nodes[c-1]
	if !w.mayLosePower(node) {
		return
	}
	w.say("story: partition %d led by %d, second life of %d", n, a, c)
	w.produceMany(n)
	w.pause(60 * time.Millisecond)
	node.kill(true)
	node.start()
	w.setCut(true, a, c)
	w.pause(650 * time.Millisecond)
	w.replay(c)
	w.pause(40 * time.Millisecond)
	w.produceMany(n)
	w.pause(60 * time.Millisecond)
	w.control.moveTo(n, c)
	w.pause(600 * time.Millisecond)
}

// unheardAnswer: c joins the in-sync set again, but the leader does not hear that the
// controller agreed.
func (w *world) unheardAnswer(n int, a, b, c metadata.BrokerID) {
	w.say("story: partition %d, %d does not hear that %d is in sync", n, a, c)
	w.setCut(true, a, c)
	for range 8 {
		w.produce(n)
		w.pause(200 * time.Millisecond)
	}
	w.setCut(true, 0, a)
	w.setCut(false, a, c)
	w.pause(450 * time.Millisecond)
	w.setCut(true, a, c)
	w.produceMany(n)
	w.pause(700 * time.Millisecond)
	w.control.moveTo(n, c)
	w.pause(600 * time.Millisecond)
}

// kept is a fetch that the network may deliver once more.
type kept struct {
	from, to metadata.BrokerID
	f        peer.Fetch
	wants    []peer.FetchPartition
}

const keptFetches = 400

// keep remembers a fetch.
func (w *world) keep(k kept) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.kept = append(w.mu.kept, k)
	if len(w.mu.kept) > keptFetches {
		w.mu.kept = w.mu.kept[1:]
	}
}

// replay delivers all remembered fetches of a follower once more, to nobody's profit: the
// answers are lost.
func (w *world) replay(from metadata.BrokerID) {
	w.mu.Lock()
	old := append([]kept(nil), w.mu.kept...)
	w.mu.Unlock()
	for _, k := range old {
		if set, _ := w.nodes[k.to-1].now(); set != nil && k.from == from {
			readWants(set, k.from, &k.f, k.wants, nil)
		}
	}
}

// moveTo gives a partition a certain leader, if that one may lead.
func (c *modelController) moveTo(n int, to metadata.BrokerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[n]
	if p.Leader == metadata.NoBroker || p.Leader == to || !contains(p.ISR, to) || !c.serves(to) {
		return
	}
	p.Leader = to
	p.LeaderEpoch++
	c.fold([]metadata.Record{c.change(n, p)})
}

// nameOf gives the name of the simulation's partition.
func nameOf(part int32) topic.Partition { return topic.Partition{Topic: orders.Topic, Partition: part} }
