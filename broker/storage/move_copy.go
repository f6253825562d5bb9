package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

const (
	// moveStep is how much is copied at a time.
	moveStep = 1 << 20
	// moveNear is how much may be left when the change begins, mostAtOnce how much while appends wait for it.
	// Why so much: a fast producer writes some megabytes while the change is prepared.
	moveNear   = 4 << 20
	mostAtOnce = 64 << 20
)

// copied is one segment and its copy.
type copied struct {
	from, to *segment
	next     record.Offset // behind the last batch that was copied and found good
	epoch    record.Epoch
	whole    bool // from was closed for good, and the copy has all of it, on disk
	used     bool // the copy belongs to the log
}

// catchUp brings the copy to where the log is now, on disk, and tells how much came meanwhile.
func (m *move) catchUp(ctx context.Context) (left int64, err error) {
	if err := m.align(); err != nil {
		return 0, err
	}
	for _, c := range m.copies {
		if err := m.copy(ctx, c); err != nil {
			return 0, err
		}
	}
	for _, s := range *m.log.view.Load() {
		left += s.size.Load()
	}
	return left - m.size.Load(), nil
}

// align gives each segment of the log a copy, and drops those whose segment went.
func (m *move) align() error {
	v := *m.log.view.Load()
	have := map[*segment]*copied{}
	for _, c := range m.copies {
		if slices.Contains(v, c.from) {
			have[c.from] = c
			continue
		}
		c.to.drop()
		if err := m.remove(c.to.base); err != nil {
			return m.to.trouble(err)
		}
	}
	next := make([]*copied, len(v))
	for i, s := range v {
		if next[i] = have[s]; next[i] != nil {
			continue
		}
		c := &copied{from: s, to: newSegment(m.to.disk, m.folder, s.base), next: s.base, epoch: -1}
		if err := c.to.create(); err != nil {
			return m.to.trouble(err)
		}
		next[i] = c
	}
	m.copies = next
	m.note()
	return nil
}

