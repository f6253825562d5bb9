package storage

import (
	"errors"
	"fmt"
	"math"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// Append says how batches come in.
type Append struct {
	Epoch         record.Epoch // the leader's; stamped into each batch when Assign
	Assign        bool         // leader: give offsets, judge sequences. false: follower, take as they are
	LogAppendTime bool         // stamp with Now and rewrite the CRC
	Now           int64        // ms, wall clock
	// Verify says that a client's batch begins a transaction only with a valid Ticket.
	Verify     bool
	Ticket     Ticket
	TxnVersion int8 // of a marker: transaction.version, 0 not known
	// Marker says that b ends a transaction. It is taken while the disk's reserve is short:
	// an open transaction holds its readers up, and the cleaner.
	Marker bool
}

// Appended says where they landed.
type Appended struct {
	First, Last record.Offset
	AppendTime  int64         // ms; -1 with CreateTime
	Start       record.Offset // log start
	Duplicate   bool          // the very same batch was appended before; First/Last are those of then (R27)
}

// Append takes one or more whole, checked, back-to-back batches; b is changed in place and not kept after return. Does not wait for the disk to sync: see Durable.
//
// Copies of batches that are in the log already are left out; Duplicate is set if nothing else was in b.
// Errors: ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrInvalidTxnState, ErrCoordinatorFenced, ErrFull (nothing was appended), ErrOffline,
// ErrClosed, ErrStaleEpoch; ErrOffsetOutOfRange for a follower's batch that does not lie behind End.
func (l *Log) Append(b []byte, a Append) (Appended, error) {
	l.mu.Lock()
	r, err := l.appendLocked(b, &a)
	l.mu.Unlock()
	if err != nil {
		return r, err
	}
	if !r.Duplicate && l.conf.Load().FlushMessages != 1 {
		l.wake()
	}
	return r, nil
}

// plan is what one append does, found out before anything is written.
type plan struct {
	from        int // first byte to be written
	first, last record.Offset
	batches     int          // to be written
	epoch       record.Epoch // of the last of them
	copies      int          // left out
	time        int64        // of the last copy, ms
}

func (l *Log) appendLocked(b []byte, a *Append) (Appended, error) {
	r := Appended{First: -1, Last: -1, AppendTime: -1, Start: l.Start()}
	if l.mu.draining {
		return r, ErrClosed
	}
	if err := l.readyLocked(); err != nil {
		return r, err
	}
	c := l.conf.Load()
	// Why not for a follower: its leader's clients are not this disk's, and what it lacks
	// would hold up everybody (R22).
	if a.Assign && !a.Marker && !c.Internal && l.dir().reserve.short.Load() {
		return r, ErrFull
	}
	p, err := l.planLocked(b, a)
	if err != nil {
		l.mu.producers.drop()
		return r, err
	}
	r.First, r.Last, r.Duplicate = p.first, p.last, p.batches == 0
	if a.LogAppendTime {
		r.AppendTime = a.Now
	}
	if p.batches == 0 {
		if a.LogAppendTime {
			r.AppendTime = p.time
		}
		l.mu.producers.drop()
		return r, nil
	}
	b = b[p.from:]
	s, err := l.roomLocked(int64(len(b)), p.last, a.Now, c)
	if err == nil {
		err = l.writeLocked(s, b, c)
	}
	if err != nil {
		l.mu.producers.drop()
		return r, err
	}
	l.adoptLocked(s, b, a, c)
	l.flushWhenDueLocked(l.conf.Load()) // not c: Reconfigure may have looked before End moved
	return r, nil
}

// planLocked gives the batches their offsets and stages producer state.
func (l *Log) planLocked(b []byte, a *Append) (plan, error) {
	next := l.End()
	p := plan{first: -1}
	for at := 0; at < len(b); {
		h, err := record.ReadHeader(b[at:])
		if err != nil || at+h.Size() > len(b) {
			return p, fmt.Errorf("cannot append to log %q: batch at byte %d of %d is not whole: %w", l.name, at, len(b), errors.Join(err, record.ErrCorrupt))
		}
		batch := b[at : at+h.Size()]
		at += h.Size()
		if a.Assign {
			h.Base, h.LeaderEpoch = next, a.Epoch
		} else if h.Base < next {
			return p, fmt.Errorf("cannot append to log %q: batch at offset %d, log ends at %d: %w", l.name, h.Base, next, ErrOffsetOutOfRange)
		}
		if err := l.epochFitsLocked(&h, next, a.Assign, &p); err != nil {
			return p, err
		}
		if a.LogAppendTime {
			h.MaxTimestamp = a.Now
		}
		if a.Assign && tracked(&h) {
			old, dup, err := l.stageLocked(&h, batch, a)
			if dup && p.batches > 0 {
				err = ErrOutOfOrderSequence
			}
			if err != nil {
				return p, err
			}
			if dup {
				p.note(old.last-record.Offset(old.delta), old.last)
				p.copies++
				p.time = old.timestamp
				p.from = at
				continue
			}
		}
		if !a.Assign && tracked(&h) {
			if _, err := markerIn(&h, batch); err != nil {
				return p, fmt.Errorf("cannot append to log %q: %w", l.name, errors.Join(err, record.ErrCorrupt))
			}
		}
		if a.Assign {
			record.SetBase(batch, h.Base, h.LeaderEpoch)
		}
		if a.LogAppendTime {
			record.StampAppendTime(batch, a.Now)
		}
		p.note(h.Base, h.Last())
		p.batches++
		p.epoch = h.LeaderEpoch
		next = h.Last() + 1
	}
	if p.batches+p.copies == 0 {
		return p, fmt.Errorf("cannot append to log %q: no batch: %w", l.name, record.ErrCorrupt)
	}
	return p, nil
}

// stageLocked stages a batch of a producer, or a marker.
func (l *Log) stageLocked(h *record.Header, batch []byte, a *Append) (old sequenced, dup bool, err error) {
	if !h.Control() {
		return l.mu.producers.stage(h, a)
	}
	m, err := markerIn(h, batch)
	if err == nil {
		err = l.mu.producers.stageMarker(h, m, a)
	}
	return old, false, err
}

// epochFitsLocked refuses a batch whose epoch would go back: recovery would take it for damage.
func (l *Log) epochFitsLocked(h *record.Header, next record.Offset, leader bool, p *plan) error {
	last := l.mu.epochs.last()
	switch {
	case leader:
	case p.batches > 0:
		last = p.epoch
	default:
		// Why: a follower may know an epoch of its own that has no batches.
		last = l.mu.epochs.at(next - 1)
	}
	if h.LeaderEpoch < last {
		return fmt.Errorf("cannot append to log %q: epoch %d at offset %d behind epoch %d: %w", l.name, h.LeaderEpoch, h.Base, last, ErrStaleEpoch)
	}
	return nil
}

func (p *plan) note(first, last record.Offset) {
	if p.first < 0 {
		p.first = first
	}
	p.last = last
}

// roomLocked gives the segment that n bytes up to offset last go to, a new one if due.
func (l *Log) roomLocked(n int64, last record.Offset, now int64, c *LogConfig) (*segment, error) {
	s := l.active()
	if s.fits(n, last, c.SegmentBytes) && !s.full(c.IndexBytes) && !s.aged(now, c) {
		return s, nil
	}
	if s.size.Load() > 0 {
		var err error
		if s, err = l.rollLocked(); err != nil {
			return nil, err
		}
	}
	if n > math.MaxInt32 || last-s.base > math.MaxInt32 {
		return nil, fmt.Errorf("cannot append to log %q: %d bytes up to offset %d do not fit a segment that begins at %d: %w", l.name, n, last, s.base, ErrOffsetOutOfRange)
	}
	return s, nil
}

// aged tells whether the segment's first batch is so old that it is rolled.
func (s *segment) aged(now int64, c *LogConfig) bool {
	first := s.firstTime.Load()
	return first > 0 && c.SegmentAge > 0 && now-first > c.SegmentAge.Milliseconds()-s.jitter
}

// rollLocked closes the active segment and starts a new one at End. The closed one is
// made durable, and its indexes written, by the flush that it queues.
func (l *Log) rollLocked() (*segment, error) { return l.rollFromLocked(l.conf.Load().Internal) }

// rollFromLocked is rollLocked, with must from the reserve on a full disk.
func (l *Log) rollFromLocked(must bool) (*segment, error) {
	old := l.active()
	s := newSegment(l.dir().disk, l.folder, l.End())
	create := s.create
	var err error
	if must {
		err = l.dir().must(0, create)
	} else {
		err = create()
	}
	if err != nil {
		return nil, l.trouble("start a segment of", err)
	}
	l.startSegment(s)
	old.noteTime()
	l.mu.snapshots = append(l.mu.snapshots, pendingSnapshot{s.base, l.mu.producers.encode(l.undecided.list())})
	v := *l.view.Load()
	l.setView(append(v[:len(v):len(v)], s))
	l.queueFlush()
	return s, nil
}

// writeLocked writes b behind the segment's batches. What a full disk took of it is cut off again.
func (l *Log) writeLocked(s *segment, b []byte, c *LogConfig) error {
	h, err := s.take()
	if err != nil {
		return l.trouble("append to", err)
	}
	defer h.Release()
	at := s.size.Load()
	s.preallocate(h, at, int64(len(b)), c)
	write := func() error {
		_, err := h.WriteAt(b, at)
		return err
	}
	if c.Internal {
		err = l.dir().must(int64(len(b)), write)
	} else {
		err = write()
	}
	if err == nil {
		return nil
	}
	if disk.IsFull(err) {
		s.allocated = at
		if cerr := h.Truncate(at); cerr != nil {
			err = cerr
		}
	}
	return l.trouble("append to", err)
}

// A growing segment's blocks are reserved ahead, a quarter of its size at a time within
// these bounds. Why at all: appending to reserved blocks is 1.3 to 1.65 times as fast from
// 16 KiB on, and an append with fdatasync takes 210 µs with large steps, 310 with small
// ones, 330 with none (measured on ext4).
//
// Why not also files that need no metadata at a sync: six files that get 1 MiB and an fdatasync in
// turns take 1.2 to 1.5 GB/s with plain appends, the same with reserved blocks and with a size set
// ahead (writing turns their extents into written ones), and with sync_file_range after the write.
// Only blocks that were written before take 1.6 to 2.0 GB/s (ext4 without a journal,
// alternating runs). To fill them with zeros writes everything twice; to recycle a deleted segment leaves whole
// batches with right CRCs behind a torn end, which recovery cannot tell from the log's own.
const (
	preallocLeast = 1 << 20
	preallocMost  = 16 << 20
)

// preallocate reserves blocks behind the end, which does not change the file's size: no
// reader ever sees zeros. A segment that is still small gets nothing, so that thousands of
// idle partitions take no space. Errors do not matter, the write will tell.
func (s *segment) preallocate(h *handle, at, n int64, c *LogConfig) {
	if at+n <= s.allocated || at < preallocLeast && !c.Preallocate {
		return
	}
	from := max(at, s.allocated)
	to := max(at+n, from+min(preallocMost, max(preallocLeast, at/4)))
	if c.Preallocate {
		to = max(to, c.SegmentBytes)
	}
	s.allocated = to
	_ = h.Allocate(from, to-from)
}

// adoptLocked makes what was written part of the log.
func (l *Log) adoptLocked(s *segment, b []byte, a *Append, c *LogConfig) {
	l.mu.changed = true
	pos := s.size.Load()
	var last record.Offset
	for len(b) > 0 {
		h, err := record.ReadHeader(b)
		if err != nil {
			panic("BUG: batch was whole before it was written: " + err.Error())
		}
		s.note(&h, pos, a.Now, c.IndexInterval)
		if h.LeaderEpoch != l.mu.epochs.last() {
			l.mu.epochs, l.mu.epochNews = l.mu.epochs.agree(h.LeaderEpoch, h.Base), true
		}
		if !a.Assign && tracked(&h) {
			m, err := markerIn(&h, b[:h.Size()])
			if err != nil {
				panic("BUG: marker could be read before it was written: " + err.Error())
			}
			l.mu.producers.follow(&h, m, a.Now)
		}
		s.tail.Store(pack(int64(h.Base-s.base), pos))
		last = h.Last()
		pos += int64(h.Size())
		b = b[h.Size():]
	}
	l.mu.producers.commit()
	l.adoptTxnsLocked(s)
	s.end.Store(int64(last + 1))
	l.end.Store(int64(last + 1))
	s.size.Store(pos)
}
