package storage

import (
	"errors"
	"io"

	"github.com/belfry-mq/belfry/broker/record"
)

// OffsetAt gives the first record with timestamp >= ts below limit, exactly; found=false: none.
func (l *Log) OffsetAt(ts int64, limit record.Offset) (o record.Offset, at int64, e record.Epoch, found bool, err error) {
	if err := l.ready(); err != nil {
		return -1, -1, -1, false, err
	}
	for {
		cuts := l.cutsSoFar()
		v := *l.view.Load()
		h := hit{start: l.Start(), limit: min(limit, l.End()), ts: ts}
		err := l.searchView(v, &h)
		switch {
		case err != nil && l.cutSince(cuts), errors.Is(err, errAborted) && l.outdated(v):
			continue
		case errors.Is(err, errAborted):
			return -1, -1, -1, false, ErrClosed
		case err != nil:
			return -1, -1, -1, false, l.readTrouble(err)
		case !h.found:
			return -1, -1, -1, false, nil
		}
		return h.o, h.at, h.epoch, true, nil
	}
}

// searchView looks through the segments of one view.
// Errors: errAborted if a segment went away meanwhile.
func (l *Log) searchView(v []*segment, h *hit) error {
	for _, s := range v[find(v, h.start):] {
		if s.base >= h.limit {
			break
		}
		if s.maxTime.Load() < h.ts {
			continue
		}
		if err := l.searchSegment(s, h); err != nil {
			if s.gone.Load() {
				return errAborted
			}
			return err
		}
		if h.found {
			return nil
		}
	}
	return nil
}

// hit is a search for the first record at or after a timestamp, and its result.
type hit struct {
	start, limit record.Offset
	ts           int64

	o     record.Offset
	at    int64
	epoch record.Epoch
	found bool
}

// searchSegment looks at the batches from the time index's hint on.
func (l *Log) searchSegment(s *segment, h *hit) error {
	rel, err := s.times.before(h.ts)
	if err != nil {
		return err
	}
	from := max(h.start, s.base+record.Offset(max(0, rel)))
	var inner error
	err = l.eachHeader(s, from, func(b *record.Header, pos int64) bool {
		if b.Base >= h.limit {
			return false
		}
		if b.MaxTimestamp < h.ts {
			return true
		}
		inner = l.searchBatch(s, b, pos, h)
		return inner == nil && !h.found
	})
	return errors.Join(err, inner)
}

// searchBatch looks at the records of one batch.
func (l *Log) searchBatch(s *segment, b *record.Header, pos int64, h *hit) error {
	batch, err := s.readBatch(b, pos)
	if err != nil {
		return err
	}
	return record.Each(batch, func(r record.Record) error {
		if r.Timestamp < h.ts || r.Offset < h.start || r.Offset >= h.limit {
			return nil
		}
		h.o, h.at, h.epoch, h.found = r.Offset, r.Timestamp, b.LeaderEpoch, true
		return record.ErrStop
	})
}

// readBatch gives the bytes of one batch.
func (s *segment) readBatch(b *record.Header, pos int64) ([]byte, error) {
	f, err := s.take()
	if err != nil {
		return nil, err
	}
	defer f.Release()
	batch := make([]byte, b.Size())
	if n, err := f.ReadAt(batch, pos); n < len(batch) {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return batch, nil
}

// MaxTimestamp gives the record with the largest timestamp (first of them).
func (l *Log) MaxTimestamp() (o record.Offset, at int64, e record.Epoch, found bool, err error) {
	if err := l.ready(); err != nil {
		return -1, -1, -1, false, err
	}
	for {
		cuts := l.cutsSoFar()
		v := *l.view.Load()
		top, err := l.maxTime(v, l.Start())
		switch {
		case err != nil && l.cutSince(cuts), errors.Is(err, errAborted) && l.outdated(v):
			continue
		case errors.Is(err, errAborted):
			return -1, -1, -1, false, ErrClosed
		case err != nil:
			return -1, -1, -1, false, l.readTrouble(err)
		case top < 0:
			return -1, -1, -1, false, nil
		}
		return l.OffsetAt(top, l.End())
	}
}

// maxTime gives the largest timestamp at and above start, -1 without one.
// Errors: errAborted if a segment went away meanwhile.
func (l *Log) maxTime(v []*segment, start record.Offset) (top int64, err error) {
	top = -1
	for _, s := range v[find(v, start):] {
		ts := s.maxTime.Load()
		if s.base < start && ts > top {
			// Why: the segment's largest timestamp may lie below the log start.
			if ts, err = l.maxTimeFrom(s, start); err != nil {
				if s.gone.Load() {
					err = errAborted
				}
				return -1, err
			}
		}
		top = max(top, ts)
	}
	return top, nil
}

// maxTimeFrom gives the largest timestamp of the records of a segment at and above start.
func (l *Log) maxTimeFrom(s *segment, start record.Offset) (int64, error) {
	top := int64(-1)
	var inner error
	err := l.eachHeader(s, start, func(b *record.Header, pos int64) bool {
		if b.Base >= start {
			if b.Count > 0 {
				top = max(top, b.MaxTimestamp)
			}
			return true
		}
		var batch []byte
		if batch, inner = s.readBatch(b, pos); inner != nil {
			return false
		}
		inner = record.Each(batch, func(r record.Record) error {
			if r.Offset >= start {
				top = max(top, r.Timestamp)
			}
			return nil
		})
		return inner == nil
	})
	return top, errors.Join(err, inner)
}