// remove removes the files of a segment's copy.
func (m *move) remove(base record.Offset) error {
	entries, err := m.to.disk.List(m.folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(m.folder+"/"+e.Name, fileName(m.folder, base, ".")) {
			if err := m.to.disk.Remove(m.folder + "/" + e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// copy brings one segment's copy up to date, durably.
func (m *move) copy(ctx context.Context, c *copied) error {
	if c.whole {
		return nil
	}
	sealed := c.from.sealed.Load() // before the size: nothing comes after it
	target := c.from.size.Load()
	if c.to.size.Load() == target && !sealed {
		return nil
	}
	from, err := c.from.take()
	if err != nil {
		return m.sourceTrouble(c, err)
	}
	defer from.Release()
	to, err := c.to.take()
	if err != nil {
		return m.to.trouble(err)
	}
	defer to.Release()
	buf := make([]byte, min(moveStep, max(1, target-c.to.size.Load())))
	for at := c.to.size.Load(); at < target; {
		if err := m.halted(ctx); err != nil {
			return err
		}
		began := time.Now()
		b := buf[:min(int64(len(buf)), target-at)]
		if n, err := from.ReadAt(b, at); n < len(b) {
			return m.sourceTrouble(c, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if _, err := to.WriteAt(b, at); err != nil {
			return m.to.trouble(err)
		}
		at += int64(len(b))
		if err := m.pause(ctx, len(b), time.Since(began)); err != nil {
			return err
		}
	}
	if err := m.check(c, to, target); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return m.to.unsynced(err)
	}
	c.to.size.Store(target)
	c.to.synced.Store(target)
	c.to.proven.Store(target)
	m.note()
	if sealed {
		return m.seal(c)
	}
	return nil
}

// check proves what was copied batch by batch (R21).
func (m *move) check(c *copied, f io.ReaderAt, size int64) error {
	k := checker{f: f, pos: c.to.size.Load(), size: size, next: c.next, epoch: c.epoch}
	if err := k.rest(); errors.As(err, new(errDamaged)) {
		return fmt.Errorf("segment %q: what was copied is not good: %w", c.from.name(logSuffix), err)
	} else if err != nil {
		return m.to.trouble(err)
	}
	c.next, c.epoch = k.next, k.epoch
	return nil
}

// seal gives the copy of a closed segment its indexes, durably.
func (m *move) seal(c *copied) error {
	if err := m.indexes(c); err != nil {
		return err
	}
	for _, x := range []*index{&c.to.index, &c.to.times} {
		if err := x.save(true); err != nil {
			return m.to.trouble(err)
		}
		x.release()
		x.file.drop()
	}
	if err := c.to.saveAborts(true); err != nil {
		return m.to.trouble(err)
	}
	c.to.aborts.release()
	c.to.aborts.file.drop()
	c.to.file.drop()
	c.whole = true
	return nil
}

// indexes copies the entries of all indexes.
func (m *move) indexes(c *copied) error {
	for _, x := range [][2]*index{{&c.from.index, &c.to.index}, {&c.from.times, &c.to.times}, {&c.from.aborts, &c.to.aborts}} {
		mem, err := x[0].entries()
		if err != nil {
			return m.sourceTrouble(c, err)
		}
		x[1].mu.Lock()
		x[1].mem, x[1].n = mem, len(mem)/x[1].width
		x[1].mu.Unlock()
	}
	return nil
}

// entries gives a copy of all entries.
func (x *index) entries() ([]byte, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	b := make([]byte, x.n*x.width)
	if x.mem != nil {
		copy(b, x.mem)
		return b, nil
	}
	if x.n == 0 {
		return b, nil
	}
	h, err := x.file.take(x.open)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	if n, err := h.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("cannot read index %q: %w", x.name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return b, nil
}

// sourceTrouble draws the consequences of a segment that cannot be read: one that went
// meanwhile is no trouble, and the next round does without it.
func (m *move) sourceTrouble(c *copied, err error) error {
	if c.from.gone.Load() || disk.IsAbsent(err) && !slices.Contains(*m.log.view.Load(), c.from) {
		return nil
	}
	if rotten(err) {
		return fmt.Errorf("segment %q: %w", c.from.name(logSuffix), err)
	}
	return m.log.trouble("move", err)
}

// pause keeps to the pace that is allowed: n bytes were copied and took so long already.
func (m *move) pause(ctx context.Context, n int, took time.Duration) error {
	if m.pace == nil || m.hurry {
		return nil
	}
	rate := m.pace()
	if rate <= 0 {
		return nil
	}
	wait := time.Duration(float64(n)/float64(rate)*float64(time.Second)) - took
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyRest copies the small files that belong to segments at or above base (producer
// snapshots), those that the copy lacks or that grew.
func (m *move) copyRest(base record.Offset) error {
	l := m.log
	entries, err := l.dir().disk.List(l.folder)
	if err != nil {
		return l.trouble("move", err)
	}
	for _, e := range entries {
		digits, suffix, ok := strings.Cut(e.Name, ".")
		at, number := baseOf(digits, "")
		if !ok || !number || at < base || slices.Contains(notRest, "."+suffix) || strings.Contains(suffix, ".") {
			continue
		}
		content, err := disk.ReadFile(l.dir().disk, l.folder+"/"+e.Name)
		if err != nil {
			return l.trouble("move", err)
		}
		name := m.folder + "/" + e.Name
		if info, err := m.to.disk.Stat(name); err == nil && info.Size == int64(len(content)) {
			continue
		}
		if err := disk.WriteAtomic(m.to.disk, name, content); err != nil {
			return m.to.trouble(err)
		}
	}
	return nil
}

// notRest are files that are copied in another way.
var notRest = []string{logSuffix, indexSuffix, timeSuffix, abortSuffix}
