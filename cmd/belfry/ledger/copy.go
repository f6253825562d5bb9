package ledger

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Copy reads the committed messages of this ledger's topic as a member of a group, and sends each to the same partition
// of another topic in transactions that commit what was read, too, until ctx ends: each message is copied exactly once,
// whatever happens. The copies' producers must be Exact there.
func (l *Ledger) Copy(ctx context.Context, seeds []string, group, id string, to *Ledger) {
	for ctx.Err() == nil {
		if err := l.copySession(ctx, seeds, group, id, to); err != nil && ctx.Err() == nil {
			select { // the client is good for nothing more; another one takes over what it did not commit
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

func (l *Ledger) copySession(ctx context.Context, seeds []string, group, id string, to *Ledger) error {
	s, err := kgo.NewGroupTransactSession(append(options(seeds), kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Second),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(), kgo.FetchMaxBytes(64<<10), kgo.SessionTimeout(10*time.Second),
		kgo.DefaultProduceTopic(to.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProduceRequestTimeout(4*time.Second))...)
	if err != nil {
		l.Find(Refused, "%s: %v", id, err)
		return err
	}
	defer s.Close()
	for {
		fetches := s.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			return err
		}
		// Why not ctx: a transaction that was begun is brought to its end.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 60*time.Second)
		var failed kgo.FirstErrPromise
		var copies []*kgo.Record
		for _, r := range fetches.Records() {
			c := &kgo.Record{Partition: r.Partition, Value: r.Value}
			copies = append(copies, c)
			s.Produce(end, c, failed.Promise())
		}
		committed, err := s.End(end, failed.Err() == nil)
		cancel()
		if err != nil {
			return err
		}
		for _, c := range copies {
			if !committed {
				break
			}
			if name, i, err := l.parse(c.Value); err == nil {
				to.Note(c.Partition, c.Offset, name, i)
			}
		}
	}
}

// Copied is Note for a copier outside this process that was told that a copy is committed.
func (l *Ledger) Copied(partition int32, offset int64, value []byte) {
	name, i, err := l.parse(value)
	if err != nil {
		l.Find(Damaged, "a copier was given %v", err)
		return
	}
	l.Note(partition, offset, name, i)
}

// Complete says, after both were read back, what of this ledger is not among the copies.
func (l *Ledger) Complete(copies *Ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	copies.mu.Lock()
	defer copies.mu.Unlock()
	for name, have := range l.mu.back {
		copied := copies.mu.back[name]
		missing, first := 0, 0
		for i := range len(have.numbers) * 64 {
			if have.numbers.has(i) && (copied == nil || !copied.numbers.has(i)) {
				if missing == 0 {
					first = i
				}
				missing++
			}
		}
		if missing > 0 {
			copies.findLocked(Lost, "%d messages of %s were not copied, the first is number %d", missing, name, first)
		}
	}
}
