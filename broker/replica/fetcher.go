package replica

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
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
const backOffFirst = 20 * time.Millisecond

// fetcher follows one leader, for the partitions that are given to it. One goroutine, one
// request at a time, one incremental session (KIP-227).
type fetcher struct {
	leader metadata.BrokerID
	lane   string
	peers  Peers
	own    func() int64 // broker epoch
	o      *Replication
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
	at       peer.FetchPartition // what the leader was told last
	told     bool                // at is in the session
	dirty    bool                // at may not be right any more
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
	return min(f.o.BackOff, backOffFirst<<min(max(0, failures-1), 10))
}

// begin forgets the session; the next request asks for everything.
func (f *fetcher) begin() {
	f.epoch = 0
	clear(f.gone)
	for _, w := range f.list {
		w.told = false
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
			if w.told && !ok {
				f.gone[id] = true
			}
			if !ok {
				delete(f.list, id)
			}
			changed = true
		}
	}
	for id, a := range next {
		w := f.list[id]
		switch {
		case w == nil:
			f.list[id] = &followed{assignment: a, dirty: true, since: f.sent}
			changed = true
		case w.assignment != a:
			// Why told stays: the session has it, in the old epoch, until it is told anew.
			f.list[id] = &followed{assignment: a, dirty: true, told: w.told, at: w.at, since: f.sent}
		default:
			continue
		}
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
	asked := 0
	for id, w := range f.list {
		ready := !w.rest.After(now)
		if ready && (w.dirty || !w.told) {
			ready = f.locate(w)
		}
		if !ready {
			if left := w.rest.Sub(now); left > 0 {
				wait = min(wait, left)
			}
			if w.told {
				f.gone[id] = true
				w.told = false
			}
			continue
		}
		asked++
		if !w.told {
			// Why: what is named both ways is forgotten.
			delete(f.gone, id)
			req.Partitions = append(req.Partitions, w.at)
		}
		w.told = true
	}
	if asked == 0 {
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
	at.MaxBytes = f.o.FetchPartitionBytes
	w.told = w.told && w.at == at
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
		if err == nil {
			w.failures, w.rest, w.dirty = 0, time.Time{}, w.dirty || news
			continue
		}
		w.failures++
		w.dirty = true
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
		for _, w := range f.list {
			open = open || w.dirty && w.rest.IsZero() && w.p.ended() == nil && !w.p.synced()
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
	for _, w := range f.list {
		if w.dirty && !w.p.synced() {
			w.rest = f.now().Add(f.o.BackOff)
		}
	}
}

// fetchers are the fetchers of a set, one for each leader and number.
type fetchers struct {
	s  *Set
	mu struct {
		sync.Mutex
		ctx  context.Context // nil: run is not there
		list map[fetcherKey]*fetcher
		wg   *sync.WaitGroup
	}
}

type fetcherKey struct {
	leader metadata.BrokerID
	n      int
}

// assign gives every partition that is followed to its fetcher.
func (m *fetchers) assign(all map[fetcherKey]map[peer.PartitionID]assignment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, f := range m.mu.list {
		if len(all[key]) == 0 {
			if f.cancel != nil {
				f.cancel()
			}
			delete(m.mu.list, key)
		}
	}
	for key, parts := range all {
		f := m.mu.list[key]
		if f == nil {
			f = m.fetcher(key)
			m.mu.list[key] = f
			m.startLocked(f)
		}
		f.assign(parts)
	}
}

func (m *fetchers) fetcher(key fetcherKey) *fetcher {
	return &fetcher{
		leader: key.leader, lane: "fetch-" + strconv.Itoa(key.n), peers: m.s.o.Peers, own: m.s.cluster.own.Load,
		o: &m.s.o.Replication, now: m.s.o.Now, logger: m.s.o.Logger,
		kick: make(chan struct{}, 1), synced: make(chan struct{}, 1),
		list: make(map[peer.PartitionID]*followed), gone: make(map[peer.PartitionID]bool),
	}
}

func (m *fetchers) startLocked(f *fetcher) {
	if m.mu.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(m.mu.ctx)
	f.cancel = cancel
	m.mu.wg.Go(func() { f.run(ctx) })
}

// run lets the fetchers work until ctx ends.
func (m *fetchers) run(ctx context.Context) {
	var wg sync.WaitGroup
	m.mu.Lock()
	m.mu.ctx, m.mu.wg = ctx, &wg
	for _, f := range m.mu.list {
		m.startLocked(f)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.mu.ctx = nil
	m.mu.Unlock()
	wg.Wait()
}
