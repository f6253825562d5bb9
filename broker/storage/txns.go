package storage

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/record"
)

// change is the begin (last -1) or the end of a transaction that a staged batch brings.
type change struct {
	id          int64
	first, last record.Offset // last: the marker's
	aborted     bool
}

// openTxn is a transaction without a marker.
type openTxn struct {
	id    int64
	first record.Offset
}

// endedTxn is a transaction with its marker.
type endedTxn struct {
	id          int64
	first, last record.Offset // last: the marker's
	aborted     bool
	stable      record.Offset // last stable offset once the marker is committed
}

// request is a producer that is about to begin a transaction here, while the
// coordinator is asked whether it may (KIP-890).
type request struct {
	ticket uint64
	epoch  int16
	lowest int32 // smallest sequence that came; a larger one must not be the first
	at     int64 // ms
}

// maxAsked bounds the producers that are about to begin a transaction in one partition;
// past it one of them has to ask again.
const maxAsked = 8 << 10

// Ticket is the leave to begin a transaction, for Append: void once a marker of the
// producer was written, so that a batch which the coordinator's answer overtook begins no
// transaction that nobody ends. The zero Ticket is none.
type Ticket struct{ n uint64 }

// ticket tells whether a client's batch begins a transaction, so that its coordinator must be
// asked first, and gives what the append must show then.
func (s *producers) ticket(h *record.Header, now int64) (t Ticket, begins bool) {
	if !h.Transactional() || h.Control() || h.BaseSequence < 0 {
		return t, false
	}
	if p := s.known[h.ProducerID]; p != nil {
		if _, dup := p.find(h); dup || p.txn >= 0 && p.epoch == h.ProducerEpoch || h.ProducerEpoch < p.epoch {
			return t, false // in a transaction already; or Append knows the answer
		}
	}
	r, there := s.asked[h.ProducerID]
	if !there {
		s.roomToAsk()
		s.asks++
		r = request{ticket: s.asks, epoch: h.ProducerEpoch, lowest: h.BaseSequence}
	}
	if h.ProducerEpoch > r.epoch {
		r.epoch, r.lowest = h.ProducerEpoch, h.BaseSequence
	}
	if h.ProducerEpoch == r.epoch {
		r.lowest = min(r.lowest, h.BaseSequence)
	}
	r.at = now
	s.asked[h.ProducerID] = r
	return Ticket{r.ticket}, true
}

func (s *producers) roomToAsk() {
	if s.asked == nil {
		s.asked = map[int64]request{}
	}
	if len(s.asked) < maxAsked {
		return
	}
	for id := range s.asked {
		delete(s.asked, id) // any: the order of a map is random
		return
	}
}

// allowed tells why a client's transactional batch must not be appended although its
// sequence is right, or nil.
func (s *producers) allowed(p *producer, h *record.Header, a *Append) error {
	if !a.Verify || !h.Transactional() || h.BaseSequence < 0 || p.txn >= 0 && p.epoch == h.ProducerEpoch {
		return nil
	}
	r, there := s.asked[h.ProducerID]
	switch {
	case !there || r.ticket != a.Ticket.n:
		return ErrInvalidTxnState
	case r.epoch == h.ProducerEpoch && h.BaseSequence > r.lowest:
		return ErrOutOfOrderSequence
	}
	return nil
}

// stageMarker judges a marker, in the control batch h, behind what was staged before it.
// version is that of the transactions' protocol (transaction.version); from 2 on each end of
// a transaction has an epoch of its own.
// Source: KIP-98, KIP-890; KIP-1228 for the epochs.
func (s *producers) stageMarker(h *record.Header, m *record.Marker, a *Append) error {
	p, fresh := s.stagedOf(h)
	if !fresh {
		again := h.ProducerEpoch == p.epoch && p.txn < 0 // a marker that was written comes again
		switch {
		case h.ProducerEpoch < p.epoch, a.TxnVersion >= 2 && h.ProducerEpoch == p.epoch && !again:
			return ErrInvalidProducerEpoch
		case m != nil && m.CoordinatorEpoch < p.coord:
			return ErrCoordinatorFenced
		}
	}
	p.bump(h, a.Now)
	if m != nil {
		s.end(p, h, m)
	}
	return nil
}

// end closes the producer's transaction, if it has one.
func (s *producers) end(p *producer, h *record.Header, m *record.Marker) {
	// Why also without a transaction: the marker says that the producer has none here.
	s.changes = append(s.changes, change{id: p.id, first: p.txn, last: h.Last(), aborted: !m.Commit})
	p.txn, p.coord = -1, m.CoordinatorEpoch
}

