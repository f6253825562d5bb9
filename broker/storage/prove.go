package storage

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/belfry-mq/belfry/broker/record"
)

// proofs holds the buffers of prove.
var proofs = sync.Pool{New: func() any { return new(checker) }}

// prove checks the batches that a read takes from bytes that this process did not write
// just now: a closed segment, or what was found at the start. What was read in order, or
// scrubbed, is checked once in the process's life. Why at all: what a disk changed must not
// leave as good, and not every client looks at the CRC.
func (l *Log) prove(s *segment, r Slice) error {
	to := r.pos + int64(r.n)
	if r.n == 0 || to <= s.proven.Load() || r.pos >= s.old.Load() && !s.sealed.Load() {
		return nil
	}
	return l.check(s, r)
}

// check checks the batches of a read, and those before them from the last one that the index
// knows. If these do not agree with the index, it may be the index that is wrong: then all
// batches from the segment's begin on are checked without it.
func (l *Log) check(s *segment, r Slice) error {
	to := r.pos + int64(r.n)
	at, rel, err := s.index.anchor(r.pos - 1) // Why not at it: a batch just before may have been passed over for its offset
	if err != nil {
		return err
	}
	err = l.checkFrom(s, r.file, at, rel, to)
	if at > 0 && errors.As(err, new(errDamaged)) {
		at, err = 0, l.checkFrom(s, r.file, 0, -1, to)
	}
	if err == nil {
		s.proved(at, to)
	}
	return err
}

func (l *Log) checkFrom(s *segment, f io.ReaderAt, at, rel, to int64) error {
	c := proofs.Get().(*checker)
	defer proofs.Put(c)
	*c = checker{f: f, pos: at, size: to, next: s.base, epoch: -1, buf: c.buf}
	w := row{checker: c, epochs: l.epochsNow(), anchor: rel}
	err := w.rest(s, s.size.Load())
	c.f = nil
	return err
}

// proveEnd checks the end of a segment in which a read found nothing.
func (l *Log) proveEnd(s *segment) error {
	size := s.size.Load()
	if size == 0 || size <= s.proven.Load() {
		return nil
	}
	h, err := s.take()
	if err != nil {
		return err
	}
	defer h.Release()
	return l.check(s, Slice{file: h, pos: size})
}

// epochsNow gives the epoch cache as it is.
func (l *Log) epochsNow() epochs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs
}

// row is a row of batches that is checked. A batch's offset and epoch lie outside its check sum, so
// they are held against what is around them and what was written down elsewhere: the index
// entry of the first batch, the row itself, the batch behind it or the segment's end, and the
// epoch cache. What passes for a gap of compaction in a log that was never compacted is not seen.
type row struct {
	*checker
	epochs epochs
	anchor int64 // last offset of the first batch, relative to the segment; -1: not known
}

// rest checks all batches up to the end, in a segment that has so many bytes.
func (w *row) rest(s *segment, bytes int64) error {
	for first := true; ; first = false {
		at := w.pos
		h, err := w.batch()
		if errors.Is(err, io.EOF) {
			return w.behind(s, bytes)
		}
		if err != nil {
			return err
		}
		if last := s.base + record.Offset(w.anchor); first && w.anchor >= 0 && h.Last() != last {
			return errDamaged{fmt.Errorf("batch at position %d ends at offset %d, its index entry says %d", at, h.Last(), last)}
		}
		if e := w.epochs.at(h.Base); e >= 0 && e != h.LeaderEpoch {
			return errDamaged{fmt.Errorf("batch at offset %d is of epoch %d, epoch %d was written there", h.Base, h.LeaderEpoch, e)}
		}
	}
}

// behind holds the last batch against what follows it.
func (w *row) behind(s *segment, bytes int64) error {
	if w.size >= bytes {
		if end := record.Offset(s.end.Load()); w.next > end {
			return errDamaged{fmt.Errorf("the last batch ends before offset %d, the segment before %d", w.next, end)}
		}
		return nil
	}
	w.size = min(bytes, w.pos+record.HeaderSize)
	b, err := w.fill(record.HeaderSize)
	if err != nil {
		return err
	}
	h, err := record.ReadHeader(b)
	if err != nil {
		return errDamaged{err}
	}
	if h.Base < w.next || h.LeaderEpoch < w.epoch {
		return errDamaged{fmt.Errorf("batch at offset %d of epoch %d behind one of epoch %d that ends before offset %d", h.Base, h.LeaderEpoch, w.epoch, w.next)}
	}
	return nil
}
