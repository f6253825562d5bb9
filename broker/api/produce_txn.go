package api

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Versions of Produce that changed what a client understands of transactions.
// Source: KIP-890.
const (
	produceAbortable = 11 // TRANSACTION_ABORTABLE
	produceImplicit  = 12 // a partition need not be added before: the broker does so
)

// admitted is what the door let in of one partition's records.
type admitted struct {
	batch []byte
	info  record.Info
}

// verifyKey names a producer that is about to begin a transaction in a partition.
type verifyKey struct {
	part     *replica.Partition
	producer int64
}

// verifying holds the batches that wait until the coordinator says that their transaction may
// have the partition. What one producer sends to one partition stays in its order: as long as
// there is a queue, it goes to its end.
type verifying struct {
	mu     sync.Mutex
	queues map[verifyKey]*verifyQueue
}

type verifyQueue struct {
	id    string // transactional
	epoch int16
	waits []verifyWait
}

type verifyWait struct {
	slot    *produceSlot
	in      admitted
	ticket  storage.Ticket
	timeout time.Duration
}

// join puts the wait into the queue of its producer and partition, if there is one.
// begin makes the queue; first is true for whoever did.
func (v *verifying) join(k verifyKey, w verifyWait, begin bool, id string) (joined, first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q := v.queues[k]
	if q == nil && !begin {
		return false, false
	}
	if first = q == nil; first {
		if v.queues == nil {
			v.queues = map[verifyKey]*verifyQueue{}
		}
		q = &verifyQueue{id: id, epoch: w.in.info.First.ProducerEpoch}
		v.queues[k] = q
	}
	q.waits = append(q.waits, w)
	return true, first
}

// take gives what waits; once nothing does, the queue is gone.
func (v *verifying) take(k verifyKey) (id string, epoch int16, waits []verifyWait) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q := v.queues[k]
	waits, q.waits = q.waits, nil
	if len(waits) == 0 {
		delete(v.queues, k)
	}
	return q.id, q.epoch, waits
}

// renew takes a new ticket for whoever waits with a void one, and tells whether there was any.
func (v *verifying) renew(k verifyKey, now time.Time) (void bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q := v.queues[k]
	for i := range q.waits {
		w := &q.waits[i]
		if t, begins := k.part.Ticket(w.in.info.First, now); begins && t != w.ticket {
			w.ticket, void = t, true
		}
	}
	return void
}

// transactional appends a batch of a transaction; one that begins it here waits for the
// transaction's coordinator first.
func (c *produceCall) transactional(s *produceSlot, in admitted, timeout time.Duration) {
	a := c.api
	switch {
	case c.req.TransactionID == nil:
		c.fail(s, refuse(kerr.TransactionalIDAuthorizationFailed, "the batch is part of a transaction, the request has no transactional ID"))
		return
	case a.transactions == nil:
		c.fail(s, refuse(kerr.InvalidTxnState, "transactions are not served: the batch is marked transactional"))
		return
	}
	w := verifyWait{slot: s, in: in, timeout: timeout}
	var begins bool
	w.ticket, begins = s.part.Ticket(in.info.First, a.now())
	k := verifyKey{s.part, in.info.First.ProducerID}
	joined, first := a.verifying.join(k, w, begins, *c.req.TransactionID)
	if first {
		c.asking = append(c.asking, k)
	}
	if !joined {
		c.appendVerified(w)
	}
}

func (c *produceCall) appendVerified(w verifyWait) {
	got, err := w.slot.part.AppendVerified(w.in.batch, c.req.Acks, c.api.now(), w.ticket)
	c.appended(w.slot, w.in.info, got, err, w.timeout)
}

// ask asks the coordinators about the partitions in which the request begins transactions,
// and goes on with them when these answer. It does not wait for that.
func (c *produceCall) ask(timeout time.Duration) {
	a, keys := c.api, c.asking
	id, verifyOnly := *c.req.TransactionID, c.req.Version < produceImplicit
	c.asking = nil
	run := func() {
		ctx, cancel := context.WithTimeout(a.closing, timeout)
		defer cancel()
		for len(keys) > 0 {
			n := a.sameProducer(keys)
			a.askOne(ctx, id, keys[:n], verifyOnly)
			keys = keys[n:]
		}
	}
	if !a.later(run) {
		for _, k := range keys {
			a.verified(k, context.Canceled)
		}
	}
}

