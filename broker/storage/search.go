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
	start := l.Start()
	limit = min(limit, l.End())
	v := *l.view.Load()
	for _, s := range v[find(v, start):] {
		if s.base >= limit {
			break
		}
		if s.maxTime.Load() < ts {
			continue
		}
		h := hit{start: start, limit: limit, ts: ts}
		if err := l.searchSegment(s, &h); err != nil {
			if s.gone.Load() {
				continue
			}
			return -1, -1, -1, false, l.readTrouble(err)
		}
		if h.found {
			return h.o, h.at, h.epoch, true, nil
		}
	}
	return -1, -1, -1, false, nil
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
	start := l.Start()
	v := *l.view.Load()
	top := int64(-1)
	for _, s := range v[find(v, start):] {
		ts := s.maxTime.Load()
		if s.base < start && ts > top {
			// Why: the segment's largest timestamp may lie below the log start.
			if ts, err = l.maxTimeFrom(s, start); err != nil {
				return -1, -1, -1, false, l.readTrouble(err)
			}
		}
		top = max(top, ts)
	}
	if top < 0 {
		return -1, -1, -1, false, nil
	}
	return l.OffsetAt(top, l.End())
}

// maxTimeFrom gives the largest timestamp of the records of a segment at and above start.
func (l *Log) maxTimeFrom(s *segment, start record.Offset) (int64, error) {
	top := int64(-1)
	var inner error
	err := l.eachHeader(s, start, func(b *record.Header, pos int64) bool {
		if b.Base >= start {
			top = max(top, b.MaxTimestamp)
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
