package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quota"
	"github.com/belfry-mq/belfry/broker/record"
)

// Peers asks other brokers for their records; *peer.Client does. See there.
type Peers interface {
	Fetch(ctx context.Context, to metadata.BrokerID, lane string, f *peer.Fetch) (*peer.FetchAnswer, error)
}

var _ Peers = (*peer.Client)(nil)

// syncPatience is how long a fetcher waits for the disk before it goes on without the
// partitions that are not on it yet.
const syncPatience = time.Second

// backOffFirst is the wait after a first failure. Why so short: a follower that asks a new
// leader before that one knows of its leadership is the ordinary case of a failover.
const backOffFirst = 5 * time.Millisecond

// fetcher follows one leader, for the partitions that are given to it. One goroutine, one
// request at a time, one incremental session (KIP-227). What a request costs depends on how
// many partitions have something new, not on how many there are: those are in todo.
type fetcher struct {
	leader metadata.BrokerID
	lane   string
	peers  Peers
	own    func() int64 // broker epoch
	o      *Replication
	limit  *quota.Limit // of this broker as a follower
	now    func() time.Time
	logger *slog.Logger
	cancel context.CancelFunc

	kick   chan struct{} // capacity 1: there is something in mu
	synced chan struct{} // capacity 1: some log got further onto its disk
	mu     struct {
		sync.Mutex
		next map[peer.PartitionID]assignment // nil: nothing new
	}

	// The rest belongs to run's goroutine.
	list     map[peer.PartitionID]*followed
	todo     []*followed               // queued: the next request has to look at them
	told     int                       // how many of list are in the session
	limited  int                       // how many that the limit holds for were in todo last
	gone     map[peer.PartitionID]bool // in the session, and not to be
	session  int32
	epoch    int32 // of the session's next request
	failures int
	sent     int // requests
}

// assignment is a partition and the epoch in which it is followed.
type assignment struct {
	p     *Partition
	epoch record.Epoch
}

// followed is what a fetcher knows of a partition.
type followed struct {
	assignment
	id       peer.PartitionID
	at       peer.FetchPartition // what the leader was told last
	told     bool                // at is in the session
	dirty    bool                // at may not be right any more
	queued   bool                // it is in todo. Invariant: what is dirty, not told or rests is
	level    bool                // it had everything that is committed when the leader answered last
	since    int                 // number of the first request that is made for this assignment
	failures int
	rest     time.Time // not asked for before
}

