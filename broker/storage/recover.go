package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// found is what the checkpoints say of a log that is being opened.
type found struct {
	recovery, start, high, cleaned record.Offset
	unknown                        bool // recovery is not known: its file is damaged
	clean                          bool // the directory was shut down cleanly
}

// recovery opens one log: what lies below the recovery point is trusted, the rest is
// read, checked, cut where it stops to be whole, and synced (R20).
type recovery struct {
	l     *Log
	found found
	v     []*segment

	next     record.Offset // behind the last good batch
	epoch    record.Epoch  // of the last batch that was checked
	epochs   epochs
	rebuild  bool // the epoch cache comes from the batches, not from its file
	snaps    []record.Offset
	remake   map[*segment]bool // their indexes of aborted transactions come from the batches
	scanned  bool              // something was not trusted
	changed  bool              // the folder is not as it was found
	cutBytes int64
}

// errDamage is what makes a log go offline alone.
var errDamage = errors.New("data below the recovery point is damaged")

// recover reads the log's folder and makes the log ready.
// Errors: errDamage (quarantine the log), all else is trouble with the disk.
func (l *Log) recover(f found) error {
	r := &recovery{l: l, found: f, epoch: -1, remake: map[*segment]bool{}}
	bases, err := r.tidy()
	if err != nil {
		return err
	}
	if err := r.readEpochs(); err != nil {
		return err
	}
	if err := r.segments(bases); err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	if r.cutBytes > 0 {
		l.env.logger.Warn("cut what was not wholly written before the crash", "partition", l.name.String(), "bytes", r.cutBytes, "end", int64(l.End()))
	}
	return nil
}

// tidy removes what a crash left over and gives the segments' first offsets.
func (r *recovery) tidy() ([]record.Offset, error) {
	d, folder := r.l.dir().disk, r.l.folder
	if err := finishSwaps(d, folder); err != nil {
		return nil, err
	}
	entries, err := d.List(folder)
	if err != nil {
		return nil, err
	}
	var bases []record.Offset
	for _, e := range entries {
		name := folder + "/" + e.Name
		switch {
		case strings.HasSuffix(e.Name, deletedSuffix), strings.HasSuffix(e.Name, cleanedSuffix), strings.HasSuffix(e.Name, tmpSuffix):
			if err := r.l.dir().remove(name); err != nil {
				return nil, err
			}
		case strings.HasSuffix(e.Name, logSuffix):
			if base, ok := baseOf(e.Name, logSuffix); ok {
				bases = append(bases, base)
			}
		case strings.HasSuffix(e.Name, snapshotSuffix):
			if at, ok := baseOf(e.Name, snapshotSuffix); ok {
				r.snaps = append(r.snaps, at)
			}
		}
	}
	slices.Sort(bases)
	slices.Sort(r.snaps)
	return bases, nil
}

// baseOf reads the offset in a file's name.
func baseOf(name, suffix string) (record.Offset, bool) {
	digits := strings.TrimSuffix(name, suffix)
	n, err := strconv.ParseInt(digits, 10, 64)
	return record.Offset(n), err == nil && len(digits) == 20 && n >= 0
}

// readEpochs takes the epoch cache from its file. A lost or damaged one is made anew from the batches.
func (r *recovery) readEpochs() error {
	name := r.l.folder + "/" + epochFile
	b, err := disk.ReadFile(r.l.dir().disk, name)
	if disk.IsAbsent(err) {
		r.rebuild = true
		return nil
	}
	if err != nil {
		return err
	}
	lines, err := decodeLines(b)
	if err == nil {
		r.epochs, err = readEpochs(lines)
	}
	if err != nil {
		r.l.env.corruption("checkpoint")
		r.l.env.logger.Error("epoch cache is damaged and made anew from the batches", "partition", r.l.name.String(), "error", err)
		r.epochs, r.rebuild = nil, true
	}
	return nil
}

