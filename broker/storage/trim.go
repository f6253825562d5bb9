package storage

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// DeleteBefore moves the log start (durably) and drops whole segments below it.
// It gives the log start there is then, which is never moved back.
// Errors: ErrOffsetOutOfRange above End; ErrFull when not even the reserve lets the start be written.
func (l *Log) DeleteBefore(o record.Offset) (start record.Offset, err error) {
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return l.Start(), err
	}
	if o > l.End() {
		l.mu.Unlock()
		return l.Start(), ErrOffsetOutOfRange
	}
	if o <= l.Start() {
		l.mu.Unlock()
		return l.Start(), nil
	}
	l.mu.newStart = max(l.mu.newStart, o)
	l.mu.Unlock()
	err = l.env.checkpoint(l.dir(), true)
	if isFull(err) {
		// Why: whole segments that go take the start with them, and give the space for the rest.
		l.chores.Lock()
		_, derr := l.dropBelowChore(o, maxSegments, "records", true)
		l.chores.Unlock()
		if derr == nil {
			err = l.env.checkpoint(l.dir(), true)
		}
	}
	if err != nil {
		l.mu.Lock()
		l.mu.newStart = 0
		l.mu.Unlock()
		return l.Start(), fmt.Errorf("cannot move the start of log %q to %d: %w", l.name, o, err)
	}
	l.chores.Lock()
	defer l.chores.Unlock()
	l.mu.Lock()
	l.moveStartLocked(o)
	l.mu.Unlock()
	_, err = l.dropBelowChore(l.Start(), maxSegments, "records", false)
	return l.Start(), err
}

// moveStartLocked makes o the log start.
func (l *Log) moveStartLocked(o record.Offset) {
	if o <= l.Start() {
		return
	}
	l.start.Store(int64(o))
	if c := l.mu.epochs.cutStart(o); !slices.Equal(c, l.mu.epochs) {
		l.mu.epochs, l.mu.epochNews = c, true
	}
}

// dropBelowChore deletes closed segments that end at or below o, the oldest first, at most n of them.
// With now their bytes are free on return, else after the delete delay. Requires: chores.
func (l *Log) dropBelowChore(o record.Offset, n int, reason string, now bool) (freed int64, err error) {
	if v := *l.view.Load(); n == 0 || len(v) < 2 || v[1].base > o {
		return 0, nil
	}
	// Why: producer state comes from a snapshot once the batches behind it are gone.
	if err := l.saveSnapshotsChore(); err != nil {
		return 0, err
	}
	for ; n > 0; n-- {
		l.mu.Lock()
		v := *l.view.Load()
		if l.mu.closed || len(v) < 2 || v[1].base > o {
			l.mu.Unlock()
			return freed, nil
		}
		s := v[0]
		l.setView(v[1:])
		l.moveStartLocked(v[1].base)
		l.mu.Unlock()
		size := s.size.Load()
		if err := l.removeSegment(s, now); err != nil {
			return freed, l.trouble("delete a segment of", err)
		}
		freed += size
		l.env.deleted(reason, size)
	}
	return freed, nil
}

