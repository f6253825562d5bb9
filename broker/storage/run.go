package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Run does the background work (retention, flush by time, checkpoints, cleaner, removal, scrubber); returns when ctx ends.
// Errors: the last log directory went offline.
func (s *Store) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, d := range s.dirs {
		s.env.online(d.path, d.Err() == nil)
		if err := d.Err(); err != nil {
			s.env.failed(d.path, err)
		}
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	for range flushWorkers {
		wait.Go(func() { s.env.flushes.work(ctx) })
	}
	for range s.dirs[1:] {
		wait.Go(func() { s.moveAll(ctx) })
	}
	wait.Go(func() { every(ctx, s.o.Checkpoint, s.checkpointAll) })
	wait.Go(func() { every(ctx, s.o.RetentionCheck, s.retainAll) })
	wait.Go(func() { every(ctx, s.o.CleanEvery, s.cleanAll) })
	wait.Go(func() { every(ctx, time.Second, s.tidy) })
	wait.Go(func() {
		s.scrubAll(ctx)
		every(ctx, scrubEvery, s.scrubAll)
	})
	wait.Go(func() { every(ctx, idleEvery, s.dropIdle) })
	for s.announce() {
		select {
		case <-ctx.Done():
			return nil
		case <-s.news:
		}
	}
	err := s.allFailed()
	cancel(err)
	return err
}

// idleEvery is how long a closed segment's files may lie open without being read.
const idleEvery = 5 * time.Minute

// dropIdle closes the files of closed segments that nobody read for a while. Why: a node
// has many more segments than it may have files open.
func (s *Store) dropIdle(context.Context) {
	for _, l := range s.Logs() {
		v := *l.view.Load()
		for _, seg := range v[:max(0, len(v)-1)] {
			if seg.sealed.Load() {
				seg.file.idle()
				seg.index.file.idle()
				seg.times.file.idle()
				seg.aborts.file.idle()
			}
		}
	}
}

// every calls f once a period until ctx ends; a period of 0 never.
func every(ctx context.Context, period time.Duration, f func(context.Context)) {
	if period <= 0 {
		return
	}
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f(ctx)
		}
	}
}

// announce tells of directories that failed since the last call; false: none is left.
func (s *Store) announce() bool {
	left := false
	for _, d := range s.dirs {
		err := d.Err()
		if err == nil {
			left = true
			continue
		}
		if d.told.Swap(true) {
			continue
		}
		s.env.online(d.path, false)
		s.env.failed(d.path, err)
		for _, l := range s.Logs() {
			if l.dir() == d {
				l.wake()
			}
		}
		if s.o.DirFailed != nil {
			s.o.DirFailed(d.path, err)
		}
	}
	return left
}

func (s *Store) allFailed() error {
	var errs []error
	for _, d := range s.dirs {
		errs = append(errs, fmt.Errorf("%q: %w", d.path, d.Err()))
	}
	return fmt.Errorf("cannot go on without a log directory: %w", errors.Join(errs...))
}

// checkpointAll writes all checkpoints and what could not be written before.
func (s *Store) checkpointAll(ctx context.Context) {
	// Why not the wall clock: if it jumped, every producer's state would be gone, and what is sent again written twice.
	now, _ := s.clock.believed()
	for _, l := range s.Logs() {
		if ctx.Err() != nil || l.Err() != nil {
			continue
		}
		l.mu.Lock()
		l.mu.producers.expire(now.UnixMilli(), s.o.ProducerExpiry.Milliseconds())
		l.mu.Unlock()
		if err := l.sealSegments(); err != nil {
			continue // the directory is offline
		}
	}
	for _, d := range s.dirs {
		if err := s.checkpoint(d, false); err != nil && d.Err() == nil {
			s.o.Logger.Warn("checkpoints were not written; the old ones stay", "dir", d.path, "error", err)
		}
	}
}

// tidy removes what is due and takes the reserves back.
func (s *Store) tidy(context.Context) {
	s.trash.empty(s.env.now())
	for _, d := range s.dirs {
		if d.Err() == nil {
			if err := d.reserve.fill(); err != nil {
				_ = d.trouble(err)
			}
		}
	}
}
