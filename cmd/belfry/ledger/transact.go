package ledger

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// span is numbers of one producer, the end not included, that belong to one transaction.
type span struct {
	name     string
	from, to int
}

// Abort takes down that a transaction of these numbers is never committed. Requires: called before it could be.
func (l *Ledger) Abort(name string, from, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.mu.aborted[name]
	if b == nil {
		b = &bitmap{}
		l.mu.aborted[name] = b
	}
	for i := from; i < to; i++ {
		b.add(i)
	}
}

// Unsure takes down that nobody knows whether a transaction of these numbers was committed: all of it is there, or nothing.
func (l *Ledger) Unsure(name string, from, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.unsure = append(l.mu.unsure, span{name, from, to})
}

// tornLocked judges the transactions of which nobody knew, after a reading of everything.
func (r *Reading) tornLocked() {
	for _, s := range r.l.mu.unsure {
		var back bitmap
		if b := r.produced[s.name]; b != nil {
			back = b.numbers
		}
		there := 0
		for i := s.from; i < s.to; i++ {
			if back.has(i) {
				there++
			}
		}
		if there > 0 && there < s.to-s.from {
			r.l.findLocked(Torn, "%s: of the transaction of numbers %d to %d of %s only %d are there", r.Who, s.from, s.to-1, s.name, there)
		}
	}
}

// Marker is a control record that the reader is given next.
func (r *Reading) Marker(partition int32, offset int64) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if next := r.Next[partition]; offset > next {
		r.gapLocked(partition, next, offset)
	}
	if slots := r.l.mu.slots[partition]; offset < int64(len(slots)) && slots[offset] != 0 {
		e := slots[offset]
		r.l.findLocked(Conflict, "%s: partition %d offset %d: read a marker, and before %s number %d of %s",
			r.Who, partition, offset, how(e&ackedBit != 0), e.number(), r.l.mu.names[e.producer()])
	}
	r.Next[partition] = max(r.Next[partition], offset+1)
}

// Transact sends transactions of some numbered messages each, over several partitions, until ctx ends; some are aborted
// on purpose, what fails is aborted too. It gives how many were committed, aborted, and how many nobody knows of.
func (l *Ledger) Transact(ctx context.Context, seeds []string, name string, rnd *rand.Rand) (committed, aborted, unsure int) {
	var c *kgo.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for next := 0; ctx.Err() == nil; {
		if c == nil {
			var err error
			// Why so short a time-out: what a client leaves open must not hold readers back for a minute.
			if c, err = Client(seeds, kgo.TransactionalID(name), kgo.TransactionTimeout(10*time.Second), kgo.DefaultProduceTopic(l.Topic),
				kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.ProduceRequestTimeout(4*time.Second)); err != nil {
				l.Find(Refused, "%s: %v", name, err)
				return
			}
		}
		from, to := next, next+2+rnd.IntN(8)
		next = to
		result := l.transaction(ctx, c, name, from, to, rnd.IntN(4) == 0)
		switch result {
		case isCommitted:
			committed++
		case isAborted:
			aborted++
		default:
			if result == isUnsure {
				unsure++
			}
			c.Close()
			c = nil
		}
	}
	return committed, aborted, unsure
}

// result of a transaction.
type result int

const (
	isCommitted result = iota
	isAborted
	isUnsure // and the client is good for nothing more
	isFailed // certainly not committed; and the client is good for nothing more
)

func (l *Ledger) transaction(ctx context.Context, c *kgo.Client, name string, from, to int, abort bool) result {
	if err := c.BeginTransaction(); err != nil {
		l.Abort(name, from, to)
		return isFailed
	}
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, &kgo.Record{Topic: l.Topic, Value: l.Value(name, i)})
	}
	// Why not ctx: a transaction that was begun is brought to its end.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 90*time.Second)
	defer cancel()
	failed := c.ProduceSync(end, rs...).FirstErr() != nil
	if abort || failed {
		l.Abort(name, from, to)
		if c.EndTransaction(end, kgo.TryAbort) != nil {
			return isFailed
		}
		return isAborted
	}
	if c.EndTransaction(end, kgo.TryCommit) != nil {
		l.Unsure(name, from, to)
		return isUnsure
	}
	for k, r := range rs {
		l.Note(r.Partition, r.Offset, name, from+k)
	}
	return isCommitted
}
