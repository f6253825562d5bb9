package storage

import (
	"errors"
	"io"
	"math"
	"os"

	"github.com/belfry-mq/belfry/broker/record"
)

// Slice is a piece of a segment file. Release must be called once; until then the file's bytes stay readable, also after deletion.
type Slice struct {
	file sliceFile
	pos  int64
	n    int
	end  record.Offset // all batches begin below it
}

type sliceFile interface {
	ReadAt([]byte, int64) (int, error)
	OS() *os.File
	Release()
}

// Len gives its bytes.
func (s Slice) Len() int { return s.n }

// File gives the OS file and position for sendfile, nil when there is none (memory disk).
func (s Slice) File() (*os.File, int64) {
	if s.file == nil {
		return nil, 0
	}
	return s.file.OS(), s.pos
}

// ReadAt copies bytes of the slice; at is relative to its begin. It is an io.ReaderAt.
func (s Slice) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at >= int64(s.n) {
		return 0, io.EOF
	}
	short := int64(len(b)) > int64(s.n)-at
	if short {
		b = b[:int64(s.n)-at]
	}
	n, err := s.file.ReadAt(b, s.pos+at)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Release lets go of the file.
func (s Slice) Release() {
	if s.file != nil {
		s.file.Release()
	}
}

// Read gives whole batches from the one that holds `from`, at most max bytes (at least one batch if minOne), none that begins at or above limit.
// At End, and where limit leaves nothing, the slice is empty.
// Errors: ErrOffsetOutOfRange outside [Start, End]; ErrOffline.
func (l *Log) Read(from record.Offset, max int, limit record.Offset, minOne bool) (Slice, error) {
	return l.readWith(false, from, max, limit, minOne)
}

// ReadChecked is Read for what somebody could not use: every batch that it gives is checked,
// also one that this process wrote or checked before. What is found damaged takes the log offline.
func (l *Log) ReadChecked(from record.Offset, max int, limit record.Offset, minOne bool) (Slice, error) {
	return l.readWith(true, from, max, limit, minOne)
}

func (l *Log) readWith(checked bool, from record.Offset, max int, limit record.Offset, minOne bool) (Slice, error) {
	if err := l.ready(); err != nil {
		return Slice{}, err
	}
	for {
		cuts := l.cutsSoFar()
		slice, again, err := l.readView(checked, *l.view.Load(), cuts, from, max, limit, minOne)
		if !again {
			return slice, err
		}
	}
}

// readView is Read on one view; again is true if the view is out of date.
func (l *Log) readView(checked bool, v []*segment, cuts int64, from record.Offset, max int, limit record.Offset, minOne bool) (_ Slice, again bool, _ error) {
	for i := find(v, from); i < len(v); i++ {
		s := v[i]
		bytes := s.size.Load()
		end := l.End()
		if from < l.Start() || from > end {
			return Slice{}, false, ErrOffsetOutOfRange
		}
		if from >= limit || from == end {
			return Slice{}, false, nil
		}
		if bytes == 0 {
			continue
		}
		slice, err := l.readSegment(s, from, int64(max), bytes, limit, minOne)
		if err == nil {
			if checked {
				err = l.check(s, slice)
			} else {
				err = l.prove(s, slice)
			}
			if err == nil && l.cuts.Load() == cuts {
				return slice, false, nil
			}
			slice.Release()
		} else if errors.Is(err, io.EOF) {
			if err = nil; i < len(v)-1 || bytes <= s.old.Load() {
				err = l.proveEnd(s)
			}
			if err == nil && !s.gone.Load() && l.cuts.Load() == cuts {
				continue // a gap at the segment's end, left by compaction
			}
		}
		switch {
		case l.cutSince(cuts):
			return Slice{}, true, nil
		case errors.As(err, new(errDamaged)) && !s.gone.Load():
			l.damaged(s, err)
			return Slice{}, false, ErrOffline
		case s.gone.Load():
			return Slice{}, l.outdated(v), ErrOffsetOutOfRange
		}
		return Slice{}, false, l.readTrouble(err)
	}
	return Slice{}, false, nil
}