// removeSegment takes a segment's files away. Why the folder is synced each time:
// segments must go in order, so that a crash leaves no gap.
func (l *Log) removeSegment(s *segment, now bool) error {
	s.gone.Store(true)
	d := l.dir().disk
	names := []string{s.name(logSuffix), s.name(indexSuffix), s.name(timeSuffix), s.name(abortSuffix), s.name(snapshotSuffix)}
	for _, name := range names {
		var err error
		if !now {
			err = d.Rename(name, name+deletedSuffix)
		}
		if now || disk.IsFull(err) { // a longer name may need a block
			err = d.Remove(name)
		} else if err == nil {
			l.env.trash.add(l.dir(), name+deletedSuffix, l.env.now().Add(l.conf.Load().DeleteDelay))
		}
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	s.drop()
	return d.Sync(l.folder)
}

// Truncate cuts the log to end at `to`, or before the batch that holds `to` (R2). At or above
// End only epochs without batches go; below the first segment it
// leaves an empty log that begins at `to`.
func (l *Log) Truncate(to record.Offset) error {
	l.chores.Lock()
	defer l.chores.Unlock()
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	if to >= l.End() {
		// Why at End too: an epoch that begins there has no batches, and may not be the leader's.
		c := l.mu.epochs.cutEnd(to)
		l.mu.epochNews = l.mu.epochNews || len(c) != len(l.mu.epochs)
		l.mu.epochs = c
		l.mu.Unlock()
		return l.saveEpochsChore()
	}
	v := *l.view.Load()
	l.mu.Unlock()
	if to < v[0].base {
		return l.cutChore(to, true)
	}
	// Why: the whole batch goes, and the recovery point must be where it begins.
	err := l.eachHeader(v[find(v, to)], to, func(b *record.Header, _ int64) bool {
		to = min(to, b.Base)
		return false
	})
	if err != nil {
		return l.readTrouble(err)
	}
	return l.cutChore(to, false)
}

// Reset makes the log an empty one that begins at `to`: for a follower whose leader no
// longer has what it needs.
func (l *Log) Reset(to record.Offset) error {
	l.chores.Lock()
	defer l.chores.Unlock()
	return l.cutChore(to, true)
}

// cutChore truncates: first the recovery point goes down, durably, so that a crash on
// the way is recovered and not taken for damage; then the segments are cut from the end.
func (l *Log) cutChore(to record.Offset, whole bool) error {
	floor := to
	if whole {
		floor = 0
	}
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	l.mu.floor = floor
	l.mu.Unlock()
	// Why chores is given up: the checkpoint takes it to save the epochs.
	l.chores.Unlock()
	err := l.env.checkpoint(l.dir(), true)
	l.chores.Lock()
	if err != nil {
		err = fmt.Errorf("cannot truncate log %q to %d: %w", l.name, to, err)
	} else if err = l.cutNow(to, whole); err == nil {
		err = l.saveEpochsChore()
	}
	l.mu.Lock()
	l.mu.floor = math.MaxInt64
	l.mu.Unlock()
	return err
}

// cutNow cuts, once a crash is harmless.
func (l *Log) cutNow(to record.Offset, whole bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.readyLocked()
	if err != nil {
		return err
	}
	l.cuts.Add(1)
	defer l.cuts.Add(1)
	whole = whole || to < (*l.view.Load())[0].base
	if whole {
		err = l.restartLocked(to)
	} else {
		err = l.cutLocked(to)
	}
	if err != nil {
		// Why not only trouble: a log that is half cut must not be appended to.
		if rotten(err) {
			l.quarantine(err)
			return ErrOffline
		}
		l.dir().fail(err)
		return l.trouble("truncate", err)
	}
	return nil
}

// cutsSoFar gives what cutSince compares with, once no truncation runs.
func (l *Log) cutsSoFar() int64 {
	for {
		if n := l.cuts.Load(); n%2 == 0 {
			return n
		}
		l.awaitCut()
	}
}

// cutSince tells, after the end of it, whether the log was truncated since cutsSoFar gave n.
// What a reader found meanwhile, and what it did not find, says nothing of the disk.
func (l *Log) cutSince(n int64) bool {
	if l.cuts.Load() == n {
		return false
	}
	l.awaitCut()
	return true
}

// awaitCut waits for a truncation: it holds the lock.
func (l *Log) awaitCut() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

// cutLocked cuts the segments at the batch that holds `to`.
func (l *Log) cutLocked(to record.Offset) error {
	v := *l.view.Load()
	n := find(v, to)
	for i := len(v) - 1; i > n; i-- {
		if err := l.removeSegment(v[i], false); err != nil {
			return err
		}
	}
	s := v[n]
	end, err := l.cutSegment(s, to)
	if err != nil {
		return err
	}
	return l.endsAtLocked(v[:n+1:n+1], end)
}

// cutSegment makes a segment end before the batch that holds `to` and makes it ready for appends.
func (l *Log) cutSegment(s *segment, to record.Offset) (record.Offset, error) {
	h, err := s.take()
	if err != nil {
		return 0, err
	}
	defer h.Release()
	first, pos, err := s.seek(h, to, s.size.Load())
	end := to
	switch {
	case errors.Is(err, io.EOF):
		pos = s.size.Load()
	case err != nil:
		return 0, err
	default:
		end = min(to, first.Base)
	}
	if err := h.Truncate(pos); err != nil {
		return 0, err
	}
	if err := h.Sync(); err != nil {
		return 0, err
	}
	s.size.Store(pos)
	s.end.Store(int64(end))
	s.synced.Store(pos)
	s.old.Store(min(s.old.Load(), pos))
	s.proven.Store(min(s.proven.Load(), pos))
	s.sealed.Store(false)
	if err := s.cutAborts(end); err != nil {
		return 0, err
	}
	return end, l.reindex(s)
}

// reindex makes a segment's indexes and times anew from its batches.
func (l *Log) reindex(s *segment) error {
	s.hint.Store(0)
	s.tail.Store(0)
	s.index.clear()
	s.times.clear()
	for _, x := range []*index{&s.index, &s.times} {
		// Why: entries behind the end must not be on disk when the segment counts as closed.
		if err := x.save(true); err != nil && !isFull(err) {
			return err
		}
	}
	keep := s.keepTime.Load()
	s.maxTime.Store(-1)
	s.maxRel.Store(-1)
	s.keepTime.Store(-1)
	s.firstTime.Store(0)
	s.unindexed = 0
	interval := l.conf.Load().IndexInterval
	return l.eachHeader(s, s.base, func(b *record.Header, pos int64) bool {
		s.note(b, pos, keep, interval)
		return true
	})
}

// restartLocked replaces all segments by an empty one that begins at `to`.
func (l *Log) restartLocked(to record.Offset) error {
	v := *l.view.Load()
	for i := len(v) - 1; i >= 0; i-- {
		if err := l.removeSegment(v[i], true); err != nil {
			return err
		}
	}
	s := newSegment(l.dir().disk, l.folder, to)
	if err := l.dir().must(0, s.create); err != nil {
		return err
	}
	l.startSegment(s)
	l.start.Store(int64(to))
	if err := l.endsAtLocked([]*segment{s}, to); err != nil {
		return err
	}
	// Why: there is nothing to flush, its names are on disk, and no append may come before
	// somebody sees that.
	l.synced.Store(int64(to))
	return nil
}

// endsAtLocked makes v the segments and brings everything else in line with their end.
func (l *Log) endsAtLocked(v []*segment, end record.Offset) error {
	l.mu.turn++
	l.mu.changed = true
	l.setView(v)
	l.end.Store(int64(end))
	l.synced.Store(int64(min(record.Offset(l.synced.Load()), end)))
	l.start.Store(int64(min(l.Start(), end)))
	l.mu.newStart = min(l.mu.newStart, end)
	l.mu.epochs, l.mu.epochNews = l.mu.epochs.cutEnd(end), true
	l.mu.snapshots = slices.DeleteFunc(l.mu.snapshots, func(p pendingSnapshot) bool { return p.at > end })
	return l.reproduceLocked(end)
}

// reproduceLocked makes the producer state anew after a cut: newest snapshot, then the batches behind it.
func (l *Log) reproduceLocked(end record.Offset) error {
	r := &recovery{l: l, v: *l.view.Load(), next: end}
	entries, err := l.dir().disk.List(l.folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if at, ok := baseOf(e.Name, snapshotSuffix); ok {
			r.snaps = append(r.snaps, at)
		}
	}
	l.mu.producers = newProducers()
	if err := r.producers(); err != nil {
		return err
	}
	return l.dir().disk.Sync(l.folder)
}
