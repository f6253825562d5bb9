package demo

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	ledgerSize       = 1 << 10
	ledgerPartitions = 6
	answerLimit      = 30 * time.Second // for the last acknowledgements
)

// ledger is a producer that numbers its messages and knows which of them were acknowledged.
type ledger struct {
	seeds   []string
	failed  atomic.Int64
	longest atomic.Int64 // nanoseconds from the sending of a message to its acknowledgement
	flying  atomic.Int64

	mu    sync.Mutex
	acked map[uint64]bool
}

func newLedger(seeds []string) *ledger { return &ledger{seeds: seeds, acked: map[uint64]bool{}} }

// client gives one as a user should configure it: acks=all, idempotent, patient – which are the library's defaults.
func (l *ledger) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.seeds...), kgo.ClientID("belfry-demo"), kgo.MetadataMinAge(100 * time.Millisecond)}, options...)...)
}

func (l *ledger) prepare(ctx context.Context) error {
	k, err := l.client()
	if err != nil {
		return err
	}
	defer k.Close()
	share := fmt.Sprint(defaultShare)
	if _, err = kadm.NewClient(k).CreateTopic(ctx, ledgerPartitions, minBrokers, map[string]*string{"min.insync.replicas": &share}, topicName); err != nil {
		return fmt.Errorf("cannot create topic %q: %w", topicName, err)
	}
	return nil
}

// produce sends at the pace until stopping, and keeps the connection until ctx ends.
func (l *ledger) produce(ctx context.Context, stopping *atomic.Bool) error {
	k, err := l.client(kgo.DefaultProduceTopic(topicName), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return err
	}
	defer k.Close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	next := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for range clusterPace * int(beat/time.Millisecond) / 1000 {
			if stopping.Load() {
				break
			}
			n, sent := next, time.Now()
			next++
			value := binary.BigEndian.AppendUint64(make([]byte, 0, ledgerSize), n)
			l.flying.Add(1)
			k.Produce(ctx, &kgo.Record{Value: value[:ledgerSize]}, func(_ *kgo.Record, err error) {
				defer l.flying.Add(-1)
				if err == nil {
					l.note(n, time.Since(sent))
				} else if ctx.Err() == nil {
					l.failed.Add(1)
				}
			})
		}
	}
}

// note takes an acknowledgement.
func (l *ledger) note(n uint64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[n] = true
	l.longest.Store(max(l.longest.Load(), int64(took)))
}

// awaitAnswers waits until all that was sent is acknowledged or refused.
func (l *ledger) awaitAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for l.flying.Load() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("demo: %d messages were not answered within %v", l.flying.Load(), answerLimit)
		case <-tick.C:
		}
	}
	return nil
}

// consume reads along in a group until ctx ends.
func (l *ledger) consume(ctx context.Context) error {
	k, err := l.client(kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(time.Second))
	if err != nil {
		return err
	}
	defer k.Close()
	for ctx.Err() == nil {
		k.PollRecords(ctx, 10_000)
	}
	return nil
}

// leads counts the partitions that each node leads, and names the node that leads the cluster.
func (l *ledger) leads(ctx context.Context) (count map[int]int, controller int, err error) {
	k, err := l.client()
	if err != nil {
		return nil, 0, err
	}
	defer k.Close()
	m, err := kadm.NewClient(k).Metadata(ctx, topicName)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask who leads: %w", err)
	}
	count = map[int]int{}
	for _, p := range m.Topics[topicName].Partitions {
		count[int(p.Leader)]++
	}
	return count, int(m.Controller), nil
}

// readBack reads the topic from its beginning to its end, and gives how often each message is there.
func (l *ledger) readBack(ctx context.Context) (map[uint64]int, error) {
	k, err := l.client(kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer k.Close()
	ends, err := kadm.NewClient(k).ListEndOffsets(ctx, topicName)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list offsets of topic %q: %w", topicName, err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	found := map[uint64]int{}
	for len(left) > 0 {
		got := k.PollFetches(ctx)
		if err := got.Err0(); err != nil {
			return nil, fmt.Errorf("cannot read topic %q back: %w", topicName, err)
		}
		got.EachRecord(func(r *kgo.Record) {
			found[binary.BigEndian.Uint64(r.Value)]++
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return found, nil
}

// compare counts what was acknowledged and is not there, and what is there more than once.
func (l *ledger) compare(found map[uint64]int) (acknowledged, lost, twice int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.acked {
		if found[n] == 0 {
			lost++
		}
	}
	for _, times := range found {
		if times > 1 {
			twice++
		}
	}
	return len(l.acked), lost, twice
}
