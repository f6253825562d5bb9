package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// abortEntry is the width of an entry of the index of aborted transactions: version int16 = 0, producer ID,
// first offset, offset of the marker, last stable offset once that was committed, int64 each.
// Source: Kafka's AbortedTxn.
const abortEntry = 2 + 8 + 8 + 8 + 8

// Aborted is one aborted transaction of a producer; its records lie at and above First, before its marker.
type Aborted struct {
	ProducerID int64
	First      record.Offset
}

// putAborted makes an entry of the index of aborted transactions.
func putAborted(e endedTxn) [abortEntry]byte {
	var b [abortEntry]byte
	binary.BigEndian.PutUint64(b[2:], uint64(e.id))
	binary.BigEndian.PutUint64(b[10:], uint64(e.first))
	binary.BigEndian.PutUint64(b[18:], uint64(e.last))
	binary.BigEndian.PutUint64(b[26:], uint64(e.stable))
	return b
}

// abortedOf reads what putAborted made.
func abortedOf(b []byte) endedTxn {
	be := binary.BigEndian
	return endedTxn{
		id: int64(be.Uint64(b[2:])), first: record.Offset(be.Uint64(b[10:])), last: record.Offset(be.Uint64(b[18:])),
		stable: record.Offset(be.Uint64(b[26:])), aborted: true,
	}
}

// noteAborted adds an entry to the index of the segment that holds the marker.
func (l *Log) noteAborted(s *segment, e endedTxn) {
	b := putAborted(e)
	s.aborts.add(b[:])
	l.aborts.Store(true)
}

// loadAborts takes the index of aborted transactions from its file; none is an empty one.
// Errors: errDamaged for what is no such index.
func (s *segment) loadAborts() error {
	if err := s.aborts.load(); err != nil {
		if disk.IsAbsent(err) {
			return nil
		}
		return err
	}
	last := s.base - 1
	return s.aborts.each(0, func(b []byte) error {
		e := abortedOf(b)
		if binary.BigEndian.Uint16(b) != 0 || e.id < 0 || e.first < 0 || e.first >= e.last || e.last <= last || e.stable > e.last+1 {
			return errDamaged{fmt.Errorf("cannot load index %q: no aborted transaction: %x", s.aborts.name, b)}
		}
		last = e.last
		return nil
	})
}

// saveAborts brings the index of aborted transactions to its file. Without entries there is
// no file, unless one is to be overwritten.
func (s *segment) saveAborts(sync bool) error {
	if s.aborts.len() == 0 {
		if _, err := s.dir.Stat(s.aborts.name); disk.IsAbsent(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return s.aborts.save(sync)
}

// cutAborts drops the entries whose marker lies at or above end, in the file too.
func (s *segment) cutAborts(end record.Offset) error {
	if s.aborts.len() == 0 {
		return nil
	}
	if err := s.aborts.grow(); err != nil {
		return err
	}
	n, err := s.aborts.firstEnding(end)
	if err != nil {
		return err
	}
	s.aborts.cut(n)
	if err := s.aborts.save(true); err != nil && !isFull(err) {
		return err
	}
	return nil
}

// firstEnding gives the number of the first entry whose marker lies at or above o.
func (x *index) firstEnding(o record.Offset) (int, error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	return x.rank(e, func(e []byte) bool { return abortedOf(e).last < o })
}

// aborted appends the aborted transactions that have records in [from, to) and whose marker
// lies in the segment. done: no later segment has any.
func (s *segment) aborted(from, to record.Offset, out []endedTxn) (_ []endedTxn, done bool, err error) {
	n, err := s.aborts.firstEnding(from)
	if err != nil {
		return out, false, err
	}
	err = s.aborts.each(n, func(b []byte) error {
		e := abortedOf(b)
		if e.first < to {
			out = append(out, e)
		}
		if e.stable >= to {
			done = true
			return io.EOF
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, done, err
}

// abortedIn gives the aborted transactions that have records in [from, to), in the order of
// their markers. Requires: every transaction with records there is decided.
func abortedIn(v []*segment, from, to record.Offset) (out []endedTxn, err error) {
	for i := find(v, from); i < len(v); i++ {
		if v[i].aborts.len() == 0 {
			continue
		}
		var done bool
		if out, done, err = v[i].aborted(from, to, out); err != nil || done {
			return out, err
		}
	}
	return out, nil
}

// ReadCommitted is Read for who wants records of committed transactions only: with the
// slice come all aborted transactions that have records in it, in the order of their markers (R29).
//
// Requires: limit is at most the last stable offset.
func (l *Log) ReadCommitted(from record.Offset, max int, limit record.Offset, minOne bool) (Slice, []Aborted, error) {
	for {
		view := l.view.Load()
		s, err := l.Read(from, max, limit, minOne)
		if err != nil || s.Len() == 0 || !l.aborts.Load() {
			return s, nil, err
		}
		list, err := abortedIn(*view, from, min(s.end, limit))
		if err == nil && l.view.Load() == view {
			out := make([]Aborted, len(list))
			for i, e := range list {
				out[i] = Aborted{e.id, e.first}
			}
			return s, out, nil
		}
		// Why again: the cleaner may have taken away the records of an aborted transaction, and its entry.
		s.Release()
		if err != nil && !l.outdated(*view) {
			return Slice{}, nil, l.readTrouble(err)
		}
	}
}
