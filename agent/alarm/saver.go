package alarm

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// saver writes the newest state, one write at a time, so that a disk that hangs
// holds up nothing but itself.
type saver struct {
	store Store
	log   *slog.Logger
	wake  chan struct{} // capacity 1: "there is a newer state"

	mu struct {
		sync.Mutex
		next   []byte        // newest state; nil = it is on the disk
		done   chan struct{} // closed when the state that is next now was tried
		late   bool          // somebody waited for this write in vain
		failed uint64
	}
}

func (s *saver) init(store Store, log *slog.Logger) {
	s.store, s.log, s.wake = store, log, make(chan struct{}, 1)
	s.mu.done = make(chan struct{})
}

// save hands a state over and waits until it was tried, at most for the given
// time and not at all while an earlier write is stuck.
func (s *saver) save(ctx context.Context, payload []byte, wait time.Duration) {
	done, stuck := s.put(payload)
	if wait == 0 || stuck {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.waitedInVain()
		s.log.Warn("alarm state waits for the disk, alarms go on", "waited", wait)
	case <-ctx.Done():
	}
}

// put hands a state over without waiting; done is closed when it was tried.
func (s *saver) put(payload []byte) (done <-chan struct{}, stuck bool) {
	s.mu.Lock()
	stuck = s.mu.late
	s.mu.next = payload
	done = s.mu.done
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return done, stuck
}

func (s *saver) waitedInVain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.failed++
	s.mu.late = true
}

func (s *saver) failures() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failed
}

func (s *saver) run(ctx context.Context) {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			s.write()
			return
		case <-s.wake:
		case <-retry:
		}
		retry = nil
		if !s.write() {
			retry = time.After(saveRetry)
		}
	}
}

// write tries the newest state and says whether the disk has it.
func (s *saver) write() bool {
	s.mu.Lock()
	payload, done := s.mu.next, s.mu.done
	if payload == nil {
		s.mu.Unlock()
		return true
	}
	s.mu.next, s.mu.done = nil, make(chan struct{})
	s.mu.Unlock()

	err := s.store.Save(payload)

	s.mu.Lock()
	s.mu.late = false
	if err != nil {
		s.mu.failed++
		if s.mu.next == nil {
			s.mu.next = payload // try again, unless there is a newer one
		}
	}
	s.mu.Unlock()
	close(done)
	if err != nil {
		s.log.Warn("alarm state not saved, it stays in memory", "error", err)
	}
	return err == nil
}
