package storage

import (
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// keptBatches is how many of a producer's last batches are remembered to recognise
// them when they are sent again: what a client may have in flight to three leaders.
//
// Why not to one: while five requests to a leader that is gone are unanswered, a client sends
// as many to the next one, which has the first five from the old leader and takes them; when
// the first five are sent again as well, they are no longer among the last five. A client that
// is told of a wrong sequence then tries again for ever, as later ones were taken.
// Source: KIP-98, max.in.flight.requests.per.connection of an idempotent producer (5); Java's
// client 4.3 with leaders that went away.
const keptBatches = 15

// defaultProducerExpiry is how long the state of a producer that sends nothing is kept.
// Source: Kafka, producer.id.expiration.ms.
const defaultProducerExpiry = 24 * time.Hour

// maxProducers bounds the producers that a partition remembers: about 30 MiB. Past it the
// one that seems to have been silent for longest is forgotten, as if it had expired.
const maxProducers = 64 << 10

// Producer is one producer's state in one partition.
type Producer struct {
	ID              int64
	Epoch           int16
	LastSequence    int32
	LastTimestamp   int64
	LastOffset      record.Offset
	CurrentTxnStart record.Offset // -1 none
	// CoordinatorEpoch is that of its last transaction marker, -1 without one.
	CoordinatorEpoch int32
}

// sequenced is what is remembered of one batch.
type sequenced struct {
	lastSeq   int32
	delta     int32 // last minus first offset, and so of the sequences
	last      record.Offset
	timestamp int64
}

// firstSeq gives the sequence of the batch's first record; sequences wrap from the largest int32 to 0.
func (b sequenced) firstSeq() int32 { return int32((int64(b.lastSeq) - int64(b.delta)) & 0x7fffffff) }

// producer is the state of one producer ID. It is a plain value: copying it copies all.
type producer struct {
	id        int64
	epoch     int16
	n         int8          // batches
	coord     int32         // coordinator epoch of its last marker, -1 without one
	txn       record.Offset // first offset of the open transaction, -1 none
	timestamp int64         // of its last batch or marker
	last      record.Offset // -1: no data batch known
	seen      int64         // wall clock ms when it appended last, as far as known
	batches   [keptBatches]sequenced
}

// lastSeq gives the sequence of its last record, -1 without one.
func (p *producer) lastSeq() int32 {
	if p.n == 0 {
		return -1
	}
	return p.batches[p.n-1].lastSeq
}

// push remembers a batch as the last one.
func (p *producer) push(b sequenced) {
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = b
	p.n++
}

// find gives the remembered batch that h is a copy of.
func (p *producer) find(h *record.Header) (sequenced, bool) {
	if h.ProducerEpoch != p.epoch {
		return sequenced{}, false
	}
	for _, b := range p.batches[:p.n] {
		if b.firstSeq() == h.BaseSequence && b.lastSeq == h.LastSequence() {
			return b, true
		}
	}
	return sequenced{}, false
}

// judge tells why a leader must not append a batch of records, or nil.
// Source: KIP-98, KIP-360; Kafka's ProducerAppendInfo for the order of the checks.
func (p *producer) judge(h *record.Header) error {
	switch {
	case h.ProducerEpoch < p.epoch:
		return ErrInvalidProducerEpoch
	case h.BaseSequence < 0: // a coordinator's, which has no sequences
	case h.ProducerEpoch > p.epoch:
		if h.BaseSequence != 0 {
			return ErrOutOfOrderSequence
		}
	case int32((int64(p.lastSeq())+1)&0x7fffffff) != h.BaseSequence:
		return ErrOutOfOrderSequence
	}
	if p.txn >= 0 && !h.Transactional() {
		return ErrInvalidTxnState
	}
	return nil
}

// take brings the state up to date with a batch of records that is in the log.
func (p *producer) take(h *record.Header, now int64) {
	p.bump(h, now)
	p.last = h.Last()
	if h.BaseSequence >= 0 {
		p.push(sequenced{lastSeq: h.LastSequence(), delta: h.LastDelta, last: h.Last(), timestamp: h.MaxTimestamp})
	}
	if h.Transactional() && p.txn < 0 {
		p.txn = h.Base
	}
}

// bump notes epoch and time of a batch of any kind.
func (p *producer) bump(h *record.Header, now int64) {
	if h.ProducerEpoch != p.epoch {
		p.epoch, p.n = h.ProducerEpoch, 0
	}
	p.timestamp, p.seen = h.MaxTimestamp, now
}

// producers is the producer state of a partition: pure, without clock or disk.
// A leader stages the batches of one append and commits them once they are written.
// Invariant: open holds exactly the known producers with txn >= 0.
type producers struct {
	known   map[int64]*producer
	staged  []producer
	changes []change // of transactions, staged with them

	open  []openTxn         // by first offset
	ended []endedTxn        // since the log asked last
	moved bool              // open or ended changed since then
	asked map[int64]request // who is about to begin a transaction; nil: nobody
	asks  uint64            // numbers given to those
}

func newProducers() producers { return producers{known: map[int64]*producer{}} }

// tracked tells whether the batch concerns producer state.
func tracked(h *record.Header) bool { return h.ProducerID >= 0 }

// stage judges a batch of records, whose offsets are given, behind those staged before it.
// dup is true if the very batch is in the log at the offsets of old.
func (s *producers) stage(h *record.Header, a *Append) (old sequenced, dup bool, err error) {
	p, fresh := s.stagedOf(h)
	fresh = fresh || planted("no deduplication")
	if old, dup = p.find(h); dup && !fresh {
		return old, true, nil
	}
	// Why not for an unknown producer: its first batch may have any sequence, as its state may have expired.
	if !fresh {
		if err := p.judge(h); err != nil {
			return old, false, err
		}
	}
	if err := s.allowed(p, h, a); err != nil {
		return old, false, err
	}
	open := p.txn >= 0
	p.take(h, a.Now)
	if !open && p.txn >= 0 {
		s.changes = append(s.changes, change{id: p.id, first: p.txn, last: -1})
	}
	return old, false, nil
}

// stagedOf gives the staged state of the batch's producer, made from the known one or fresh.
func (s *producers) stagedOf(h *record.Header) (p *producer, fresh bool) {
	for i := range s.staged {
		if s.staged[i].id == h.ProducerID {
			return &s.staged[i], false
		}
	}
	if known := s.known[h.ProducerID]; known != nil {
		s.staged = append(s.staged, *known)
	} else {
		s.staged, fresh = append(s.staged, unknownProducer(h)), true
	}
	return &s.staged[len(s.staged)-1], fresh
}

// unknownProducer is the state before a producer's first batch.
func unknownProducer(h *record.Header) producer {
	return producer{id: h.ProducerID, epoch: h.ProducerEpoch, coord: -1, txn: -1, last: -1}
}

// commit makes what was staged the state; drop forgets it.
func (s *producers) commit() {
	for i := range s.staged {
		p := s.known[s.staged[i].id]
		if p == nil {
			p = s.admit(s.staged[i].id)
		}
		*p = s.staged[i]
	}
	s.staged = s.staged[:0]
	if len(s.changes) > 0 {
		s.apply()
	}
}

func (s *producers) drop() { s.staged, s.changes = s.staged[:0], s.changes[:0] }

// follow takes a batch as it is: from a leader, or found on disk. m is the marker in a
// control batch, nil if it has none.
func (s *producers) follow(h *record.Header, m *record.Marker, now int64) {
	p := s.known[h.ProducerID]
	if p == nil {
		p = s.admit(h.ProducerID)
		*p = unknownProducer(h)
	}
	open := p.txn
	if !h.Control() {
		p.take(h, now)
		if open < 0 && p.txn >= 0 {
			s.changes = append(s.changes, change{id: p.id, first: p.txn, last: -1})
		}
	} else if p.bump(h, now); m != nil {
		s.end(p, h, m)
	}
	s.apply()
}

// admit makes room for a producer.
func (s *producers) admit(id int64) *producer {
	if len(s.known) >= maxProducers {
		// Why a few only: looking at all would make each append of a new producer slow. A
		// map's order is random, so this is a fair sample.
		var oldest *producer
		looked := 0
		for _, p := range s.known {
			if p.txn < 0 && (oldest == nil || p.seen < oldest.seen) {
				oldest = p
			}
			if looked++; looked == 64 {
				break
			}
		}
		if oldest != nil {
			delete(s.known, oldest.id)
		}
	}
	p := new(producer)
	s.known[id] = p
	return p
}

// expire forgets producers that have appended nothing for so many ms and have no
// transaction open.
func (s *producers) expire(now, after int64) {
	for id, p := range s.known {
		if p.txn < 0 && now-p.seen >= after {
			delete(s.known, id)
		}
	}
	for id, r := range s.asked {
		if now-r.at >= after {
			delete(s.asked, id)
		}
	}
}

// sorted gives the states by ID.
func (s *producers) sorted() []*producer {
	all := make([]*producer, 0, len(s.known))
	for _, p := range s.known {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *producer) int {
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
	return all
}

// list gives what the outside may know, by ID.
func (s *producers) list() []Producer {
	all := s.sorted()
	out := make([]Producer, len(all))
	for i, p := range all {
		out[i] = Producer{ID: p.id, Epoch: p.epoch, LastSequence: p.lastSeq(), LastTimestamp: p.timestamp, LastOffset: p.last, CurrentTxnStart: p.txn, CoordinatorEpoch: p.coord}
	}
	return out
}