// outdated tells whether the row of segments is another one by now. A segment says that
// it is gone a moment before; a log that is deleted keeps its row.
func (l *Log) outdated(v []*segment) bool {
	l.mu.Lock()
	closed := l.mu.closed
	l.mu.Unlock()
	if closed {
		return false
	}
	l.chores.Lock() // waits for whoever changes the row
	defer l.chores.Unlock()
	now := *l.view.Load()
	return len(now) == 0 || len(v) != len(now) || &now[0] != &v[0]
}

// readTrouble draws the consequences of a failed read.
func (l *Log) readTrouble(err error) error {
	if rotten(err) {
		l.quarantine(err)
		return ErrOffline
	}
	return l.trouble("read", err)
}

// readSegment reads within one segment of which the first bytes are valid.
// Errors: io.EOF if it has no batch at or above from.
func (l *Log) readSegment(s *segment, from record.Offset, max, bytes int64, limit record.Offset, minOne bool) (Slice, error) {
	h, err := s.take()
	if err != nil {
		return Slice{}, err
	}
	first, pos, err := s.seek(h, from, bytes)
	if err == nil {
		var to int64
		var end record.Offset
		if to, end, err = s.boundary(h, &first, pos, max, bytes, limit, minOne); err == nil && to > pos {
			return Slice{file: h, pos: pos, n: int(to - pos), end: end}, nil
		}
		if err == nil && first.Base >= limit {
			// Why: its reader would wait for what lies below the limit, if the offset is wrong.
			err = l.check(s, Slice{file: h, pos: pos, n: first.Size()})
		}
	}
	h.Release()
	return Slice{}, err
}

// boundary gives where a read that begins with the batch first at pos ends, and an offset
// below which its batches begin.
func (s *segment) boundary(f io.ReaderAt, first *record.Header, pos, max, bytes int64, limit record.Offset, minOne bool) (int64, record.Offset, error) {
	size := int64(first.Size())
	if first.Base >= limit || size > max && !minOne {
		return pos, first.Base, nil
	}
	whole := limit >= record.Offset(s.end.Load())
	if size >= max || pos+size >= bytes {
		s.hint.Store(pack(int64(first.Last()+1-s.base), pos+size))
		return pos + size, first.Last() + 1, nil
	}
	if whole && pos+max >= bytes {
		return bytes, record.Offset(s.end.Load()), nil
	}
	from, err := s.index.boundary(min(pos+max, bytes-1))
	if err != nil {
		return 0, 0, err
	}
	if !whole {
		below, err := s.index.positionOf(int64(limit - 1 - s.base))
		if err != nil {
			return 0, 0, err
		}
		from = min(from, below)
	}
	c := newScan(f, pos, bytes)
	defer c.free()
	if from > pos {
		c.pos = from
	}
	end := c.pos
	for {
		h, at, err := c.next()
		if errors.Is(err, io.EOF) {
			return end, record.Offset(s.end.Load()), nil
		}
		if err != nil {
			return 0, 0, err
		}
		if h.Base >= limit || at+int64(h.Size()) > pos+max {
			return end, h.Base, nil
		}
		end = at + int64(h.Size())
		s.hint.Store(pack(int64(h.Last()+1-s.base), end))
	}
}

// Bytes gives how many bytes of whole batches lie from the batch that holds `from` up
// to limit, over all segments, but not more than max. It reads a few headers at most.
// Errors: none are told, what cannot be looked at counts as nothing: Read will say why.
func (l *Log) Bytes(from, limit record.Offset, max int) int {
	limit = min(limit, l.End())
	if l.ready() != nil || from < l.Start() || from >= limit {
		return 0
	}
	total := int64(0)
	v := *l.view.Load()
	for i := find(v, from); i < len(v) && total < int64(max) && v[i].base < limit; i++ {
		// Why not up to max: a batch of which only a part fits counts too, or who waits for
		// max bytes would not hear of the last ones before he has waited in vain.
		slice, err := l.readSegment(v[i], from, math.MaxInt32, v[i].size.Load(), limit, true)
		if err == nil {
			total += int64(slice.Len())
			slice.Release()
		}
	}
	return int(min(total, int64(max)))
}