// segments loads or scans each segment in order.
func (r *recovery) segments(bases []record.Offset) error {
	bases, err := r.finishDeletion(bases)
	if err != nil {
		return err
	}
	for i, base := range bases {
		s := newSegment(r.l.dir().disk, r.l.folder, base)
		last := i == len(bases)-1
		trusted := r.found.clean || !last && bases[i+1] <= r.found.recovery
		if i > 0 && r.scanned && base != r.next && !r.found.unknown {
			// A segment whose predecessor lost its end: nothing in it was on disk for sure.
			return r.discard(bases[i:])
		}
		r.next = base
		s.named.Store(true)
		whole, err := r.segment(s, trusted, last)
		if err != nil {
			return err
		}
		if trusted && !last {
			r.next = bases[i+1]
			s.end.Store(int64(r.next))
		}
		r.v = append(r.v, s)
		if !whole {
			return r.discard(bases[i+1:])
		}
	}
	return nil
}

// finishDeletion removes what lies wholly below the log start: a crash came between
// the checkpoint and the removal.
func (r *recovery) finishDeletion(bases []record.Offset) ([]record.Offset, error) {
	for len(bases) > 1 && bases[1] <= r.found.start {
		if err := r.drop(bases[:1]); err != nil {
			return nil, err
		}
		if err := r.l.dir().disk.Sync(r.l.folder); err != nil {
			return nil, err
		}
		bases = bases[1:]
	}
	return bases, nil
}

// segment opens one; whole is false if it was cut.
func (r *recovery) segment(s *segment, trusted, last bool) (whole bool, err error) {
	info, err := s.dir.Stat(s.name(logSuffix))
	if err != nil {
		return false, err
	}
	if trusted && !r.rebuild {
		err := r.load(s, info, last)
		if err == nil || !errors.As(err, new(errDamaged)) && !rotten(err) {
			return true, err
		}
		r.remade("index does not fit its segment and is made anew", s, info, err)
	}
	r.scanned = r.scanned || !trusted
	r.remake[s] = true
	return r.scan(s, info, trusted)
}

// remade tells that an index is made anew. That of an empty segment says nothing, and
// nobody needs to hear of it.
func (r *recovery) remade(what string, s *segment, info disk.Info, err error) {
	level := slog.LevelWarn
	if info.Size == 0 {
		level = slog.LevelDebug
	}
	r.l.env.logger.Log(context.Background(), level, what, "partition", r.l.name.String(), "segment", int64(s.base), "error", err)
}

// load trusts a segment and its indexes, and reads only what lies behind the last index entry of the last one.
func (r *recovery) load(s *segment, info disk.Info, last bool) error {
	for _, x := range []*index{&s.index, &s.times} {
		if err := x.load(); err != nil {
			if disk.IsAbsent(err) && info.Size == 0 {
				x.clear() // a log that nothing was written to leaves none
				continue
			}
			if disk.IsAbsent(err) {
				return errDamaged{err}
			}
			return err
		}
	}
	if err := r.loadAborts(s, info, last); err != nil {
		return err
	}
	ts, rel, err := s.times.last()
	if err != nil {
		return err
	}
	from, err := s.index.boundary(1 << 62)
	if err != nil {
		return err
	}
	if from > info.Size {
		return errDamaged{fmt.Errorf("index points to %d of %d bytes", from, info.Size)}
	}
	s.size.Store(info.Size)
	s.synced.Store(info.Size)
	s.old.Store(info.Size)
	s.maxTime.Store(ts)
	s.maxRel.Store(rel)
	s.keepTime.Store(keepTime(ts, info.Modified.UnixMilli()))
	if info.Size > 0 {
		s.firstTime.Store(max(1, keepTime(ts, info.Modified.UnixMilli())))
	}
	if !last {
		s.sealed.Store(!r.remake[s])
		return nil
	}
	if err := s.index.grow(); err != nil {
		return err
	}
	if err := s.times.grow(); err != nil {
		return err
	}
	return r.tail(s, from, info)
}

