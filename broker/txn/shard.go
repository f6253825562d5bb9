package txn

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// limits are the settings that transactions obey.
type limits struct {
	maxTimeout    time.Duration // that a producer may ask for
	abortInterval time.Duration // how often ongoing transactions are looked at
	expiry        time.Duration // of transactional IDs that are not used
	removeEvery   time.Duration // how often these are looked at
}

// Times that no setting names.
const (
	// patience is how long a request waits for the transition or the markers before it. Why so
	// short: the answers of its connection queue up behind it. Why at all: a client that hears
	// CONCURRENT_TRANSACTIONS pauses for longer than markers take.
	patience = 100 * time.Millisecond
	// retryMarkers is how long markers wait that could not be written.
	retryMarkers = 100 * time.Millisecond
)

// mostWaiters bounds the requests that wait in a shard; the others are answered at once.
const mostWaiters = 10_000

// shard is the transactional IDs of one __transaction_state partition: a state machine. It
// has neither clock nor goroutine nor lock; whoever calls it sets now, and runs what is in
// out when it has let go of every lock.
type shard struct {
	now    time.Time
	out    []func()
	ids    map[string]*transaction
	live   bool                  // everything is loaded
	abort  time.Time             // when to look for transactions that take too long
	sweep  time.Time             // when to look for IDs that nobody uses
	retry  time.Time             // when to send markers again
	unsent map[*transaction]bool // markers that failed, or the record after the last

	waiters []*waiter // by deadline; those that are over stay until it

	limits func() limits
	level  func() int16 // transaction.version of the cluster
	append func(journal.Entry) error
	// send has the markers of a decided transaction written; done is told the partitions that
	// need them no more. It is called, and calls, from outside of the shard.
	send    func(m record.Marker, version int8, parts []topic.Partition, done func(written []topic.Partition))
	reenter func(f func(*shard)) // runs f on the shard that serves the partition now, if one does
	epoch   int32                // the partition's leader epoch, for the markers
	logger  *slog.Logger
}

func newShard() *shard {
	return &shard{ids: make(map[string]*transaction), unsent: make(map[*transaction]bool)}
}

// waiter is a request that waits for the transition or the markers before it.
type waiter struct {
	deadline time.Time
	// try does the request unless it would be refused as concurrent; last makes it answer.
	try    func(last bool) (done bool)
	refuse func(code)
	over   bool
}

// Enter brings the present time.
func (s *shard) Enter(now time.Time) { s.now = now }

// Take gives what was put off.
func (s *shard) Take() []func() {
	out := s.out
	s.out = nil
	return out
}

func (s *shard) later(f func()) { s.out = append(s.out, f) }

func (s *shard) millis() int64 { return s.now.UnixMilli() }

// Next tells when something is due.
func (s *shard) Next() (next time.Time, ok bool) {
	take := func(t time.Time) {
		if !ok || t.Before(next) {
			next, ok = t, true
		}
	}
	if len(s.waiters) > 0 {
		take(s.waiters[0].deadline)
	}
	if s.live && len(s.ids) > 0 {
		take(s.abort)
		take(s.sweep)
	}
	if len(s.unsent) > 0 {
		take(s.retry)
	}
	return next, ok
}

// Ring lets everything happen that is due.
func (s *shard) Ring() {
	for len(s.waiters) > 0 && !s.waiters[0].deadline.After(s.now) {
		w := s.waiters[0]
		s.waiters[0] = nil
		s.waiters = s.waiters[1:]
		if !w.over {
			w.over = true
			w.try(true)
		}
	}
	if len(s.unsent) > 0 && !s.retry.After(s.now) {
		again := s.inOrder(maps.Keys(s.unsent))
		clear(s.unsent)
		for _, t := range again {
			s.mark(t)
		}
	}
	if !s.live {
		return
	}
	if !s.abort.After(s.now) {
		s.abort = s.now.Add(s.limits().abortInterval)
		s.abortLate()
	}
	if !s.sweep.After(s.now) {
		s.sweep = s.now.Add(s.limits().removeEvery)
		s.removeUnused()
	}
}

var _ journal.Shard = (*shard)(nil)