// sameProducer gives how many of the keys, from the first on, ask for the same producer and epoch.
func (a *API) sameProducer(keys []verifyKey) int {
	a.verifying.mu.Lock()
	defer a.verifying.mu.Unlock()
	n := 1
	for n < len(keys) && keys[n].producer == keys[0].producer && a.verifying.queues[keys[n]].epoch == a.verifying.queues[keys[0]].epoch {
		n++
	}
	return n
}

// mostAsked bounds how often a coordinator is asked anew because a marker came in between.
const mostAsked = 3

// askOne asks one coordinator about partitions of one producer. Why perhaps again: the marker
// of the producer's transaction before, on which the coordinator's answer had to wait, makes
// the leave to begin one void, as that of a later one would.
func (a *API) askOne(ctx context.Context, id string, keys []verifyKey, verifyOnly bool) {
	for range mostAsked - 1 {
		keys = slices.DeleteFunc(a.askOnce(ctx, id, keys, verifyOnly), func(k verifyKey) bool {
			if a.verifying.renew(k, a.now()) {
				return false
			}
			a.verified(k, nil)
			return true
		})
		if len(keys) == 0 {
			return
		}
	}
	for _, k := range a.askOnce(ctx, id, keys, verifyOnly) {
		a.verified(k, nil)
	}
}

// askOnce asks, goes on with the partitions that are refused, and gives the others.
func (a *API) askOnce(ctx context.Context, id string, keys []verifyKey, verifyOnly bool) (agreed []verifyKey) {
	a.verifying.mu.Lock()
	epoch := a.verifying.queues[keys[0]].epoch
	a.verifying.mu.Unlock()
	parts := make([]topic.Partition, len(keys))
	for i, k := range keys {
		parts[i] = k.part.Name()
	}
	each, err := a.transactions.AddPartitions(ctx, id, keys[0].producer, epoch, parts, verifyOnly)
	for i, k := range keys {
		why, told := err, err != nil
		if !told {
			why, told = each[parts[i]]
		}
		if !told {
			why = refuse(kerr.CoordinatorNotAvailable, "the coordinator did not tell")
		}
		if why != nil {
			a.verified(k, why)
			continue
		}
		agreed = append(agreed, k)
	}
	return agreed
}

// verified goes on with all that waits for the answer, in order.
func (a *API) verified(k verifyKey, err error) {
	for {
		id, epoch, waits := a.verifying.take(k)
		if len(waits) == 0 {
			return
		}
		for _, w := range waits {
			c := w.slot.call
			why := err
			if why == nil && (*c.req.TransactionID != id || w.in.info.First.ProducerEpoch != epoch) {
				why = refuse(kerr.ConcurrentTransactions, "the answer was for another transactional ID or epoch of this producer")
			}
			if why != nil {
				c.fail(w.slot, unverified(why, c.req.Version))
				continue
			}
			c.appendVerified(w)
		}
	}
}

// unverified turns the coordinator's refusal into what a client of that Produce version
// handles rightly. Why NOT_ENOUGH_REPLICAS: every client tries again after it, and asks
// for no new metadata.
// Source: KIP-890; Kafka's ReplicaManager and AddPartitionsToTxnManager.
func unverified(err error, version int16) error {
	code, what := codeOf(err), fmt.Sprintf("cannot verify that the partition is in the transaction: %v", err)
	switch code {
	case kerr.ProducerFenced.Code:
		return refuse(kerr.InvalidProducerEpoch, what)
	case kerr.TransactionAbortable.Code:
		if version < produceAbortable {
			return refuse(kerr.InvalidTxnState, what)
		}
	case kerr.ConcurrentTransactions.Code:
		if version < produceImplicit {
			return refuse(kerr.NotEnoughReplicas, what)
		}
	case kerr.NetworkException.Code, kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.NotCoordinator.Code, kerr.RequestTimedOut.Code:
		return refuse(kerr.NotEnoughReplicas, what)
	}
	return err
}
