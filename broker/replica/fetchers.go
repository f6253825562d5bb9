package replica

import (
	"context"
	"strconv"
	"sync"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
)

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
		leader: key.leader, lane: "fetch-" + strconv.Itoa(key.n), peers: m.s.o.Peers, own: m.s.cluster.own.Load, limit: m.s.limits.follower,
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