// Loaded makes the shard live after everything was replayed: what was decided is brought to
// its end.
func (s *shard) Loaded() {
	s.live = true
	s.abort, s.sweep = s.now.Add(s.limits().abortInterval), s.now.Add(s.limits().removeEvery)
	for _, t := range s.inOrder(maps.Values(s.ids)) {
		s.decided(t)
	}
}

// Resign fails everybody who waits: the partition is led elsewhere, or its journal ended.
func (s *shard) Resign() {
	for _, w := range s.waiters {
		if !w.over {
			w.over = true
			w.refuse(notCoordinator)
		}
	}
	logger := s.logger
	limits, level, appends, send, reenter, epoch := s.limits, s.level, s.append, s.send, s.reenter, s.epoch
	out, now := s.out, s.now
	*s = *newShard()
	s.limits, s.level, s.append, s.send, s.reenter, s.epoch, s.logger, s.out, s.now = limits, level, appends, send, reenter, epoch, logger, out, now
}

// inOrder gives transactions by ID.
func (s *shard) inOrder(ts func(func(*transaction) bool)) []*transaction {
	return slices.SortedFunc(ts, func(a, b *transaction) int { return strings.Compare(a.id, b.id) })
}

// ask does a request on a transactional ID: what judge wants is written and answered when it
// is committed. While the transaction is busy it waits for a moment.
func (s *shard) ask(id string, judge func(*transaction) change, answer func(change)) {
	if !s.try(id, judge, answer, false) {
		s.wait(id, judge, answer)
	}
}

func (s *shard) wait(id string, judge func(*transaction) change, answer func(change)) {
	t := s.ids[id]
	if t == nil || len(s.waiters) >= mostWaiters {
		s.later(func() { answer(refuse(concurrent)) })
		return
	}
	w := &waiter{
		deadline: s.now.Add(patience),
		try:      func(last bool) bool { return s.try(id, judge, answer, last) },
		refuse:   func(c code) { s.later(func() { answer(refuse(c)) }) },
	}
	s.waiters = append(s.waiters, w)
	t.waiting = append(t.waiting, w)
}

// try is ask without waiting, unless last: then the answer is what it is.
func (s *shard) try(id string, judge func(*transaction) change, answer func(change), last bool) (done bool) {
	t := s.ids[id]
	if t == nil {
		t = &transaction{id: strings.Clone(id), value: value{producer: -1, epoch: -1, previous: -1, next: -1, started: -1}, last: -1}
	}
	c := judge(t)
	switch {
	case c.next == nil && c.code == concurrent && !last:
		return false
	case c.next == nil:
		s.later(func() { answer(c) })
		return true
	}
	if s.ids[id] == nil {
		s.ids[t.id] = t // Why not id: that is the request's memory
	}
	s.write(t, c.next, c.last, func(failed code) {
		switch {
		case failed != none:
			s.later(func() { answer(refuse(failed)) })
		case c.code == concurrent && !last:
			s.wait(id, judge, answer) // the way is being made free
		default:
			s.later(func() { answer(c) })
		}
	})
	return true
}

// write brings a transition to the log; done is told when it is committed, or why it is not.
func (s *shard) write(t *transaction, next *value, last int16, done func(code)) {
	t.writing = true
	settled := func(err error) {
		t.writing = false
		if err == nil {
			t.last = last
		}
		done(codeOf(err))
		if err == nil {
			s.decided(t)
		}
		s.forget(t)
		s.wake(t)
	}
	e := journal.Entry{Records: []record.Record{s.record(t.id, next)}, Done: settled}
	if err := s.append(e); err != nil {
		settled(err)
	}
}

// forget lets go of an ID that was never stored.
func (s *shard) forget(t *transaction) {
	if t.producer < 0 && !t.writing && s.ids[t.id] == t {
		delete(s.ids, t.id)
	}
}

// wake lets those go on who waited for the transaction.
func (s *shard) wake(t *transaction) {
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		if w.over {
			continue
		}
		if w.over = true; !w.try(false) {
			w.over = false
			t.waiting = append(t.waiting, w)
		}
	}
}

// decided sends the markers of a transaction that was just decided.
func (s *shard) decided(t *transaction) {
	if t.writing || t.unmarked != nil || t.state != PrepareCommit && t.state != PrepareAbort {
		return
	}
	t.unmarked = make(map[topic.Partition]bool, len(t.parts))
	for _, p := range t.parts {
		t.unmarked[p] = true
	}
	s.mark(t)
}

