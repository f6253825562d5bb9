package storage

import (
	"context"
	"fmt"
	"math"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// commit makes the copy the log. It is not done if too much came meanwhile.
//
// With chores held no file goes or comes but by appends: everything small is copied, and
// the checkpoints of the new directory learn of the log. With mu held too the last bytes
// follow, then the folder gets its name: that rename, on disk, is the change.
func (m *move) commit(ctx context.Context, s *Store) (done bool, err error) {
	s.moves.commit.Lock()
	defer s.moves.commit.Unlock()
	l := m.log
	l.chores.Lock()
	defer l.chores.Unlock()
	if err := m.halted(ctx); err != nil {
		return false, err
	}
	if left, err := m.catchUp(ctx); err != nil || left > moveNear {
		return false, err
	}
	if err := m.copyRest(0); err != nil {
		return false, err
	}
	if m.truncated() {
		return false, nil
	}
	if err := m.announce(s); err != nil {
		return false, err
	}
	if _, err := m.catchUp(ctx); err != nil { // that took a few syncs
		return false, err
	}
	old, done, err := m.changeOver(ctx, s)
	for _, seg := range old {
		seg.drop()
	}
	if done {
		l.wake()
	}
	return done, err
}

// announce writes the epochs and has the checkpoints of the new directory tell of the log.
func (m *move) announce(s *Store) error {
	l := m.log
	l.mu.Lock()
	epochs := l.mu.epochs.lines()
	at := &arrival{
		point: m.point(), start: max(l.Start(), l.mu.newStart), high: l.HighWatermark(),
		cleaned: record.Offset(l.cleaned.Load()), compact: l.conf.Load().Compact,
	}
	l.mu.Unlock()
	err := disk.WriteAtomic(m.to.disk, m.folder+"/"+epochFile, encodeLines(epochs))
	if err == nil {
		err = m.to.disk.Sync(m.folder)
	}
	if err != nil {
		return m.to.trouble(err)
	}
	m.lines.Store(at)
	return s.checkpoint(m.to, false)
}

// point gives the offset below which all of the copy is on disk, indexes included.
func (m *move) point() record.Offset {
	for _, c := range m.copies[:len(m.copies)-1] {
		if !c.whole {
			return c.from.base
		}
	}
	return m.copies[len(m.copies)-1].next
}

// changeOver copies the last bytes and puts the copy in the place of the log. It gives the
// segments that are not the log's any more. Requires: chores.
func (m *move) changeOver(ctx context.Context, s *Store) (old []*segment, done bool, err error) {
	l := m.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := m.halted(ctx); err != nil {
		return nil, false, err
	}
	if l.moving.Load() != m || l.mu.closed || l.mu.draining {
		return nil, false, errMoveStopped
	}
	if l.mu.turn != m.turn || l.mu.floor != math.MaxInt64 || l.mu.newStart > m.lines.Load().start {
		return nil, false, nil
	}
	if m.behind() > mostAtOnce {
		return nil, false, nil
	}
	tail := l.active().base
	if n := len(m.copies); n > 0 {
		tail = m.copies[n-1].from.base
	}
	m.hurry = true
	_, err = m.catchUp(ctx)
	m.hurry = false
	if err != nil {
		return nil, false, err
	}
	if err := m.copyRest(tail); err != nil {
		return nil, false, err
	}
	for _, c := range m.copies {
		if err := m.adopt(c); err != nil {
			return nil, false, err
		}
	}
	if err := m.to.disk.Sync(m.folder); err != nil {
		return nil, false, m.to.unsynced(err)
	}
	if err := m.rename(); err != nil {
		return nil, false, err
	}
	return m.publishLocked(s), true, nil
}

// behind gives how much the copy lacks.
func (m *move) behind() int64 { return m.log.Size() - m.size.Load() }

// adopt gives a segment's copy what the segment has in memory. Requires: mu.
func (m *move) adopt(c *copied) error {
	from, to := c.from, c.to
	if !c.whole {
		if err := m.indexes(c); err != nil {
			return err
		}
	}
	to.end.Store(from.end.Load())
	to.maxTime.Store(from.maxTime.Load())
	to.maxRel.Store(from.maxRel.Load())
	to.keepTime.Store(from.keepTime.Load())
	to.firstTime.Store(from.firstTime.Load())
	to.hint.Store(from.hint.Load())
	to.tail.Store(from.tail.Load())
	to.unindexed, to.jitter = from.unindexed, from.jitter
	to.sealed.Store(c.whole)
	to.named.Store(true)
	return nil
}

// rename gives the copy the log's name. If it is not known whether that is on disk, the old
// folder is made to count more, so that it stays the log.
func (m *move) rename() error {
	l, d := m.log, m.to.disk
	err := d.Rename(m.folder, l.folder)
	if err == nil {
		if err = d.Sync("."); err == nil {
			return nil
		}
		err = m.to.unsynced(err)
	} else {
		err = m.to.trouble(err)
	}
	n := l.moves.Load() + 2
	if werr := writeMoves(l.dir().disk, l.folder, n); werr != nil {
		// Why: two folders may claim to be the log now, so neither may be written to.
		l.dir().fail(werr)
		return fmt.Errorf("%w, and the old folder could not be kept the log: %w", err, werr)
	}
	l.moves.Store(n)
	return err
}

// publishLocked makes the copy the log in memory and takes the old folder away.
// Requires: chores and mu.
func (m *move) publishLocked(s *Store) (old []*segment) {
	l := m.log
	from, lines := l.dir(), m.lines.Load()
	old = *l.view.Load()
	v := make([]*segment, len(m.copies))
	for i, c := range m.copies {
		c.to.folder = l.folder
		c.to.index.name, c.to.times.name, c.to.aborts.name = c.to.name(indexSuffix), c.to.name(timeSuffix), c.to.name(abortSuffix)
		c.used = true
		v[i] = c.to
	}
	for _, seg := range old {
		seg.gone.Store(true)
	}
	l.home.Store(m.to)
	l.setView(v)
	l.moves.Add(1)
	l.synced.Store(l.end.Load())
	l.settled.Store(int64(lines.point))
	l.mu.point, l.mu.changed, l.mu.epochNews = lines.point, true, true
	l.moving.Store(nil)
	m.to.logs.Add(1)
	from.logs.Add(-1)
	if err := s.discardFolder(from, l.folder, 0); err != nil {
		// Why: appends go on elsewhere, and what is left here must never be served again.
		from.fail(fmt.Errorf("cannot remove what was moved away: %w", err))
	}
	return old
}
