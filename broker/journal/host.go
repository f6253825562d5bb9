package journal

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
)

// RetryLoad is how long a partition whose log cannot be read waits for the next try.
const RetryLoad = 5 * time.Second

// Status says whether a host serves.
type Status int8

// The statuses.
const (
	Loading Status = iota // the log is being replayed: ask again
	Serving
	Elsewhere // another broker, or another epoch's host, is the one to ask
)

// Shard is a state machine that a Host runs: it has neither clock nor goroutine nor lock.
// Its methods are called one at a time.
type Shard interface {
	// Enter brings the present time; it comes before everything else.
	Enter(now time.Time)
	// Take gives what the shard put off: it runs when every lock is let go of.
	Take() []func()
	// Replay takes a committed record in, as Machine's.
	Replay(batch record.Header, r record.Record) error
	// ReplayMarker takes the end of a producer's transaction in, as Machine's.
	ReplayMarker(m record.Marker) error
	// Loaded says that everything committed before was replayed.
	Loaded()
	// Next tells when to ring; false: never.
	Next() (time.Time, bool)
	// Ring lets everything happen that is due.
	Ring()
	// Resign fails everybody who waits: the partition is led elsewhere, or its journal ended.
	Resign()
}

// HostOptions are what a Host needs.
type HostOptions[S Shard] struct {
	Partition int32
	Epoch     record.Epoch // the leader epoch; the host ends with it
	Open      func(partition int32) (Log, error)
	Fresh     func(h *Host[S]) S // makes an empty shard that appends to this host's journal
	Loaded    func()             // called after each loading, once the host serves; nil: nothing
	Now       func() time.Time
	Logger    *slog.Logger
}

// Host runs one shard in one leader epoch: it brings it the time and the journal, and keeps
// its requests apart. Safe for concurrent use.
type Host[S Shard] struct {
	o    HostOptions[S]
	kick chan struct{} // capacity 1: the shard has to ring earlier than was thought

	mu struct {
		sync.Mutex
		shard   S
		made    bool // there is a shard
		journal *Journal
		status  Status
		closed  bool // for good
	}
}

// NewHost makes a host; Run serves it.
func NewHost[S Shard](o HostOptions[S]) *Host[S] {
	return &Host[S]{o: o, kick: make(chan struct{}, 1)}
}

// Partition gives the number of the partition.
func (h *Host[S]) Partition() int32 { return h.o.Partition }

// Epoch gives the leader epoch that the host lives in.
func (h *Host[S]) Epoch() record.Epoch { return h.o.Epoch }

// Do runs f on the shard and then, without the lock, what f put off. Unless the host serves,
// f does not run.
func (h *Host[S]) Do(f func(S)) Status {
	h.mu.Lock()
	if h.mu.status != Serving {
		defer h.mu.Unlock()
		return h.mu.status
	}
	h.leave(h.enter(), f)
	return Serving
}

// enter gives the shard with the present time in it. Requires: mu is held.
func (h *Host[S]) enter() S {
	h.mu.shard.Enter(h.o.Now())
	return h.mu.shard
}

// leave runs f, gives mu back and runs what f put off.
func (h *Host[S]) leave(s S, f func(S)) {
	before, had := s.Next()
	f(s)
	next, has := s.Next()
	out := s.Take()
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

// Append brings an entry of the shard to the journal. It is called by the shard; the
// entry's Done comes as a call of the shard, too.
//
// Errors: as Journal.Append.
func (h *Host[S]) Append(e Entry) error {
	done := e.Done
	e.Done = func(err error) {
		h.mu.Lock()
		h.leave(h.enter(), func(S) { done(err) })
	}
	return h.mu.journal.Append(e)
}

// replayer is the host as its journal sees it.
type replayer[S Shard] struct{ h *Host[S] }

// Replay brings a committed record to the shard.
func (r replayer[S]) Replay(batch record.Header, rec record.Record) error {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return r.h.enter().Replay(batch, rec)
}

// ReplayMarker brings a committed marker to the shard.
func (r replayer[S]) ReplayMarker(m record.Marker) error {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return r.h.enter().ReplayMarker(m)
}

// Loaded opens the door.
func (r replayer[S]) Loaded() {
	h := r.h
	h.mu.Lock()
	if !h.mu.closed {
		h.mu.status = Serving
	}
	h.leave(h.enter(), func(s S) { s.Loaded() })
	if h.o.Loaded != nil {
		h.o.Loaded()
	}
}

// Run serves until ctx or the leadership ends. What fails is tried again; it is said once.
func (h *Host[S]) Run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		h.turn(Loading)
		err := h.serve(ctx)
		if lost(err) || ctx.Err() != nil {
			break
		}
		if errors.Is(err, storage.ErrOffline) {
			h.turn(Elsewhere) // nothing is being loaded, and may never be
		}
		if said != err.Error() {
			said = err.Error()
			h.o.Logger.Error("cannot serve an internal partition, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(RetryLoad):
		}
	}
	h.Close()
}

// turn says to those who ask why the shard does not serve.
func (h *Host[S]) turn(why Status) {
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
func (h *Host[S]) serve(ctx context.Context) error {
	log, err := h.o.Open(h.o.Partition)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.mu.shard, h.mu.made = h.o.Fresh(h), true
	h.mu.journal = New(Options{Log: log, Epoch: h.o.Epoch, Machine: replayer[S]{h}, Logger: h.o.Logger, Now: h.o.Now})
	h.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { h.keepTime(ctx) })
	err = h.mu.journal.Run(ctx)
	cancel()
	wg.Wait()

	h.mu.Lock()
	if h.mu.status == Serving {
		h.mu.status = Loading
	}
	h.leave(h.enter(), S.Resign)
	return err
}

// keepTime lets the shard ring, until ctx ends.
func (h *Host[S]) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		h.mu.Lock()
		next, ok := time.Time{}, false
		h.leave(h.enter(), func(s S) {
			s.Ring()
			next, ok = s.Next()
		})
		if ok {
			timer.Reset(next.Sub(h.o.Now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.kick:
		}
	}
}

// Close shuts the door for good. Run ends when its context does.
func (h *Host[S]) Close() {
	h.mu.Lock()
	h.mu.status, h.mu.closed = Elsewhere, true
	if !h.mu.made {
		h.mu.Unlock()
		return
	}
	h.leave(h.enter(), S.Resign)
}

// PartitionOf gives the partition, among n of an internal topic, that a group or a
// transactional ID lives in.
// Source: Kafka, Utils.abs(id.hashCode) % n, with Java's hash over UTF-16 units.
func PartitionOf(id string, n int) int32 {
	var h int32
	for _, r := range id {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + 0xd800 + r>>10
			h = 31*h + 0xdc00 + r&0x3ff
			continue
		}
		h = 31*h + r
	}
	if h < 0 {
		h = max(0, -h) // Why max: the smallest number has no positive twin, and Kafka takes 0.
	}
	return h % int32(n)
}