// mark sends the markers that are not written, or ends the transaction if all are.
func (s *shard) mark(t *transaction) {
	if s.ids[t.id] != t || t.unmarked == nil || t.writing {
		return
	}
	if len(t.unmarked) == 0 {
		s.complete(t)
		return
	}
	m := record.Marker{ProducerID: t.producer, ProducerEpoch: t.epoch, CoordinatorEpoch: s.epoch, Commit: t.state == PrepareCommit}
	parts, version := slices.SortedFunc(maps.Keys(t.unmarked), byName), int8(t.version)
	s.later(func() {
		s.send(m, version, parts, func(written []topic.Partition) {
			s.reenter(func(now *shard) {
				if now == s && s.ids[t.id] == t {
					s.marked(t, written)
				}
			})
		})
	})
}

// marked notes the partitions that have their marker.
func (s *shard) marked(t *transaction, written []topic.Partition) {
	for _, p := range written {
		delete(t.unmarked, p)
	}
	if len(t.unmarked) > 0 {
		s.again(t)
		return
	}
	s.mark(t)
}

// again tries later.
func (s *shard) again(t *transaction) {
	if len(s.unsent) == 0 {
		s.retry = s.now.Add(retryMarkers)
	}
	s.unsent[t] = true
}

// complete ends a transaction whose markers are all written.
func (s *shard) complete(t *transaction) {
	// Why its own epoch: that is the one before what the producer gets next, if anything.
	last := t.last
	if t.next >= 0 {
		last = t.epoch
	}
	s.write(t, completed(&t.value, s.millis()), last, func(c code) {
		if c != none {
			s.again(t)
			return
		}
		t.unmarked = nil
	})
}

// abortLate aborts the transactions that take longer than their producers asked for.
func (s *shard) abortLate() {
	for _, t := range s.inOrder(maps.Values(s.ids)) {
		if t.state != Ongoing || t.writing || s.millis()-t.started < int64(t.timeout) {
			continue
		}
		s.logger.Info("transaction timed out and is aborted", "transactional_id", t.id, "producer", t.producer, "epoch", t.epoch)
		c := t.fence(s.millis())
		s.write(t, c.next, c.last, func(c code) {
			if c != none {
				s.logger.Warn("cannot abort a transaction that timed out, trying again", "transactional_id", t.id, "code", c)
			}
		})
	}
}

// removeUnused forgets transactional IDs that nobody has used for long.
func (s *shard) removeUnused() {
	expiry := s.limits().expiry.Milliseconds()
	for _, t := range s.inOrder(maps.Values(s.ids)) {
		if t.state == Ongoing || t.busy() || s.millis()-t.updated < expiry {
			continue
		}
		t.writing = true
		settled := func(err error) {
			t.writing = false
			if err != nil {
				s.logger.Warn("cannot remove a transactional ID that expired", "transactional_id", t.id, "err", err)
			}
			s.wake(t)
		}
		e := journal.Entry{Records: []record.Record{{Key: key(t.id)}}, Done: settled}
		if err := s.append(e); err != nil {
			settled(err)
		}
	}
}

// initProducer is InitProducerId.
func (s *shard) initProducer(id string, r initRequest, answer func(change)) {
	timeout := time.Duration(r.timeout) * time.Millisecond
	if timeout <= 0 || timeout > s.limits().maxTimeout {
		s.later(func() { answer(refuse(invalidTimeout)) })
		return
	}
	s.ask(id, func(t *transaction) change { return t.init(r, s.millis()) }, answer)
}

func (s *shard) add(id string, producer int64, epoch int16, parts []topic.Partition, version int16, answer func(code)) {
	s.ask(id, func(t *transaction) change {
		return t.add(producer, epoch, parts, version, s.millis())
	}, func(c change) { answer(c.code) })
}

func (s *shard) verify(id string, producer int64, epoch int16, parts []topic.Partition) (code, map[topic.Partition]code) {
	t := s.ids[id]
	if t == nil {
		return invalidMapping, nil
	}
	return t.verify(producer, epoch, parts)
}

func (s *shard) end(id string, r endRequest, answer func(change)) {
	s.ask(id, func(t *transaction) change { return t.end(r, s.millis()) }, answer)
}