func (f *fetcher) assign(next map[peer.PartitionID]assignment) {
	f.mu.Lock()
	f.mu.next = next
	f.mu.Unlock()
	kick(f.kick)
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flight is a request on its way.
type flight struct {
	n      int // how many were sent before it
	req    *peer.Fetch
	cancel context.CancelFunc
	done   chan landing // capacity 1
}

// landing is what came of it.
type landing struct {
	answer *peer.FetchAnswer
	err    error
}

// run fetches until ctx ends. While a request waits at the leader, one more is sent if
// partitions came or went: the leader then answers the first one at once. Why: who has just
// begun to follow would else not be asked for until the others have news.
func (f *fetcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var flying []flight
	for ctx.Err() == nil {
		if changed := f.adopt(); len(flying) == 0 || changed && f.mayPipeline() {
			req, wait := f.request()
			if req == nil && len(flying) == 0 {
				f.pause(ctx, wait, f.kick)
				continue
			}
			if req != nil {
				flying = append(flying, f.send(ctx, &wg, req))
			}
		}
		more := f.kick
		if len(flying) > 1 {
			more = nil // one at a time more is enough
		}
		select {
		case <-ctx.Done():
		case <-more:
		case l := <-flying[0].done:
			flying[0].cancel()
			if f.land(ctx, flying[0], l) {
				flying = flying[1:]
				continue
			}
			for _, other := range flying[1:] {
				other.cancel() // it was made on a session that is over
			}
			flying = nil
			if f.failures > 1 || l.err != nil {
				f.pause(ctx, f.backOff(f.failures), nil)
			}
		}
	}
}

// mayPipeline tells whether a request can be sent before the one on its way is answered: that
// takes a session that is known.
func (f *fetcher) mayPipeline() bool { return f.epoch > 0 }

func (f *fetcher) send(ctx context.Context, wg *sync.WaitGroup, req *peer.Fetch) flight {
	if f.epoch > 0 {
		f.epoch = max(1, f.epoch+1) // wraps to 1
	}
	long, cancel := context.WithTimeout(ctx, req.Wait+f.o.SocketTimeout)
	fl := flight{n: f.sent, req: req, cancel: cancel, done: make(chan landing, 1)}
	f.sent++
	wg.Go(func() {
		answer, err := f.peers.Fetch(long, f.leader, f.lane, req)
		fl.done <- landing{answer, err}
	})
	return fl
}

// land takes an answer; false if the session is over.
func (f *fetcher) land(ctx context.Context, fl flight, l landing) bool {
	if l.err != nil || l.answer.Code != 0 {
		if l.err != nil {
			f.logger.Debug("cannot fetch from the leader", "leader", int(f.leader), "err", l.err)
		}
		f.begin()
		f.failures++
		return false
	}
	f.failures = 0
	f.session = l.answer.Session
	if fl.req.SessionEpoch == 0 && f.session != 0 {
		f.epoch = 1
	}
	if f.session == 0 {
		f.begin()
	}
	f.take(fl.n, l.answer)
	l.answer.Release() // a log keeps nothing of what it appends
	f.sync(ctx)
	return true
}

// pause waits; early ends it before its time.
func (f *fetcher) pause(ctx context.Context, wait time.Duration, early chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-early:
	}
}

func (f *fetcher) backOff(failures int) time.Duration {
	return min(f.o.BackOff, backOffFirst<<min(max(0, failures-1), 12))
}

// begin forgets the session; the next request asks for everything.
func (f *fetcher) begin() {
	f.epoch = 0
	clear(f.gone)
	for _, w := range f.list {
		w.told = false
		f.queue(w)
	}
	f.told = 0
}

// queue has the next request look at a partition.
func (f *fetcher) queue(w *followed) {
	if !w.queued {
		w.queued = true
		f.todo = append(f.todo, w)
	}
}

// follows tells whether that is what is known of its partition still: another assignment
// makes another followed.
func (f *fetcher) follows(w *followed) bool { return f.list[w.id] == w }

// leaveOut takes a partition out of the session.
func (f *fetcher) leaveOut(w *followed) {
	if w.told {
		f.gone[w.id] = true
		w.told = false
		f.told--
	}
}

// adopt takes over what Apply assigned, and tells whether that is something else than before.
func (f *fetcher) adopt() (changed bool) {
	f.mu.Lock()
	next := f.mu.next
	f.mu.next = nil
	f.mu.Unlock()
	if next == nil {
		return false
	}
	for id, w := range f.list {
		if n, ok := next[id]; !ok || n != w.assignment {
			if !ok {
				f.leaveOut(w)
				delete(f.list, id)
			}
			changed = true
		}
	}
	for id, a := range next {
		w := f.list[id]
		switch {
		case w == nil:
			f.list[id] = &followed{assignment: a, id: id, dirty: true, since: f.sent}
			changed = true
		case w.assignment != a:
			// Why told stays: the session has it, in the old epoch, until it is told anew.
			f.list[id] = &followed{assignment: a, id: id, dirty: true, told: w.told, at: w.at, since: f.sent}
		default:
			continue
		}
		f.queue(f.list[id])
		a.p.onDurable(func() { kick(f.synced) })
	}
	return changed
}

