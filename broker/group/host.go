package group

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// retryLoad is how long a partition whose log cannot be read waits for the next try.
const retryLoad = 5 * time.Second

// host runs one shard in one leader epoch: it brings it the time and the journal, and keeps
// its requests apart.
type host struct {
	partition int32
	epoch     record.Epoch
	open      func(partition int32) (journal.Log, error)
	now       func() time.Time
	logger    *slog.Logger
	fresh     func(h *host) *shard // makes an empty shard that appends to this host's journal

	cancel context.CancelFunc // guarded by the coordinator's mu; nil until run
	kick   chan struct{}      // capacity 1: an alarm is due earlier than was thought

	mu struct {
		sync.Mutex
		shard   *shard
		journal *journal.Journal
		status  code            // none: serves; loadInProgress; notCoordinator
		closed  bool            // for good
		gone    map[string]bool // topics deleted while loading
	}
}

func newHost(partition int32, epoch record.Epoch) *host {
	h := &host{partition: partition, epoch: epoch, kick: make(chan struct{}, 1)}
	h.mu.status = loadInProgress
	return h
}

// do runs f on the shard and then, without the lock, what f put off. It gives why the shard
// does not serve; then f does not run.
func (h *host) do(f func(*shard)) code {
	h.mu.Lock()
	if h.mu.status != none {
		defer h.mu.Unlock()
		return h.mu.status
	}
	h.leave(h.enter(), f)
	return none
}

// enter gives the shard with the present time in it. Requires: mu is held.
func (h *host) enter() *shard {
	h.mu.shard.now = h.now()
	return h.mu.shard
}

// leave runs f, gives mu back and runs what f put off.
func (h *host) leave(s *shard, f func(*shard)) {
	before, had := s.alarms.next()
	f(s)
	next, has := s.alarms.next()
	out := s.take()
	h.mu.Unlock()
	for _, o := range out {
		o()
	}
	if has && (!had || next.Before(before)) {
		select {
		case h.kick <- struct{}{}:
		default:
		}
	}
}

// append brings a shard's records to the journal. It is called with mu held; done comes
// without it.
func (h *host) append(rs []record.Record, done func(error)) error {
	return h.mu.journal.Append(journal.Entry{Records: rs, Done: func(err error) {
		h.mu.Lock()
		h.leave(h.enter(), func(*shard) { done(err) })
	}})
}

// Replay brings a committed record to the shard; part of journal.Machine.
func (h *host) Replay(batch record.Header, r record.Record) error {
	if batch.Control() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.enter().replay(r)
}

// Loaded opens the door; part of journal.Machine.
func (h *host) Loaded() {
	h.mu.Lock()
	if !h.mu.closed {
		h.mu.status = none
	}
	gone := h.mu.gone
	h.mu.gone = nil
	h.leave(h.enter(), func(s *shard) {
		s.loaded()
		s.dropOffsets(func(p topic.Partition) bool { return gone[p.Topic] })
	})
}

// topicsGone forgets the offsets of deleted topics, now or when they have been read.
func (h *host) topicsGone(names map[string]bool) {
	h.mu.Lock()
	if h.mu.status != none {
		defer h.mu.Unlock()
		if h.mu.gone == nil {
			h.mu.gone = make(map[string]bool)
		}
		maps.Copy(h.mu.gone, names)
		return
	}
	h.leave(h.enter(), func(s *shard) {
		s.dropOffsets(func(p topic.Partition) bool { return names[p.Topic] })
	})
}

var _ journal.Machine = (*host)(nil)

// run serves until ctx or the leadership ends. What fails is tried again; it is said once.
func (h *host) run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		h.turn(loadInProgress)
		err := h.serve(ctx)
		if lost(err) || ctx.Err() != nil {
			break
		}
		if errors.Is(err, storage.ErrOffline) {
			h.turn(notCoordinator) // nothing is being loaded, and may never be
		}
		if said != err.Error() {
			said = err.Error()
			h.logger.Error("cannot serve groups, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryLoad):
		}
	}
	h.close()
}

// turn says to those who ask why the shard does not serve.
func (h *host) turn(why code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.mu.closed {
		h.mu.status = why
	}
}

// lost tells whether an error means that this broker is no longer the one to ask.
func lost(err error) bool {
	return errors.Is(err, replica.ErrNotLeader) || errors.Is(err, replica.ErrFencedEpoch) ||
		errors.Is(err, replica.ErrUnknownPartition)
}

// serve is one life of the shard: load, work, fail whoever waits.
func (h *host) serve(ctx context.Context) error {
	log, err := h.open(h.partition)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.mu.shard = h.fresh(h)
	h.mu.journal = journal.New(journal.Options{Log: log, Epoch: h.epoch, Machine: h, Logger: h.logger, Now: h.now})
	h.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { h.keepTime(ctx) })
	err = h.mu.journal.Run(ctx)
	cancel()
	wg.Wait()

	h.mu.Lock()
	if h.mu.status == none {
		h.mu.status = loadInProgress
	}
	h.leave(h.enter(), (*shard).resign)
	return err
}

// keepTime lets alarms ring, until ctx ends.
func (h *host) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		h.mu.Lock()
		next, ok := time.Time{}, false
		h.leave(h.enter(), func(s *shard) {
			s.ring()
			next, ok = s.alarms.next()
		})
		if ok {
			timer.Reset(next.Sub(h.now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.kick:
		}
	}
}

// close shuts the door for good: another broker, or another epoch's host, is the one to ask.
func (h *host) close() {
	h.mu.Lock()
	h.mu.status, h.mu.closed = notCoordinator, true
	if h.mu.shard == nil {
		h.mu.Unlock()
		return
	}
	h.leave(h.enter(), (*shard).resign)
}
