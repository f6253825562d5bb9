package replica

import (
	"context"
	"log/slog"
	"math"
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

// run fetches until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.adopt()
		req, wait := f.request()
		if req == nil {
			f.pause(ctx, wait, f.kick)
			continue
		}
		long, cancel := context.WithTimeout(ctx, req.Wait+f.o.SocketTimeout)
		answer, err := f.peers.Fetch(long, f.leader, f.lane, req)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && answer.Code != 0 {
			// The session is gone or elsewhere: a new one costs one full request.
			f.begin()
			f.failures++
			if f.failures > 1 {
				f.pause(ctx, f.backOff(f.failures), nil)
			}
			continue
		}
		if err != nil {
			f.begin()
			f.failures++
			f.logger.Debug("cannot fetch from the leader", "leader", int(f.leader), "err", err)
			f.pause(ctx, f.backOff(f.failures), nil)
			continue
		}
		f.failures = 0
		f.settle(req, answer)
		f.take(answer)
		f.sync(ctx)
	}
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

// adopt takes over what Apply assigned.
func (f *fetcher) adopt() {
	f.mu.Lock()
	next := f.mu.next
	f.mu.next = nil
	f.mu.Unlock()
	if next == nil {
		return
	}
	for id, w := range f.list {
		if n, ok := next[id]; !ok || n != w.assignment {
			if w.told && !ok {
				f.gone[id] = true
			}
			if !ok {
				delete(f.list, id)
			}
		}
	}
	for id, a := range next {
		w := f.list[id]
		switch {
		case w == nil:
			f.list[id] = &followed{assignment: a, dirty: true}
		case w.assignment != a:
			// Why told stays: the session has it, in the old epoch, until it is told anew.
			f.list[id] = &followed{assignment: a, dirty: true, told: w.told, at: w.at}
		default:
			continue
		}
		a.p.onDurable(func() { kick(f.synced) })
	}
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

// settle moves the session on.
func (f *fetcher) settle(req *peer.Fetch, a *peer.FetchAnswer) {
	f.session = a.Session
	switch {
	case a.Session == 0:
		f.begin()
	case req.SessionEpoch == math.MaxInt32:
		f.epoch = 1
	default:
		f.epoch = req.SessionEpoch + 1
	}
}

// take gives each partition what came for it. One that fails rests; the others go on.
func (f *fetcher) take(a *peer.FetchAnswer) {
	now := f.now()
	for i := range a.Partitions {
		got := &a.Partitions[i]
		w := f.list[got.PartitionID]
		if w == nil {
			continue
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
