package journal

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// HostsOptions are what Hosts need.
type HostsOptions[S Shard] struct {
	Node   metadata.BrokerID
	Topic  string // the internal topic
	Open   func(partition int32) (Log, error)
	Fresh  func(h *Host[S]) S // makes an empty shard that appends to this host's journal
	Loaded func(h *Host[S])   // called after each loading, once the host serves; nil: nothing
	Now    func() time.Time
	Logger *slog.Logger
}

// Hosts are the hosts of an internal topic: one for each of its partitions that this
// broker leads. Safe for concurrent use.
type Hosts[S Shard] struct {
	o    HostsOptions[S]
	kick chan struct{} // capacity 1: there are hosts to start

	mu struct {
		sync.RWMutex
		partitions int // of the topic; 0: there is none yet
		hosts      map[int32]*Host[S]
		cancels    map[*Host[S]]context.CancelFunc // of those that run
		starting   []*Host[S]
	}
}

// NewHosts makes hosts of nothing; Lead tells what this broker leads, Run serves it.
func NewHosts[S Shard](o HostsOptions[S]) *Hosts[S] {
	s := &Hosts[S]{o: o, kick: make(chan struct{}, 1)}
	s.mu.hosts = make(map[int32]*Host[S])
	s.mu.cancels = make(map[*Host[S]]context.CancelFunc)
	return s
}

// Lead follows the topic as the metadata show it now; nil: there is none. Called in commit
// order by one goroutine.
func (s *Hosts[S]) Lead(t *metadata.Topic) {
	s.mu.Lock()
	closed := s.leadLocked(t)
	var cancels []context.CancelFunc
	for _, h := range closed {
		if cancel := s.mu.cancels[h]; cancel != nil {
			cancels = append(cancels, cancel)
			delete(s.mu.cancels, h)
		}
	}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
	for _, h := range closed {
		h.Close()
	}
	for _, cancel := range cancels {
		cancel()
	}
}

// leadLocked makes a host for each partition that this broker leads from now on, and gives
// those whose time is over.
func (s *Hosts[S]) leadLocked(t *metadata.Topic) (closed []*Host[S]) {
	s.mu.partitions = 0
	leads := make(map[int32]*metadata.Partition)
	if t != nil {
		s.mu.partitions = len(t.Partitions)
		for n := range t.Partitions {
			if t.Partitions[n].Leader == s.o.Node {
				leads[int32(n)] = &t.Partitions[n]
			}
		}
	}
	for n, h := range s.mu.hosts {
		if p := leads[n]; p == nil || p.LeaderEpoch != h.Epoch() {
			delete(s.mu.hosts, n)
			closed = append(closed, h)
		}
	}
	for n, p := range leads {
		if s.mu.hosts[n] != nil {
			continue
		}
		var h *Host[S]
		h = NewHost(HostOptions[S]{
			Partition: n, Epoch: p.LeaderEpoch, Open: s.o.Open, Fresh: s.o.Fresh, Now: s.o.Now,
			Loaded: func() {
				if s.o.Loaded != nil {
					s.o.Loaded(h)
				}
			},
			Logger: s.o.Logger.With("partition", topic.Partition{Topic: s.o.Topic, Partition: n}.String()),
		})
		s.mu.hosts[n] = h
		s.mu.starting = append(s.mu.starting, h)
	}
	return closed
}

// Run serves until ctx ends; then everybody who waits is told to ask elsewhere.
func (s *Hosts[S]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for ctx.Err() == nil {
		s.start(ctx, &wg)
		select {
		case <-ctx.Done():
		case <-s.kick:
		}
	}
	wg.Wait()
	s.mu.Lock()
	starting := s.mu.starting
	s.mu.starting = nil
	clear(s.mu.cancels)
	s.mu.Unlock()
	for _, h := range starting {
		h.Close()
	}
	return nil
}

// start runs the hosts that Lead made.
func (s *Hosts[S]) start(ctx context.Context, wg *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.mu.starting {
		if s.mu.hosts[h.Partition()] != h {
			continue // closed before it began
		}
		hostCtx, cancel := context.WithCancel(ctx)
		s.mu.cancels[h] = cancel
		wg.Go(func() { h.Run(hostCtx) })
	}
	s.mu.starting = nil
}

// Partitions gives how many partitions the topic has; 0: there is no such topic yet.
func (s *Hosts[S]) Partitions() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.partitions
}

// Of finds who serves a group or a transactional ID; nil: this broker does not.
func (s *Hosts[S]) Of(id string) *Host[S] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mu.partitions == 0 {
		return nil
	}
	return s.mu.hosts[PartitionOf(id, s.mu.partitions)]
}

// At finds who serves a partition; nil: this broker does not.
func (s *Hosts[S]) At(partition int32) *Host[S] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.hosts[partition]
}

// All gives the hosts there are, by partition.
func (s *Hosts[S]) All() []*Host[S] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Host[S], 0, len(s.mu.hosts))
	for _, n := range slices.Sorted(maps.Keys(s.mu.hosts)) {
		out = append(out, s.mu.hosts[n])
	}
	return out
}
