package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// flushWorkers is how many logs are synced at the same time. Why: a file system's
// journal commits what several callers wait for in one go, so a few in parallel cost
// little more than one.
const flushWorkers = 8

// flushRetry is when a flush comes again that failed for something that passes.
const flushRetry = time.Second

// flushQueue holds the logs that wait for a sync, each once. Its length is bounded by
// the number of logs.
type flushQueue struct {
	mu struct {
		sync.Mutex
		logs []*Log // those from next on wait
		next int
	}
	wake chan struct{} // capacity flushWorkers: one token a worker that may have to look
}

func newFlushQueue() *flushQueue {
	return &flushQueue{wake: make(chan struct{}, flushWorkers)}
}

func (q *flushQueue) push(l *Log) {
	q.mu.Lock()
	if q.mu.next > 0 && len(q.mu.logs) == cap(q.mu.logs) {
		n := copy(q.mu.logs, q.mu.logs[q.mu.next:])
		clear(q.mu.logs[n:])
		q.mu.logs, q.mu.next = q.mu.logs[:n], 0
	}
	q.mu.logs = append(q.mu.logs, l)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flushQueue) pop() *Log {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.next == len(q.mu.logs) {
		return nil
	}
	l := q.mu.logs[q.mu.next]
	q.mu.logs[q.mu.next] = nil
	if q.mu.next++; q.mu.next == len(q.mu.logs) {
		q.mu.logs, q.mu.next = q.mu.logs[:0], 0 // Why: each append to a log that is flushed at once comes by here
	}
	return l
}

// work flushes queued logs until ctx ends and the queue is empty.
func (q *flushQueue) work(ctx context.Context) {
	for {
		if l := q.pop(); l != nil {
			l.queued.Store(flushRuns)
			l.flushQueued()
			if !l.queued.CompareAndSwap(flushRuns, flushIdle) {
				l.queued.Store(flushWaits)
				q.push(l)
			}
			continue
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return
		}
	}
}

// States of a log in the flush queue. Only one worker has a log at a time: what is
// appended while it syncs is collected by the next round.
const (
	flushIdle  = iota
	flushWaits // queued
	flushRuns  // a worker has it
	flushAgain // a worker has it, and it is to be queued again
)

// queueFlush asks a worker to flush the log.
func (l *Log) queueFlush() {
	for {
		switch l.queued.Load() {
		case flushWaits, flushAgain:
			return
		case flushRuns:
			if l.queued.CompareAndSwap(flushRuns, flushAgain) {
				return
			}
		case flushIdle:
			if l.queued.CompareAndSwap(flushIdle, flushWaits) {
				l.env.flushes.push(l)
				return
			}
		}
	}
}

// flushWhenDueLocked looks at flush.messages and flush.ms after an append.
func (l *Log) flushWhenDueLocked(c *LogConfig) {
	if c.FlushMessages > 0 && l.end.Load()-l.synced.Load() >= c.FlushMessages {
		l.queueFlush()
	} else if c.FlushEvery > 0 && !l.mu.timed {
		l.mu.timed = true
		l.timer.Reset(c.FlushEvery)
	}
}

// flushQueued is a worker's flush: trouble has already taken the directory offline.
func (l *Log) flushQueued() {
	err := l.flush()
	switch {
	case err == nil, errors.Is(err, ErrClosed), errors.Is(err, ErrOffline):
	default:
		l.env.logger.Warn("log was not flushed, trying again", "partition", l.name.String(), "after", flushRetry, "error", err)
		// Why: producers and offset commits wait for it, and no further append may come.
		l.timer.Reset(flushRetry)
	}
}

// Flush waits until everything appended so far is on disk.
func (l *Log) Flush() error { return l.flush() }

// flush syncs what was appended so far: the segments in order, then their names. It
// holds no lock while the disk works, so that appends go on and are collected by the next one.
func (l *Log) flush() error {
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	l.mu.timed = false
	target, turn := l.end.Load(), l.mu.turn
	var todo []*segment
	v := *l.view.Load()
	for i := len(v) - 1; i >= 0 && !v[i].sealed.Load(); i-- {
		todo = append(todo, v[i])
	}
	closed := len(todo) > 1 || len(l.mu.snapshots) > 0
	l.mu.Unlock()

	sizes := make([]int64, len(todo))
	for i := len(todo) - 1; i >= 0; i-- {
		var err error
		if sizes[i], err = l.syncSegment(todo[i]); err != nil {
			return l.trouble("flush", err)
		}
	}
	if err := l.syncNames(todo); err != nil {
		return l.trouble("flush", err)
	}
	l.mu.Lock()
	advanced := turn == l.mu.turn && target > l.synced.Load()
	if turn == l.mu.turn {
		for i, s := range todo {
			s.synced.Store(max(s.synced.Load(), sizes[i]))
		}
		l.synced.Store(max(target, l.synced.Load()))
	}
	l.mu.Unlock()
	if advanced && l.conf.Load().FlushMessages == 1 {
		l.wake()
	}
	if closed {
		return l.sealSegments()
	}
	return nil
}

