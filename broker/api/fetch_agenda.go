package api

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/replica"
)

// agenda is what is to be looked at in a follower's session, so that a fetch costs what has
// moved and not what there is: a follower of 6 000 partitions asks many times a second, and
// few of them have news.
//
// A partition is on it when the follower named it, when it moved (replica.Observer), and as
// long as there is something to do for it: data to send, an error to repeat, a follower that
// is not in sync. Besides, each is looked at once in a while (sweepLocked), for what nobody
// tells (retention), and so that a follower which has everything is known to be alive.
//
// Invariant: a partition of the session that is not on the agenda and not in a request's
// hands is settled, and its follower was told its marks.
type agenda struct {
	every time.Duration // each partition is looked at at least so often
	wake  chan struct{} // capacity 1: something moved loudly
	mu    struct {
		sync.Mutex
		due []*tracked
	}
}

// newAgenda makes one for followers that are given up on after lag.
func newAgenda(lag time.Duration) *agenda {
	return &agenda{every: lag / 4, wake: make(chan struct{}, 1)}
}

// How a partition stands on the agenda.
const (
	unmarked   = iota
	markedLow  // for the next request, or the next look of the one that waits
	markedLoud // and who waits was woken
)

// watched is the part of tracked that a follower's session needs.
type watched struct {
	session *fetchSession // never changes
	level   atomic.Int32  // written under the agenda's mu
	// Guarded by the session's mu.
	at     *list.Element // in the session's order
	looked time.Time
	in     *fetchCall // whose hands it is in; nil: nobody's
	part   *replica.Partition
	stop   func() // of watching part
}

var _ replica.Observer = (*tracked)(nil)

// Moved puts the partition on the agenda.
func (t *tracked) Moved(loud bool) {
	level := int32(markedLow)
	if loud {
		level = markedLoud
	}
	if t.level.Load() >= level {
		return
	}
	a := t.session.agenda
	a.mu.Lock()
	was := t.level.Load()
	if was == unmarked {
		a.mu.due = append(a.mu.due, t)
	}
	t.level.Store(max(was, level))
	a.mu.Unlock()
	if loud && was < markedLoud {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// take empties the agenda. What moves from now on is on it again: who takes looks after.
func (a *agenda) take() []*tracked {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := a.mu.due
	a.mu.due = nil
	for _, t := range due {
		t.level.Store(unmarked)
	}
	return due
}

// takeLocked gives what is on the agenda and still in the session, and not in the hands of
// the one who asks. Requires: f.mu.
func (f *fetchSession) takeLocked(now time.Time, by *fetchCall) (out []wanted) {
	for _, t := range f.agenda.take() {
		if t.at == nil || t.in == by {
			continue
		}
		out = append(out, f.handLocked(t, now, by))
	}
	return out
}

// empty tells that there is no partition in the session.
func (f *fetchSession) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order.Len() == 0
}

// handLocked gives one partition into a request's hands.
func (f *fetchSession) handLocked(t *tracked, now time.Time, by *fetchCall) wanted {
	t.in, t.looked = by, now
	f.order.MoveToBack(t.at)
	w := t.want
	w.of = t
	return w
}

// sweepLeast is how many partitions a request looks at, at least, because it is their time.
const sweepLeast = 64

// sweepLocked gives partitions that were not looked at for long: of those whose time has just
// come at most an eighth of all, so that requests share them.
func (f *fetchSession) sweepLocked(now time.Time, by *fetchCall) (out []wanted) {
	for most := max(sweepLeast, f.order.Len()/8); f.order.Len() > 0; {
		t := f.order.Front().Value.(*tracked)
		idle := now.Sub(t.looked)
		if t.in == by || idle < f.agenda.every || len(out) >= most && idle < 2*f.agenda.every {
			break
		}
		out = append(out, f.handLocked(t, now, by))
	}
	return out
}

// watch follows the partition that a tracked one is now. Why before it is read: what moves
// in between is on the agenda again.
func (f *fetchSession) watch(t *tracked, part *replica.Partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.at == nil || t.part == part {
		return
	}
	if t.stop != nil {
		t.stop()
	}
	t.part, t.stop = part, part.Observe(t)
}

// unwatch ends what is known of a partition that is not in the session any more. Requires:
// the session's mu.
func (t *tracked) unwatch() {
	if t.stop != nil {
		t.stop()
	}
	t.at, t.in, t.part, t.stop = nil, nil, nil, nil
}

// more takes what has moved while a request waited.
func (f *fetchSession) more(by *fetchCall, now time.Time) []wanted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.takeLocked(now, by)
}

// rest gives what a request need not keep in its hands while it waits: partitions that are
// settled, and of which there is no news. It gives the wants that stay.
func (f *fetchSession) rest(results []result, by *fetchCall) (stay []wanted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range results {
		res := &results[i]
		t := res.want.of
		if res.done() && !t.news(res) {
			if t.in == by {
				t.in = nil
			}
			continue
		}
		stay = append(stay, res.want)
	}
	return stay
}

// done tells whether nothing is left to do for a follower's partition.
func (res *result) done() bool {
	return res.code == 0 && !res.diverged && res.got.Settled && res.got.Slice.Len() == 0
}

// settleAll is settle for a follower's session; what is not done is on the agenda again, first
// what got no records: its turn comes first, too.
func (f *fetchSession) settleAll(results []result, full bool, by *fetchCall) []result {
	var turn, again []*tracked
	for i := range results {
		switch res := &results[i]; {
		case res.got.Slice.Len() > 0:
			again = append(again, res.want.of)
		case !res.done():
			turn = append(turn, res.want.of)
		default:
			f.letGo(res.want.of, by)
		}
	}
	shown := f.settle(results, full)
	f.giveBack(append(turn, again...), by)
	return shown
}

func (f *fetchSession) letGo(t *tracked, by *fetchCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.in == by {
		t.in = nil
	}
}

// giveBack puts what a request had in its hands on the agenda again. Why loudly: a later
// request may wait already.
func (f *fetchSession) giveBack(ts []*tracked, by *fetchCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range ts {
		if t.in == by { // else a later request has it
			t.in = nil
			t.Moved(true)
		}
	}
}