// loadAborts takes a segment's index of aborted transactions, or has it made anew.
func (r *recovery) loadAborts(s *segment, info disk.Info, last bool) error {
	err := s.loadAborts()
	if err == nil && last && s.aborts.len() > 0 {
		err = s.aborts.grow()
	}
	if err != nil {
		if !errors.As(err, new(errDamaged)) && !rotten(err) {
			return err
		}
		r.remade("index of aborted transactions is made anew", s, info, err)
		s.aborts.empty()
		r.remake[s] = true
	}
	if s.aborts.len() > 0 {
		r.l.aborts.Store(true)
	}
	return nil
}

// tail notes the batches behind the last index entry of a trusted active segment.
func (r *recovery) tail(s *segment, from int64, info disk.Info) error {
	h, err := s.take()
	if err != nil {
		return err
	}
	defer h.Release()
	c := newScan(h, from, info.Size)
	defer c.free()
	next := s.base
	s.unindexed = 0
	if first, _, err := firstBatch(h, info.Size); err == nil {
		s.firstTime.Store(max(1, keepTime(first.MaxTimestamp, info.Modified.UnixMilli())))
	}
	for {
		b, at, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if s.unindexed > 0 || at == 0 {
			s.note(&b, at, info.Modified.UnixMilli(), 1<<30)
		} else {
			s.unindexed = int64(b.Size())
			if b.MaxTimestamp > s.maxTime.Load() {
				s.note(&b, at, info.Modified.UnixMilli(), 1<<30)
			}
		}
		next = b.Last() + 1
	}
	r.next = next
	s.end.Store(int64(next))
	return nil
}

// firstBatch gives the first batch's header.
func firstBatch(f io.ReaderAt, size int64) (record.Header, int64, error) {
	c := newScan(f, 0, size)
	defer c.free()
	return c.next()
}

// scan checks every byte of a segment and rebuilds its indexes. Bad bytes below the
// recovery point, or in a trusted segment, are damage, others are cut off.
func (r *recovery) scan(s *segment, info disk.Info, trusted bool) (whole bool, err error) {
	r.changed = true
	s.index.clear()
	s.times.clear()
	s.aborts.empty()
	h, err := s.take()
	if err != nil {
		return false, err
	}
	defer h.Release()
	c := &checker{f: h, size: info.Size, next: r.next, epoch: r.epoch}
	interval := r.l.conf.Load().IndexInterval
	for {
		at := c.pos
		b, err := c.batch()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if !errors.As(err, new(errDamaged)) {
				return false, err
			}
			if trusted || c.next < r.found.recovery || !r.torn(err) {
				return false, fmt.Errorf("segment %d, position %d: %w: %w", s.base, at, errDamage, err)
			}
			r.cutBytes += info.Size - at
			if err := h.Truncate(at); err != nil {
				return false, err
			}
			break
		}
		s.note(&b, at, info.Modified.UnixMilli(), interval)
		if (!trusted || r.rebuild) && b.Last() >= r.found.start {
			r.epochs = r.epochs.agree(b.LeaderEpoch, b.Base)
		}
		r.next, r.epoch = c.next, c.epoch
	}
	s.size.Store(c.pos)
	s.proved(0, c.pos)
	s.end.Store(int64(r.next))
	if err := h.Sync(); err != nil {
		return false, err
	}
	s.synced.Store(c.pos)
	return c.pos == info.Size, nil
}

// torn tells whether a bad batch above the recovery point may be what a crash left. The death
// of a process leaves a write that stopped half-way, and nothing else.
func (r *recovery) torn(err error) bool {
	return !r.l.env.kept || r.found.unknown || errors.Is(err, errShort)
}

// discard removes segments behind one that was cut.
func (r *recovery) discard(bases []record.Offset) error {
	for _, base := range bases {
		if base < r.found.recovery || r.found.unknown || r.l.env.kept {
			return fmt.Errorf("segment %d is there, but the log before it ends at %d: %w: %w", base, r.next, errDamage, errShort)
		}
	}
	return r.drop(bases)
}

