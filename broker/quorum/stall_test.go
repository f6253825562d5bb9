package quorum

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// hanging is a log segment whose syncs wait while there is a gate.
type hanging struct {
	types.WritableFile
	gate *atomic.Pointer[chan struct{}]
}

func (h *hanging) Sync() error {
	if gate := h.gate.Load(); gate != nil {
		<-*gate
	}
	return h.WritableFile.Sync()
}

// canHang makes the log's disk of a node one that can hang. Requires: the node does not run.
func canHang(q *Quorum) *atomic.Pointer[chan struct{}] {
	gate := new(atomic.Pointer[chan struct{}])
	q.files.open = func(w types.WritableFile) types.WritableFile { return &hanging{w, gate} }
	if tail := q.files.mu.tail; tail != nil {
		tail.WritableFile = &hanging{tail.WritableFile, gate}
	}
	return gate
}

// hang makes the log's disk of a node hang until the gate is closed.
func (n *node) hang() (gate chan struct{}) {
	gate = make(chan struct{})
	n.gate.Store(&gate)
	return gate
}

// hangLeader has the disk of the leader hang, with a change on its way to it.
func (c *crew) hangLeader(topic int) (old *node, gate chan struct{}, fate chan error) {
	c.t.Helper()
	old = c.leader()
	gate = old.hang()
	fate = make(chan error, 1)
	go func() {
		_, err := old.Propose(c.t.Context(), created(topic))
		fate <- err
	}()
	return old, gate, fate
}

// TestStalledLeaderHandsOver is R16: heartbeats go on while the leader's disk hangs, so
// nobody would stand for election; it must give leadership away itself, and follow
// when its disk works again.
func TestStalledLeaderHandsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		c.agree()
		old, gate, fate := c.hangLeader(2)
		began := time.Now()
		for leads := true; leads; {
			time.Sleep(10 * time.Millisecond)
			leads, _ = old.Leading()
		}
		next := c.leader()
		if took := time.Since(began); took < defaultStall || took > defaultStall+time.Second || next == old {
			t.Errorf("node %d leads after %v", next.o.Node, took)
		}
		c.propose(3)
		if old.Image().Topic("t3") != nil {
			t.Error("a node whose disk hangs has applied what it could not write")
		}
		time.Sleep(defaultStallEnd / 3)
		close(gate)
		if err := <-fate; err == nil {
			t.Log("the change on its way was made") // either fate is right, if it is told so
		}
		c.agree()
		if old.Image().Topic("t3") == nil {
			t.Error("it has not caught up")
		}
		select {
		case <-old.Failed():
			t.Error("it has failed")
		default:
		}
		c.stopAll()
	})
}

// TestStallWithoutEndFails: a voter whose disk never comes back is given up, and says so.
func TestStallWithoutEndFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		old, gate, fate := c.hangLeader(2)
		<-old.Failed()
		if err := old.Failure(); !errors.Is(err, ErrFailed) || !errors.Is(err, errStalled) || !strings.Contains(err.Error(), old.o.Dir) {
			t.Errorf("failure: %v", err)
		}
		if err := <-fate; err == nil {
			t.Error("the change was acknowledged")
		}
		delete(c.nodes, old.o.Node)
		c.propose(3)
		c.agree()
		if err := old.stop(); !errors.Is(err, errStalled) {
			t.Errorf("it ended with %v", err)
		}
		close(gate)
		c.stopAll()
	})
}

// TestStallOfALoneNode: nobody can take over, so it waits and goes on.
func TestStallOfALoneNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.start(1)
		old, gate, fate := c.hangLeader(1)
		time.Sleep(2 * defaultStallEnd)
		close(gate)
		select {
		case <-old.Failed():
			t.Error("it has failed")
		default:
		}
		<-fate // ErrNoLeader, or made in time
		c.propose(2)
		if old.Image().Topic("t1") == nil {
			t.Error("what was on its way is lost though the disk came back")
		}
		c.stopAll()
	})
}

// TestStalledFollowerHoldsNobodyUp: two disks are a majority of three.
func TestStalledFollowerHoldsNobodyUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		var slow *node
		lead := c.leader()
		for _, n := range c.nodes {
			if n != lead {
				slow = n
			}
		}
		gate := slow.hang()
		for i := range 5 {
			c.propose(2 + i)
		}
		if c.leader() != lead || slow.Image().Topic("t6") != nil {
			t.Errorf("node %d leads now", c.leader().o.Node)
		}
		time.Sleep(defaultStall)
		close(gate)
		c.agree()
		if d := metadata.Diff(lead.Image(), slow.Image()); !d.Empty() {
			t.Errorf("it lacks %+v", d)
		}
		c.stopAll()
	})
}

// TestStopWithAStalledDisk: a node that is asked to stop does, though its disk hangs.
func TestStopWithAStalledDisk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.start(1)
		n, gate, fate := c.hangLeader(1)
		time.Sleep(time.Second)
		began := time.Now()
		if err := n.stop(); !errors.Is(err, errStalled) {
			t.Errorf("it ended with %v", err)
		}
		if took := time.Since(began); took > 2*defaultStall {
			t.Errorf("it took %v to stop", took)
		}
		if err := <-fate; err == nil {
			t.Error("the change was acknowledged")
		}
		close(gate)
	})
}