// apply makes what was staged of transactions true.
func (s *producers) apply() {
	for _, c := range s.changes {
		delete(s.asked, c.id)
		switch {
		case c.last < 0:
			s.open = append(s.open, openTxn{c.id, c.first})
		case c.first >= 0:
			s.open = slices.DeleteFunc(s.open, func(o openTxn) bool { return o.id == c.id })
			stable := c.last + 1
			if len(s.open) > 0 {
				stable = s.open[0].first
			}
			s.ended = append(s.ended, endedTxn{c.id, c.first, c.last, c.aborted, stable})
		default:
			continue
		}
		s.moved = true
	}
	s.changes = s.changes[:0]
}

// reopen makes the list of open transactions anew from the producers.
func (s *producers) reopen() {
	s.open = nil
	for _, p := range s.known {
		if p.txn >= 0 {
			s.open = append(s.open, openTxn{p.id, p.txn})
		}
	}
	slices.SortFunc(s.open, func(a, b openTxn) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.id, b.id)) })
}

// firstOpen gives where the oldest open transaction begins.
func (s *producers) firstOpen() record.Offset {
	if len(s.open) == 0 {
		return math.MaxInt64
	}
	return s.open[0].first
}

// undecided knows up to where a log's transactions are decided: ended, and the marker below
// the high watermark (R6). It has a mutex of its own, as the high watermark moves while
// appends write.
type undecided struct {
	first atomic.Int64 // of the oldest transaction that is not decided

	mu struct {
		sync.Mutex
		open  record.Offset // first of the oldest without a marker
		ended []endedTxn    // whose marker is not below the high watermark
	}
}

func newUndecided() *undecided {
	u := &undecided{}
	u.mu.open = math.MaxInt64
	u.first.Store(math.MaxInt64)
	return u
}

// note takes what ended, and where the oldest open one begins.
func (u *undecided) note(ended []endedTxn, open, high record.Offset) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.open = open
	u.mu.ended = append(u.mu.ended, ended...)
	u.settleLocked(high)
}

// reset forgets all but these.
func (u *undecided) reset(ended []endedTxn, open, high record.Offset) {
	u.mu.Lock()
	u.mu.ended = nil
	u.mu.Unlock()
	u.note(ended, open, high)
}

// reach says how far the log is committed.
func (u *undecided) reach(high record.Offset) {
	if u.first.Load() == math.MaxInt64 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settleLocked(high)
}

func (u *undecided) settleLocked(high record.Offset) {
	u.mu.ended = slices.DeleteFunc(u.mu.ended, func(e endedTxn) bool { return e.last < high })
	first := u.mu.open
	for _, e := range u.mu.ended {
		first = min(first, e.first)
	}
	if len(u.mu.ended) == 0 {
		u.mu.ended = nil
	}
	u.first.Store(int64(first))
}

// list gives those whose marker is not known to be committed.
func (u *undecided) list() []endedTxn {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.mu.ended)
}

// LastStable gives the offset below which every transaction is decided, given the high
// watermark (R6).
//
// Requires: high was read before the call: what begins meanwhile begins above it.
func (l *Log) LastStable(high record.Offset) record.Offset {
	return max(l.Start(), min(high, record.Offset(l.undecided.first.Load())))
}

// Ticket tells whether the batch of a client, given by its header, begins a transaction here,
// and gives what Append wants to see once the transaction's coordinator agreed.
func (l *Log) Ticket(h record.Header, now int64) (t Ticket, begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.producers.ticket(&h, now)
}

// adoptTxnsLocked tells the rest of the log what became of transactions. Aborted ones go into
// the index of s, unless it is nil.
func (l *Log) adoptTxnsLocked(s *segment) {
	ps := &l.mu.producers
	if !ps.moved {
		return
	}
	for _, e := range ps.ended {
		if e.aborted && s != nil {
			l.noteAborted(s, e)
		}
	}
	l.undecided.note(ps.ended, ps.firstOpen(), l.HighWatermark())
	ps.ended, ps.moved = ps.ended[:0], false
}

// markerIn reads the marker of a batch, nil if it has none.
func markerIn(h *record.Header, batch []byte) (*record.Marker, error) {
	if !h.Control() {
		return nil, nil
	}
	m, ok, err := record.ReadMarker(batch)
	if err != nil || !ok {
		return nil, err
	}
	return &m, nil
}
