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
			if c, err = l.transactor(seeds, name); err != nil {
				l.Find(Refused, "%s: %v", name, err)
				return
			}
		}
		from, to := next, next+2+rnd.IntN(8)
		next = to
		if rnd.IntN(32) == 0 {
			c = l.outlived(ctx, seeds, c, name, from, to, rnd.IntN(2) == 0)
			aborted++
			continue
		}
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

// transactor makes a client that sends transactions.
func (l *Ledger) transactor(seeds []string, name string) (*kgo.Client, error) {
	// Why so short a time-out: what a client leaves open must not hold readers back for a minute.
	return Client(seeds, kgo.TransactionalID(name), kgo.TransactionTimeout(10*time.Second), kgo.DefaultProduceTopic(l.Topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.ProduceRequestTimeout(4*time.Second))
}

// outlived plays a producer that was away for so long that another one took its place, in the midst of a transaction:
// what it still sends, or that it commits, must be refused, and nothing of its transaction may be seen. It gives the
// other one, nil if there is none.
func (l *Ledger) outlived(ctx context.Context, seeds []string, c *kgo.Client, name string, from, to int, commits bool) *kgo.Client {
	defer c.Close()
	l.Abort(name, from, to)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if c.BeginTransaction() != nil {
		return nil
	}
	for i := from; i < to-1; i++ {
		if c.ProduceSync(end, &kgo.Record{Value: l.Value(name, i)}).FirstErr() != nil {
			return nil
		}
	}
	other, err := l.transactor(seeds, name)
	if err != nil {
		return nil
	}
	if _, _, err := other.ProducerID(end); err != nil {
		other.Close()
		return nil
	}
	what := "sent a message"
	if commits {
		what, err = "committed", c.EndTransaction(end, kgo.TryCommit)
	} else {
		err = c.ProduceSync(end, &kgo.Record{Value: l.Value(name, to-1)}).FirstErr()
	}
	if err == nil {
		l.Find(Unfenced, "%s %s after another one had taken its place", name, what)
	}
	return other
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
