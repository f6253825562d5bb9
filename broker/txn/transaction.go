package txn

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/belfry-mq/belfry/broker/topic"
)

// value is what is stored of a transactional ID. It is replaced, never changed.
type value struct {
	producer int64 // ID; -1: none yet
	epoch    int16
	previous int64 // the producer ID before the last transition, -1 none
	next     int64 // the producer ID once the markers are written; -1: the same (KIP-890)
	timeout  int32 // ms
	state    State
	parts    []topic.Partition // of the transaction, sorted
	updated  int64             // ms
	started  int64             // ms; -1: not yet
	version  int16             // transaction.version that the producer works by, as far as it said
}

// transaction is one transactional ID. What is below value is not stored.
type transaction struct {
	id string
	value
	// last is the epoch that the producer had before it asked for a new one, so that it may
	// ask again (KIP-360); -1: it did not say, or that was before a restart.
	last     int16
	writing  bool                     // a transition is on its way to the log
	unmarked map[topic.Partition]bool // Prepare...: partitions whose marker is not written
	waiting  []*waiter                // for the transition or the markers
}

// lastEpoch is the largest epoch that a producer is given. Why not the largest there is:
// that one is for fencing it.
const lastEpoch = math.MaxInt16 - 1

func exhausted(epoch int16) bool { return epoch >= lastEpoch }

// change is what a request wants.
type change struct {
	code   code
	next   *value // what to write; nil: nothing, the code is the answer
	last   int16  // the transaction's last once next is written
	needID bool   // come again with a fresh producer ID

	// producer and epoch are the answer of a change that is done already, or will be with next.
	producer int64
	epoch    int16
}

func refuse(c code) change { return change{code: c, producer: -1, epoch: -1} }

// busy tells that nothing may begin now: a transition or markers are being written.
func (t *transaction) busy() bool {
	return t.writing || t.state == PrepareCommit || t.state == PrepareAbort
}

// initRequest is InitProducerId.
type initRequest struct {
	timeout  int32 // ms
	producer int64 // that the producer has; -1: none
	epoch    int16
	fresh    int64 // a producer ID of nobody; -1: not fetched yet
}

// init gives the producer an epoch of its own, which fences all before it.
// Source: KIP-98, KIP-360, KIP-890.
func (t *transaction) init(r initRequest, now int64) change {
	expects := r.producer >= 0
	switch {
	case t.writing:
		return refuse(concurrent)
	case t.producer < 0:
		return t.rotate(r, now) // nobody was here before
	case expects && r.producer != t.producer && !(r.producer == t.previous && exhausted(r.epoch)):
		return refuse(producerFenced)
	}
	switch t.state {
	case PrepareCommit, PrepareAbort:
		return refuse(concurrent)
	case Ongoing:
		if expects && r.epoch != t.epoch {
			return refuse(producerFenced) // Why before the abort: the transaction is a newer producer's
		}
		c := t.fence(now)
		if expects {
			c.last = r.epoch
		}
		return c
	}
	if exhausted(t.epoch) && (!expects || r.epoch == t.epoch) {
		return t.rotate(r, now)
	}
	v := value{producer: t.producer, previous: t.producer, next: -1, timeout: r.timeout, started: -1, updated: now}
	last := int16(-1)
	switch {
	case !expects:
		v.epoch = t.epoch + 1
	case r.epoch == t.epoch:
		v.epoch, last = t.epoch+1, t.epoch
	case r.epoch == t.last:
		// Why not fenced: it asks again for what it was given; a new producer would have made last -1.
		v.epoch, last = t.epoch, t.last
	default:
		return refuse(producerFenced)
	}
	return change{next: &v, last: last, producer: v.producer, epoch: v.epoch}
}

// rotate gives the producer a new ID.
func (t *transaction) rotate(r initRequest, now int64) change {
	if r.fresh < 0 {
		return change{needID: true}
	}
	last := int16(-1)
	if r.producer >= 0 {
		last = t.epoch
	}
	v := value{producer: r.fresh, previous: t.producer, next: -1, timeout: r.timeout, started: -1, updated: now}
	return change{next: &v, last: last, producer: v.producer, epoch: 0}
}

// fence aborts an ongoing transaction with an epoch that its producer does not have. The
// version is 0 whatever the producer's, so that the producer cannot take it for the end that
// it asked for itself.
func (t *transaction) fence(now int64) change {
	v := t.value
	v.epoch, v.state, v.updated, v.previous, v.next, v.version = t.epoch+1, PrepareAbort, now, t.producer, -1, 0
	return change{code: concurrent, next: &v, last: -1, producer: -1, epoch: -1}
}

// judge tells whether the producer is the one that has the ID now.
func (t *transaction) judge(producer int64, epoch int16) code {
	switch {
	case t.producer < 0, t.producer != producer:
		return invalidMapping
	case t.epoch != epoch:
		return producerFenced
	}
	return none
}

