package replica

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// Acker is told, once, when an acknowledgement that it waits for comes or will not come.
// It must not block and must not append: it may run inside somebody else's append.
type Acker interface{ Acked(err error) }

// ackFunc makes an Acker of a function.
type ackFunc func(error)

func (f ackFunc) Acked(err error) { f(err) }

// Wait is the memory that one wait for an acknowledgement takes. Whoever waits often keeps
// it and uses it again.
type Wait struct{ waiter waiter }

// Reusable tells, after the Acker was called, whether w may be used for another wait. It is
// not while the clock may still look at it.
func (w *Wait) Reusable() bool { return !w.waiter.late }

// waiter is one produce request's wait in one partition. It sits in its partition's heap
// (by offset) and in the set's deadlines (by time), and leaves both when it is answered.
//
// Invariant: whoever takes it out of the partition's heap, under the partition's mu, calls
// done; nobody else does. So done runs exactly once.
type waiter struct {
	partition *Partition
	end       record.Offset
	deadline  time.Time
	done      Acker

	in *waitHeap // guarded by partition.mu; nil: answered
	at int       // index in *in

	deadlineAt int  // guarded by deadlines.mu; -1: not in
	late       bool // guarded by deadlines.mu until done is called: its time was up before it was answered
}

// waitHeap orders waiters by offset, the nearest first, so that a move of the high
// watermark touches those it concerns and nobody else.
type waitHeap []*waiter

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].end < h[j].end }
func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *waitHeap) Push(x any) {
	w := x.(*waiter)
	w.in, w.at = h, len(*h)
	*h = append(*h, w)
}

func (h *waitHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.in = nil
	return w
}

// reached takes out everybody who waited for an offset up to end.
func (h *waitHeap) reached(end record.Offset, out []*waiter) []*waiter {
	for len(*h) > 0 && (*h)[0].end <= end {
		out = append(out, heap.Pop(h).(*waiter))
	}
	return out
}

// all takes out everybody.
func (h *waitHeap) all(out []*waiter) []*waiter {
	for _, w := range *h {
		w.in = nil
		out = append(out, w)
	}
	clear(*h)
	*h = (*h)[:0]
	return out
}

// deadlines is the one clock of all waits of a set: a heap by time and one timer.
type deadlines struct {
	now  func() time.Time
	kick chan struct{} // capacity 1: "look again" is one message however often it is said

	mu struct {
		sync.Mutex
		waiters deadlineHeap
	}
}

func newDeadlines(now func() time.Time) *deadlines {
	return &deadlines{now: now, kick: make(chan struct{}, 1)}
}

// add takes a waiter in. Requires: the waiter's partition's mu is held, so that nobody
// answers it in between.
func (d *deadlines) add(w *waiter) {
	d.mu.Lock()
	heap.Push(&d.mu.waiters, w)
	first := w.deadlineAt == 0
	d.mu.Unlock()
	if first {
		select {
		case d.kick <- struct{}{}:
		default:
		}
	}
}

// remove takes answered waiters out.
func (d *deadlines) remove(ws []*waiter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range ws {
		if w.deadlineAt >= 0 {
			heap.Remove(&d.mu.waiters, w.deadlineAt)
		}
	}
}

// run answers whoever has waited too long, until ctx ends.
func (d *deadlines) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		expired, next := d.expired()
		for _, w := range expired {
			w.partition.expire(w)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.kick:
		}
	}
}

// expired takes out everybody whose time is up and tells how long the next one has.
func (d *deadlines) expired() ([]*waiter, time.Duration) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*waiter
	for len(d.mu.waiters) > 0 {
		if left := d.mu.waiters[0].deadline.Sub(now); left > 0 {
			return out, left
		}
		w := heap.Pop(&d.mu.waiters).(*waiter)
		w.late = true
		out = append(out, w)
	}
	return out, time.Hour
}

// waiting counts the waits that are under way.
func (d *deadlines) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mu.waiters)
}

// deadlineHeap orders waiters by time. Most waits have the same length, so that a new one
// goes to the end and stays there.
type deadlineHeap []*waiter

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }
func (h deadlineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].deadlineAt, h[j].deadlineAt = i, j
}

func (h *deadlineHeap) Push(x any) {
	w := x.(*waiter)
	w.deadlineAt = len(*h)
	*h = append(*h, w)
}

func (h *deadlineHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.deadlineAt = -1
	return w
}