// syncSegment brings the bytes of a segment to disk and tells how many these are.
func (l *Log) syncSegment(s *segment) (int64, error) {
	size := s.size.Load()
	if s.synced.Load() >= size {
		return size, nil
	}
	h, err := s.take()
	if err != nil {
		if s.gone.Load() {
			return size, nil
		}
		return 0, err
	}
	defer h.Release()
	began := time.Now()
	err = h.Sync()
	l.env.flushed(time.Since(began), err)
	if err != nil && s.dir != l.dir().disk {
		return size, nil // Why: a move has made it durable elsewhere, and this says nothing of that disk
	}
	return size, l.dir().unsynced(err)
}

// syncNames brings the names of new segments to disk.
func (l *Log) syncNames(todo []*segment) error {
	news := false
	for _, s := range todo {
		news = news || !s.named.Load()
	}
	if !news {
		return nil
	}
	if err := l.dir().disk.Sync(l.folder); disk.IsAbsent(err) {
		return err
	} else if err != nil {
		return l.dir().unsynced(err)
	}
	for _, s := range todo {
		s.named.Store(true)
	}
	return nil
}

// sealSegments writes, durably, the indexes of closed segments and the producer
// snapshots that wait. A full disk leaves them in memory for the next time.
func (l *Log) sealSegments() error {
	l.chores.Lock()
	defer l.chores.Unlock()
	return l.sealChore()
}

// sealChore is sealSegments. Requires: chores.
func (l *Log) sealChore() error {
	v := *l.view.Load()
	for _, s := range v[:len(v)-1] {
		if s.sealed.Load() || s.synced.Load() < s.size.Load() || !s.named.Load() {
			continue
		}
		err := s.trim()
		if err == nil {
			err = s.index.save(true)
		}
		if err == nil {
			err = s.times.save(true)
		}
		if err == nil {
			err = s.saveAborts(true)
		}
		if err == nil {
			err = l.dir().disk.Sync(l.folder)
		}
		if disk.IsFull(err) {
			return nil
		}
		if err != nil {
			return l.trouble("write the indexes of", err)
		}
		s.index.release()
		s.times.release()
		s.aborts.release()
		s.sealed.Store(true)
	}
	return l.saveSnapshotsChore()
}

// saveSnapshotsChore writes the producer snapshots that wait. Requires: chores.
func (l *Log) saveSnapshotsChore() error {
	for {
		l.mu.Lock()
		if len(l.mu.snapshots) == 0 {
			l.mu.snapshots = nil
			l.mu.Unlock()
			return nil
		}
		p := l.mu.snapshots[0]
		l.mu.Unlock()
		// Why: the state must not claim batches that the log may lose; the log's end is
		// compared at recovery, and a snapshot above it is dropped.
		err := disk.WriteAtomic(l.dir().disk, fileName(l.folder, p.at, snapshotSuffix), p.content)
		if disk.IsFull(err) {
			return nil
		}
		if err != nil {
			return l.trouble("write a producer snapshot of", err)
		}
		l.mu.Lock()
		if len(l.mu.snapshots) > 0 && l.mu.snapshots[0].at == p.at {
			l.mu.snapshots = l.mu.snapshots[1:]
		}
		l.mu.Unlock()
	}
}

// writeAtomic puts a small file into the log's folder.
func (l *Log) writeAtomic(name string, content []byte) error {
	return disk.WriteAtomic(l.dir().disk, l.folder+"/"+name, content)
}

func isFull(err error) bool { return disk.IsFull(err) || errors.Is(err, ErrFull) }

// recoveryPoint gives the offset below which everything, the indexes included, is on
// disk. Requires: mu.
func (l *Log) recoveryPointLocked() record.Offset {
	at := min(record.Offset(l.synced.Load()), l.mu.floor)
	v := *l.view.Load()
	for _, s := range v[:max(0, len(v)-1)] {
		if !s.sealed.Load() {
			return min(at, s.base)
		}
	}
	return at
}