// request gives the next request, or nil and how long there is nothing to ask for.
func (f *fetcher) request() (*peer.Fetch, time.Duration) {
	now := f.now()
	wait := time.Hour
	req := &peer.Fetch{
		BrokerEpoch: f.own(), Wait: f.o.FetchWait, MinBytes: f.o.FetchMinBytes, MaxBytes: f.o.FetchMaxBytes,
		Session: f.session, SessionEpoch: f.epoch,
	}
	f.slow(now)
	left, limited := f.todo[:0], 0
	for _, w := range f.todo {
		if !f.follows(w) {
			continue
		}
		if f.slowed(w) {
			limited++
		}
		if !f.ready(w, now) {
			if rest := w.rest.Sub(now); rest > 0 {
				wait = min(wait, rest)
			}
			f.leaveOut(w)
			left = append(left, w)
			continue
		}
		w.queued = false
		if !w.told {
			// Why: what is named both ways is forgotten.
			delete(f.gone, w.id)
			req.Partitions = append(req.Partitions, w.at)
			w.told = true
			f.told++
		}
	}
	clear(f.todo[len(left):])
	f.todo, f.limited = left, limited
	if f.told == 0 {
		return nil, wait
	}
	for id := range f.gone {
		req.Forget = append(req.Forget, id)
	}
	clear(f.gone)
	if wait < req.Wait {
		req.Wait = max(wait, time.Millisecond) // Why: a partition that rests must not rest longer because others are idle
	}
	return req, 0
}

// ready tells whether a partition can be asked for now, and has w.at say where.
func (f *fetcher) ready(w *followed, now time.Time) bool {
	if w.rest.After(now) {
		return false
	}
	return !w.dirty && w.told || f.locate(w)
}

// locate brings what the leader is to be told of a partition up to date; false if it is not
// to be asked for now.
func (f *fetcher) locate(w *followed) bool {
	at, ok := w.p.position(w.epoch)
	if !ok {
		return false // its role has changed: the next assignment knows
	}
	if !w.p.synced() {
		// Why: what is fetched after counts as had.
		w.rest = f.now().Add(f.o.BackOff)
		return false
	}
	at.MaxBytes = f.most(w)
	if w.told && w.at != at {
		w.told = false // until it is named anew
		f.told--
	}
	w.at, w.dirty = at, false
	return true
}

// take gives each partition what came for it. One that fails rests; the others go on.
func (f *fetcher) take(n int, a *peer.FetchAnswer) {
	now := f.now()
	for i := range a.Partitions {
		got := &a.Partitions[i]
		w := f.list[got.PartitionID]
		if w == nil || n < w.since {
			continue // it answers what was asked in an earlier epoch
		}
		news, err := w.p.receive(w.epoch, &w.at, got)
		if news || err != nil {
			w.dirty = true
			f.queue(w)
		}
		if err == nil {
			w.failures, w.rest = 0, time.Time{}
			f.count(w, got)
			continue
		}
		w.failures++
		w.rest = now.Add(f.backOff(w.failures))
		if w.failures == troubling {
			f.logger.Warn("a replica does not follow its leader", "partition", w.p.name.String(), "leader", int(f.leader), "err", err)
		}
	}
}

// troubling is how many failures in a row are worth a line in the log.
const troubling = 8

// sync waits until what was appended is as durable as the topic asks for, so that the next
// fetch may say so (R17). A disk that takes too long holds back its own partitions only.
func (f *fetcher) sync(ctx context.Context) {
	var timer *time.Timer
	for {
		open := false
		for _, w := range f.todo { // what is dirty is there
			open = open || f.follows(w) && w.dirty && w.rest.IsZero() && w.p.ended() == nil && !w.p.synced()
		}
		if !open {
			return
		}
		if timer == nil {
			timer = time.NewTimer(syncPatience)
			defer timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			f.restUnsynced()
			return
		case <-f.synced:
		}
	}
}

// restUnsynced leaves out, for a moment, what the disk does not have yet.
func (f *fetcher) restUnsynced() {
	for _, w := range f.todo {
		if w.dirty && !w.p.synced() {
			w.rest = f.now().Add(f.o.BackOff)
		}
	}
}
