package storage

import (
	"cmp"
	"slices"

	"github.com/belfry-mq/belfry/broker/record"
)

// walk follows transactions over the batches of a log, in their order: which records were
// aborted, and which markers end a transaction of which nothing is left. Pure.
// Source: KIP-98, KIP-534; Kafka's CleanedTransactionMetadata.
type walk struct {
	ahead     []endedTxn // aborted ones, by first offset, that were not reached yet
	aborting  map[int64]abortedSeen
	committed map[int64]bool // producers with records that were not aborted since their last marker
}

type abortedSeen struct {
	endedTxn
	left bool // a batch of it is still there
}

// newWalk begins a walk before all of the aborted transactions.
func newWalk(aborted []endedTxn) walk {
	ahead := slices.Clone(aborted)
	slices.SortFunc(ahead, func(a, b endedTxn) int { return cmp.Compare(a.first, b.first) })
	return walk{ahead: ahead, aborting: map[int64]abortedSeen{}, committed: map[int64]bool{}}
}

func (w *walk) upTo(last record.Offset) {
	for len(w.ahead) > 0 && w.ahead[0].first <= last {
		w.aborting[w.ahead[0].id] = abortedSeen{endedTxn: w.ahead[0]}
		w.ahead = w.ahead[1:]
	}
}

// records tells whether a batch of records was aborted.
func (w *walk) records(b *record.Header) bool {
	if !b.Transactional() {
		return false
	}
	w.upTo(b.Last())
	if t, ok := w.aborting[b.ProducerID]; ok && b.Last() < t.last {
		t.left = true
		w.aborting[b.ProducerID] = t
		return true
	}
	w.committed[b.ProducerID] = true
	return false
}

// marker tells whether a control batch may go because nothing of its transaction is left, or
// else which aborted transaction it ends, if it is one. m is nil for a batch without a marker.
func (w *walk) marker(b *record.Header, m *record.Marker) (idle bool, aborted *endedTxn) {
	if m == nil {
		return b.Count == 0, nil
	}
	w.upTo(b.Last())
	t, ok := w.aborting[b.ProducerID]
	if ok && t.last <= b.Last() {
		delete(w.aborting, b.ProducerID)
	}
	some := w.committed[b.ProducerID]
	delete(w.committed, b.ProducerID)
	if m.Commit {
		return !some, nil
	}
	if ok && t.left {
		return false, &t.endedTxn
	}
	return !some, nil
}

// lastOf is what a producer's state hangs on in the log.
type lastOf struct {
	offset record.Offset // of its last batch of records, -1 none is known
	epoch  int16
}

// needed tells whether a batch must survive, be it without records, for its producer's state (R27).
func (p *pass) needed(b *record.Header) bool {
	last, ok := p.last[b.ProducerID]
	switch {
	case !ok:
		return false
	case last.offset >= 0:
		return last.offset == b.Last()
	}
	return b.Control() && last.epoch == b.ProducerEpoch
}

// filterMarker appends what is left of a control batch to out. A marker stays as long as
// records of its transaction do, and then for delete.retention.ms, so that a reader that
// is in the middle of the transaction comes upon it.
func (p *pass) filterMarker(b *record.Header, batch []byte) error {
	m, err := markerIn(b, batch)
	if err != nil {
		return err
	}
	idle, aborted := p.txns.marker(b, m)
	if aborted != nil {
		e := putAborted(*aborted)
		p.into.aborts.add(e[:])
	}
	dated := b.Attributes&record.DeleteHorizonBit != 0
	switch {
	case !idle, dated && p.now < b.FirstTimestamp, b.Count == 0 && p.needed(b):
		p.out = append(p.out, batch...)
	case b.Count > 0 && !dated:
		// Why all of it: a marker's key is no client's, who may use the same bytes.
		out, err := stamped(b, batch, p.now+p.keep, func(*record.Record) bool { return true })
		p.out = append(p.out, out...)
		return err
	case p.needed(b):
		p.out = appendEmpty(p.out, *b)
	}
	return nil
}
