package quorum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// chaos is a cluster under seeded faults and what must hold in it.
type chaos struct {
	*crew
	rnd   *rand.Rand
	next  int // topic number
	joins Token

	mu struct {
		sync.Mutex
		made map[int]bool // topics whose making was acknowledged
	}
	leaders map[uint64]metadata.BrokerID        // by term
	images  map[uint64]*metadata.Image          // by index
	down    map[metadata.BrokerID]bool          // stopped, to be started again
	gates   map[metadata.BrokerID]chan struct{} // of disks that hang
}

// TestSeededFaults: leaders are killed, links cut in both and in one direction, disks
// hang, nodes restart, snapshots are made, voters replaced one at a time, while changes
// are proposed everywhere. No acknowledged change may be lost, no term may have two
// leaders, the same index is the same image on every node.
func TestSeededFaults(t *testing.T) {
	for _, size := range []int{3, 5} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%d nodes, seed %d", size, seed), func(t *testing.T) {
				inBubble(t, func(t *testing.T) { runChaos(t, size, seed, 30) })
			})
		}
	}
}

func runChaos(t *testing.T, size int, seed uint64, steps int) {
	c := &chaos{crew: newCrew(t, size), rnd: rand.New(rand.NewPCG(seed, uint64(size))),
		leaders: map[uint64]metadata.BrokerID{}, images: map[uint64]*metadata.Image{},
		down: map[metadata.BrokerID]bool{}, gates: map[metadata.BrokerID]chan struct{}{}}
	c.mu.made = map[int]bool{}
	c.change = func(o *Options) { o.SnapshotEvery = 25 }
	var all []metadata.BrokerID
	for _, v := range c.first {
		all = append(all, v.Node)
	}
	c.start(all...)
	c.joins = c.token(1000 * time.Hour)
	for range steps {
		c.fault()
		c.load(time.Duration(c.rnd.IntN(4000)) * time.Millisecond)
		c.check()
	}
	c.calm()
	c.check()
	want := c.leader().Image()
	for n := range c.mu.made {
		if want.Topic(fmt.Sprintf("t%d", n)) == nil {
			t.Errorf("topic %d was made and is lost", n)
		}
	}
	if len(c.mu.made) < steps {
		t.Errorf("only %d changes were made", len(c.mu.made))
	}
	t.Logf("%d changes made, %d terms, index %d", len(c.mu.made), len(c.leaders), want.Index())
	c.stopAll()
}

// load has changes proposed on every node for a while.
func (c *chaos) load(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var proposing sync.WaitGroup
	for _, n := range c.running() {
		node, first := c.nodes[n], c.next
		c.next += 50
		proposing.Go(func() {
			for i := first; i < first+50 && ctx.Err() == nil; i++ {
				_, err := node.Propose(ctx, created(i))
				if err == nil {
					c.mu.Lock()
					c.mu.made[i] = true
					c.mu.Unlock()
				}
				if pause(ctx, 20*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	proposing.Wait()
}

// check looks at every node.
func (c *chaos) check() {
	c.t.Helper()
	for _, id := range c.running() {
		n := c.nodes[id]
		term := n.Term()
		leads, _ := n.Leading()
		img := n.Image()
		if leads && n.Term() == term {
			if other, known := c.leaders[term]; known && other != id {
				c.t.Fatalf("nodes %d and %d both lead in term %d", other, id, term)
			}
			c.leaders[term] = id
		}
		if seen := c.images[img.Index()]; seen == nil {
			c.images[img.Index()] = img
		} else if d := metadata.Diff(seen, img); !d.Empty() {
			c.t.Fatalf("node %d has another image at index %d: %+v", id, img.Index(), d)
		}
	}
}

// fault makes one thing go wrong, or well again.
func (c *chaos) fault() {
	up := c.running()
	n := up[c.rnd.IntN(len(up))]
	if c.gates[n] != nil {
		return // TestStopWithAStalledDisk is about that
	}
	var places []string
	for _, v := range c.first {
		places = append(places, v.Address)
	}
	few := len(c.down)+len(c.gates)+1 > (len(c.first)-1)/2
	switch what := c.rnd.IntN(12); {
	case what < 2:
		c.fabric.heal()
	case what == 2:
		c.fabric.isolate(c.at(n), places)
	case what == 3:
		c.fabric.sever(c.at(n), places[c.rnd.IntN(len(places))])
	case what == 4 && !few:
		c.kill(n)
	case what == 5 && !few:
		c.stop(n)
		c.down[n] = true
	case what < 8:
		for id := range c.down {
			delete(c.down, id)
			c.start(id)
			return
		}
	case what == 8:
		_ = c.nodes[n].Snapshot() // a node that knows no leader may have nothing to write
	case what == 9 && !few:
		c.gates[n] = c.nodes[n].hang()
	case what == 10:
		for id, gate := range c.gates {
			delete(c.gates, id)
			close(gate)
			return
		}
	case what == 11:
		c.calm()
		c.replace(n)
	}
}

// kill ends a node as kill -9 would: what it has written is there, nobody hears of it.
func (c *chaos) kill(n metadata.BrokerID) {
	c.t.Helper()
	var places []string
	for _, v := range c.first {
		places = append(places, v.Address)
	}
	cut := map[[2]string]bool{}
	c.fabric.mu.Lock()
	for k := range c.fabric.mu.cut {
		cut[k] = true
	}
	c.fabric.mu.Unlock()
	c.fabric.isolate(c.at(n), places)
	time.Sleep(3 * time.Second) // Why: nobody writes any more, so that the copy is of one moment
	dir := copyDir(c.t, c.dirs[n])
	c.stop(n)
	c.dirs[n], c.down[n] = dir, true
	c.fabric.mu.Lock()
	c.fabric.mu.cut = cut
	c.fabric.mu.Unlock()
}

// calm makes everything well and waits until all agree.
func (c *chaos) calm() {
	c.t.Helper()
	c.fabric.heal()
	for id, gate := range c.gates {
		delete(c.gates, id)
		close(gate)
	}
	for _, id := range c.running() {
		n := c.nodes[id]
		if err := n.Failure(); err == nil {
			continue
		} else if !errors.Is(err, errStalled) {
			c.t.Fatalf("node %d has failed: %v", id, err)
		}
		delete(c.nodes, id) // the process would have ended
		_ = n.stop()
		c.down[id] = true
	}
	for id := range c.down {
		delete(c.down, id)
		c.start(id)
	}
	c.agree()
}

// replace loses a voter's disk and puts an empty one in its place.
func (c *chaos) replace(n metadata.BrokerID) {
	c.t.Helper()
	c.stop(n)
	delete(c.dirs, n)
	c.insist(func() error { return c.leader().RemoveVoter(context.Background(), n, topic.ID{}) })
	time.Sleep(silentFor)
	o := c.options(n)
	o.Network.Join = &c.joins
	c.run(c.enter(o))
	c.insist(func() error { return c.leader().AddVoter(context.Background(), n, topic.ID{}) })
	if s, ok := c.leader().Status(); !ok || len(s.Voters) != len(c.first) || len(s.Observers) != 0 {
		c.t.Fatalf("after a voter was replaced: %+v", s)
	}
}

// insist tries a change of voters until it is made.
func (c *chaos) insist(f func() error) {
	c.t.Helper()
	for range 100 {
		err := f()
		if err == nil || errors.Is(err, ErrVoterThere) || errors.Is(err, ErrVoterNotFound) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatal("the voters could not be changed")
}
