package crash

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// TestKillTransactions kills the node again and again while two copiers move messages from
// one topic to another in transactions, offsets included, of which they abort some. Invariant:
// for a reader of committed messages each one is there once.
func TestKillTransactions(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{
		"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "4", "transaction.state.log.num.partitions": "4",
		"log.segment.bytes": "65536", "log.flush.offset.checkpoint.interval.ms": "200",
	}})
	adm := admin(t, n)
	for _, topic := range []string{"from", "to"} {
		if err := makeTopic(t, adm, topic, nil); err != nil {
			t.Fatal(err)
		}
	}
	messages := 2000 * rounds()
	producer := manual(t, n)
	for i := range messages {
		producer.Produce(t.Context(), &kgo.Record{Topic: "from", Partition: int32(i % 4), Value: strconv.AppendInt(nil, int64(i), 10)}, nil)
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for i := range 2 {
		workers.Go(func() {
			for ctx.Err() == nil {
				copyUntilError(ctx, n.Kafka, fmt.Sprint("copier-", i))
			}
		})
	}
	defer workers.Wait()
	defer stop()
	for range rounds() {
		waitFor(t, time.Duration(100+mathrand.IntN(500))*time.Millisecond)
		n.Kill()
		n.Restart()
	}
	eventually(t, "everything is copied", func() bool {
		lags, err := adm.Lag(t.Context(), "copiers")
		lag := lags["copiers"]
		return err == nil && lag.Error() == nil && len(lag.Lag["from"]) == 4 && lag.Lag.Total() == 0
	})
	stop()
	workers.Wait()
	seen := readCommitted(t, n, manual(t, n))
	for i := range messages {
		if seen[i] != 1 {
			t.Errorf("message %d is there %d times", i, seen[i])
		}
	}
	if len(seen) != messages {
		t.Errorf("%d messages are there, want %d", len(seen), messages)
	}
}

// manual gives a client that says itself which partition a message goes to.
func manual(t *testing.T, n *nodetest.Node) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// copyUntilError is one life of a copier; every fifth of its transactions is aborted.
func copyUntilError(ctx context.Context, bootstrap, id string) {
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(id),
		kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("from"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(200*time.Millisecond))
	if err != nil {
		return
	}
	defer s.Close()
	for round := 1; ctx.Err() == nil; round++ {
		fs := s.PollRecords(ctx, 50)
		if fs.NumRecords() == 0 {
			continue
		}
		if s.Begin() != nil {
			return
		}
		fs.EachRecord(func(r *kgo.Record) {
			s.Produce(ctx, &kgo.Record{Topic: "to", Value: slices.Clone(r.Value)}, nil)
		})
		if _, err := s.End(ctx, kgo.TransactionEndTry(round%5 != 0)); err != nil {
			return // the next life begins where the last committed transaction ended
		}
	}
}

// readCommitted counts the messages that a reader of committed ones gets, up to one behind all
// of them in each partition.
func readCommitted(t *testing.T, n *nodetest.Node, producer *kgo.Client) map[int]int {
	t.Helper()
	const last = "the last one"
	for p := range int32(4) {
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "to", Partition: p, Value: []byte(last)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeTopics("to"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seen, ends := make(map[int]int), 0
	for ends < 4 {
		fs := c.PollFetches(ctx)
		if ctx.Err() != nil {
			offsets, err := kadm.NewClient(c).ListCommittedOffsets(t.Context(), "to")
			t.Fatalf("the end of %d partitions was not read; last stable offsets are %v, %v", 4-ends, offsets, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if string(r.Value) == last {
				ends++
				return
			}
			i, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Errorf("message %q was never sent", r.Value)
			}
			seen[i]++
		})
	}
	return seen
}