// add takes partitions into the transaction, which begins with the first.
func (t *transaction) add(producer int64, epoch int16, parts []topic.Partition, version int16, now int64) change {
	if c := t.judge(producer, epoch); c != none {
		return refuse(c)
	}
	if t.busy() {
		return refuse(concurrent)
	}
	missing := slices.ContainsFunc(parts, func(p topic.Partition) bool { return !t.has(p) })
	if t.state == Ongoing && !missing {
		return refuse(none)
	}
	v := t.value
	if t.state != Ongoing {
		v.started = now
	}
	v.state, v.updated, v.previous, v.next, v.version = Ongoing, now, t.producer, -1, version
	v.parts = slices.Concat(t.parts, parts)
	slices.SortFunc(v.parts, byName)
	v.parts = slices.Compact(v.parts)
	return change{next: &v, last: t.last}
}

func byName(a, b topic.Partition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

func (t *transaction) has(p topic.Partition) bool {
	_, ok := slices.BinarySearchFunc(t.parts, p, byName)
	return ok
}

// verify tells of each partition whether it is in the transaction (KIP-890, part 1). A
// transition on its way is not looked at: partitions count once they are committed.
func (t *transaction) verify(producer int64, epoch int16, parts []topic.Partition) (code, map[topic.Partition]code) {
	if c := t.judge(producer, epoch); c != none {
		return c, nil
	}
	if t.state == PrepareCommit || t.state == PrepareAbort {
		return concurrent, nil
	}
	out := make(map[topic.Partition]code, len(parts))
	for _, p := range parts {
		out[p] = none
		if !t.has(p) {
			out[p] = abortable
		}
	}
	return none, out
}

// endRequest is EndTxn.
type endRequest struct {
	producer int64
	epoch    int16
	commit   bool
	version  int16 // transaction.version of the request: 2 raises the epoch at each end
	fresh    int64 // as in initRequest
}

// end decides the transaction. Asked again after it was decided the same way, it gives the
// same answer.
// Source: KIP-98; KIP-890, part 2.
func (t *transaction) end(r endRequest, now int64) change {
	bumps := t.version >= 2
	deciding := t.state == PrepareCommit || t.state == PrepareAbort
	complete := t.state == CompleteCommit || t.state == CompleteAbort
	bumped := bumps && (deciding || complete) && t.producer == r.producer && t.epoch-1 == r.epoch
	overflowed := bumps && complete && t.previous == r.producer && r.epoch == lastEpoch && t.epoch == 0
	again := bumped || overflowed
	switch {
	case t.producer < 0, t.producer != r.producer && !overflowed:
		return refuse(invalidMapping)
	case t.writing && (again || t.epoch == r.epoch):
		return refuse(concurrent)
	}
	same := (t.state == PrepareCommit || t.state == CompleteCommit) == r.commit
	if !bumps && (deciding || complete) {
		again = t.epoch == r.epoch && (r.version < 2 || deciding) // the epoch does not tell
	}
	switch {
	case !again && t.epoch != r.epoch:
		return refuse(producerFenced)
	case !again && deciding:
		return refuse(concurrent) // the next transaction ends before the markers of this one are written
	case again && !same:
		return refuse(invalidState)
	case again && deciding:
		return refuse(concurrent)
	case again:
		return change{producer: t.producer, epoch: t.epoch}
	case t.state == Ongoing:
		return t.decide(r, now)
	case r.version >= 2 && !r.commit:
		return t.decide(r, now) // an abort of nothing: only the epoch goes on
	}
	return refuse(invalidState)
}

func (t *transaction) decide(r endRequest, now int64) change {
	v := t.value
	v.state, v.updated, v.previous, v.next, v.version = PrepareAbort, now, t.producer, -1, r.version
	if r.commit {
		v.state = PrepareCommit
	}
	if v.state == PrepareAbort && t.state != Ongoing {
		v.started, v.parts = now, nil
	}
	last := t.last
	if r.version >= 2 {
		if exhausted(t.epoch) {
			if r.fresh < 0 {
				return change{needID: true}
			}
			v.next = r.fresh
		}
		v.epoch, last = t.epoch+1, t.epoch
	}
	done := completed(&v, now)
	return change{next: &v, last: last, producer: done.producer, epoch: done.epoch}
}

// completed is what a decided transaction becomes when all markers are written.
func completed(t *value, now int64) *value {
	v := *t
	v.state = CompleteAbort
	if t.state == PrepareCommit {
		v.state = CompleteCommit
	}
	v.parts, v.updated, v.previous = nil, now, t.producer
	if t.next >= 0 {
		v.producer, v.epoch, v.next = t.next, 0, -1
	}
	return &v
}