// drop removes segments, the last one first so that a crash leaves no gap.
func (r *recovery) drop(bases []record.Offset) error {
	r.changed = true
	for i := len(bases) - 1; i >= 0; i-- {
		info, err := r.l.dir().disk.Stat(fileName(r.l.folder, bases[i], logSuffix))
		if err != nil {
			return err
		}
		if bases[i] >= r.found.start {
			r.cutBytes += info.Size
		}
		for _, suffix := range []string{logSuffix, indexSuffix, timeSuffix, abortSuffix} {
			if err := r.l.dir().remove(fileName(r.l.folder, bases[i], suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish makes the log's state of what was found.
func (r *recovery) finish() error {
	l := r.l
	if r.next < r.found.recovery && len(r.v) > 0 {
		return fmt.Errorf("the log ends at %d, the recovery point is %d: %w: %w", r.next, r.found.recovery, errDamage, errShort)
	}
	if len(r.v) == 0 && r.found.recovery > 0 {
		return fmt.Errorf("no segment is there, the recovery point is %d: %w: %w", r.found.recovery, errDamage, errShort)
	}
	if l.env.kept && !r.found.unknown && r.next < r.found.high {
		return fmt.Errorf("the log ends at %d, and %d was committed, though only the process died: %w: %w", r.next, r.found.high, errDamage, errShort)
	}
	if len(r.v) > 0 && r.next < r.found.start {
		// Why: records were deleted up to a log start whose last bytes never reached the disk.
		if err := r.drop(basesOf(r.v)); err != nil {
			return err
		}
		r.v, r.next = nil, r.found.start
	}
	if len(r.v) == 0 {
		s := newSegment(l.dir().disk, l.folder, max(r.next, r.found.start))
		if err := l.dir().must(0, s.create); err != nil {
			return err
		}
		r.v, r.next, r.changed = []*segment{s}, s.base, true
	}
	l.setView(r.v)
	for _, s := range r.v {
		l.startSegment(s)
	}
	l.end.Store(int64(r.next))
	l.synced.Store(int64(r.next))
	l.start.Store(int64(max(r.v[0].base, r.found.start)))
	l.high.Store(int64(max(l.Start(), min(r.found.high, r.next))))
	l.settled.Store(int64(min(r.found.recovery, r.next)))
	l.cleaned.Store(int64(min(r.found.cleaned, r.v[len(r.v)-1].base)))
	before := len(r.epochs)
	r.epochs = r.epochs.cutEnd(r.next + 1)
	l.mu.epochs, l.mu.epochNews = r.epochs, r.scanned || before != len(r.epochs)
	if err := r.producers(); err != nil {
		if rotten(err) {
			return fmt.Errorf("%w: %w", errDamage, err) // a whole batch that says nonsense
		}
		return err
	}
	for _, s := range r.v {
		s.named.Store(true)
	}
	l.mu.changed = r.changed || !r.found.clean || !slices.Contains(r.snaps, r.next)
	if !l.mu.changed {
		return nil
	}
	// Why: names of removed and new files, and all that a crash may have left unsynced.
	return l.dir().disk.Sync(l.folder)
}

func basesOf(v []*segment) []record.Offset {
	bases := make([]record.Offset, len(v))
	for i, s := range v {
		bases[i] = s.base
	}
	return bases
}

// eachHeader calls f with the header and position of each batch of the segment that
// reaches from, until f says false.
func (l *Log) eachHeader(s *segment, from record.Offset, f func(*record.Header, int64) bool) error {
	h, err := s.take()
	if err != nil {
		return err
	}
	defer h.Release()
	size := s.size.Load()
	_, pos, err := s.seek(h, from, size)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	c := newScan(h, pos, size)
	defer c.free()
	for {
		b, at, err := c.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f(&b, at) {
			return nil
		}
	}
}
