package storage

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Bounds of what retention believes of the wall clock (R24).
const (
	// clockSlack is by how much the wall clock may run ahead of the time that has truly passed.
	clockSlack = time.Minute
	// clockDrift is how much faster than the monotonic clock it may run: a clock that was set
	// forward by d is believed after 10·d, and deletes at most a tenth faster meanwhile.
	clockDrift = 10
)

// retentionClock is the wall clock that never jumps forward: it starts with the wall
// clock's time and follows it only as fast as the monotonic clock lets it.
type retentionClock struct {
	wall   func() time.Time
	base   time.Time // wall clock at the start, without the monotonic reading
	start  time.Time // with the monotonic reading
	behind atomic.Bool
}

func newRetentionClock(wall func() time.Time) *retentionClock {
	// Why Round: times that both have a monotonic reading are compared by that, which shows no jump.
	return &retentionClock{wall: wall, base: wall().Round(0), start: time.Now()}
}

// now gives the time, and whether the wall clock is not believed for the first time since it was.
func (c *retentionClock) now() (now time.Time, jumped bool) {
	now, ahead := c.believed()
	return now, !c.behind.Swap(ahead) && ahead
}

// believed gives the time, and whether the wall clock is ahead of what is believed of it.
func (c *retentionClock) believed() (now time.Time, ahead bool) {
	passed := time.Since(c.start)
	most := c.base.Add(passed + passed/clockDrift + clockSlack)
	if now = c.wall(); now.After(most) {
		return most, true
	}
	return now, false
}

// retainAll deletes what retention no longer keeps, log by log.
func (s *Store) retainAll(ctx context.Context) {
	now, jumped := s.clock.now()
	if jumped {
		s.o.Logger.Warn("the clock jumped forward; retention goes on by the time that has truly passed", "clock", s.env.now(), "retention", now)
	}
	for _, l := range s.Logs() {
		if ctx.Err() != nil {
			return
		}
		if l.Err() != nil {
			continue
		}
		if err := l.retain(now.UnixMilli()); err != nil && l.Err() == nil {
			s.o.Logger.Warn("retention did not get through", "partition", l.name.String(), "error", err)
		}
	}
}

// retain deletes closed segments by time, then by size.
func (l *Log) retain(now int64) error {
	c := l.conf.Load()
	l.chores.Lock()
	defer l.chores.Unlock()
	if !c.Delete {
		_, err := l.dropBelowChore(l.Start(), maxSegments, "records", false)
		return err
	}
	if err := l.rollExpired(now, c); err != nil {
		return err
	}
	_, err := l.dropBelowChore(max(l.Start(), l.retained(now, c)), maxSegments, "retention", false)
	return err
}

// maxSegments is as many as there are.
const maxSegments = 1<<31 - 1

// expired tells whether all of a segment is older than the retention time.
func (s *segment) expired(now int64, c *LogConfig) bool {
	return c.RetentionAge >= 0 && s.size.Load() > 0 && now-s.keepTime.Load() > c.RetentionAge.Milliseconds()
}

// rollExpired closes an active segment that is older than the retention time, so that it can go.
func (l *Log) rollExpired(now int64, c *LogConfig) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readyLocked() != nil {
		return nil
	}
	if s := l.active(); !s.expired(now, c) || l.HighWatermark() < l.End() {
		return nil
	}
	_, err := l.rollLocked()
	return err
}

// retained gives the first offset that retention keeps. It is pure but for what it looks at.
func (l *Log) retained(now int64, c *LogConfig) record.Offset {
	v := *l.view.Load()
	high := l.HighWatermark()
	excess := int64(-1)
	if c.RetentionBytes >= 0 {
		excess = l.Size() - c.RetentionBytes
	}
	for i, s := range v {
		size := s.size.Load()
		last := i == len(v)-1
		if last || v[i+1].base > high || !s.expired(now, c) && excess < size {
			return s.base
		}
		excess -= size
	}
	return 0
}

// FreeOldest is the guard's delete: closed segments, oldest by largest timestamp first, over all partitions but internal ones, until bytes are freed; rolls active segments first when the rest is not enough.
// The space is free on return: no delete delay, and what waits for one goes too.
//
// Before anything of a log goes, may is asked whether what is below an offset, which is never
// above the high watermark, may go; a log for which it says no is left alone for this call. It
// may have that deleted itself. Nil: all may go. No lock is held meanwhile.
//
// Errors: of ctx, of the disk; with freed < bytes and no error there was nothing more to delete.
func (s *Store) FreeOldest(ctx context.Context, bytes int64, may func(p topic.Partition, below record.Offset) bool) (freed int64, err error) {
	kept := map[*Log]bool{}
	s.trash.empty(s.env.now().Add(100 * 365 * 24 * time.Hour))
	defer s.tidy(ctx)
	for roll := false; freed < bytes; {
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		l, below := s.oldest(roll, kept)
		if l == nil {
			if roll {
				return freed, nil
			}
			roll = true
			continue
		}
		size := l.Size()
		if may != nil && !may(l.Partition(), below) {
			kept[l] = true
			continue
		}
		n, err := l.freeFirst(roll, below)
		if n == 0 && err == nil {
			kept[l] = l.Start() < below // else it is done: whoever said that it may go has deleted it
			n = max(0, size-l.Size())
			s.trash.empty(s.env.now().Add(100 * 365 * 24 * time.Hour))
		}
		freed += n
		if err != nil && l.Err() == nil {
			return freed, err
		}
	}
	return freed, nil
}

// oldest gives the log whose first segment may be freed and has the smallest largest
// timestamp, and the end of that; with active also one whose first segment is its active one.
func (s *Store) oldest(active bool, kept map[*Log]bool) (best *Log, below record.Offset) {
	var bestTime int64
	for _, l := range s.Logs() {
		if l.Err() != nil || l.conf.Load().Internal || kept[l] {
			continue
		}
		v := *l.view.Load()
		end := record.Offset(v[0].end.Load())
		if len(v) > 1 {
			end = v[1].base
		}
		if len(v) == 1 && (!active || v[0].size.Load() == 0) || end > l.HighWatermark() {
			continue
		}
		if t := v[0].keepTime.Load(); best == nil || t < bestTime {
			best, bestTime, below = l, t, end
		}
	}
	return best, below
}

// freeFirst deletes the first segment if all of it is below an offset, rolled before if it is
// the active one.
func (l *Log) freeFirst(roll bool, below record.Offset) (int64, error) {
	l.chores.Lock()
	defer l.chores.Unlock()
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	if v := *l.view.Load(); len(v) == 1 && roll && v[0].size.Load() > 0 {
		// Why from the reserve: the new file's name may need a block that the disk does not have.
		if _, err := l.rollFromLocked(true); err != nil {
			l.mu.Unlock()
			return 0, err
		}
	}
	v := *l.view.Load()
	l.mu.Unlock()
	if len(v) < 2 || v[1].base > below {
		return 0, nil
	}
	return l.dropBelowChore(v[1].base, 1, "capacity", true)
}
