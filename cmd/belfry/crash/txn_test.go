package crash

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// fate is what became of a transaction as far as its producer knows.
type fate int

const (
	unknown   fate = iota // the answer to the commit never came
	committed             // acknowledged
	aborted               // never asked to be committed
)

// transactions is what all producers did.
type transactions struct {
	mu    sync.Mutex
	fates map[string]fate // by name, PRODUCER/NUMBER
	sizes map[string]int
}

func (x *transactions) note(name string, size int, f fate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fates[name], x.sizes[name] = f, size
}

func (x *transactions) count(f fate) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, got := range x.fates {
		if got == f {
			n++
		}
	}
	return n
}

// produce runs one producer's transactions until ctx ends. After an error it begins anew
// with the same transactional ID, which ends what it left open.
func (x *transactions) produce(ctx context.Context, t *testing.T, seed, name, topic string) {
	number := 0
	for ctx.Err() == nil {
		cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.TransactionalID(name), kgo.DefaultProduceTopic(topic),
			kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0), kgo.RetryTimeout(10*time.Second))
		if err != nil {
			t.Error(err)
			return
		}
		for ctx.Err() == nil && err == nil {
			number++
			err = x.one(cl, fmt.Sprintf("%s/%d", name, number), number)
		}
		cl.Close()
	}
}

// one is one transaction; every third is aborted.
func (x *transactions) one(cl *kgo.Client, name string, number int) error {
	// Why no context of the test: a transaction that began is brought to its end.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	size := 1 + number%17
	x.note(name, size, aborted)
	records := make([]*kgo.Record, size)
	for i := range records {
		records[i] = kgo.StringRecord(fmt.Sprintf("%s %d %s", name, i, strings.Repeat("x", 100)))
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	if number%3 == 0 {
		return cl.EndTransaction(ctx, kgo.TryAbort)
	}
	x.note(name, size, unknown)
	err := cl.EndTransaction(ctx, kgo.TryCommit)
	if err == nil {
		x.note(name, size, committed)
	}
	return err
}

// verify reads all that is committed: whole transactions, each record once, all that were
// acknowledged and none that was aborted.
func (x *transactions) verify(t *testing.T, n *nodetest.Node, topic string) {
	t.Helper()
	ends, err := admin(t, n).ListCommittedOffsets(t.Context(), topic)
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(), kgo.FetchMaxPartitionBytes(20_000))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	left, seen := map[int32]int64{}, map[string]map[string]bool{}
	for p, o := range ends[topic] {
		if o.Offset > 0 {
			left[p] = o.Offset
		}
	}
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("not all can be read, left are %v: %v", left, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			name, rest, _ := strings.Cut(string(r.Value), " ")
			i, _, _ := strings.Cut(rest, " ")
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			if seen[name][i] {
				t.Errorf("record %s of transaction %s is there twice", i, name)
			}
			seen[name][i] = true
		})
	}
	x.judge(t, seen)
}

func (x *transactions) judge(t *testing.T, seen map[string]map[string]bool) {
	t.Helper()
	x.mu.Lock()
	fates, sizes := maps.Clone(x.fates), maps.Clone(x.sizes)
	x.mu.Unlock()
	for name, f := range fates {
		got := len(seen[name])
		switch {
		case got != 0 && got != sizes[name]:
			t.Errorf("of transaction %s are %d of %d records there", name, got, sizes[name])
		case got == 0 && f == committed:
			t.Errorf("transaction %s was committed and is not there", name)
		case got != 0 && f == aborted:
			t.Errorf("transaction %s was aborted and is there", name)
		}
	}
}

// TestKillAmongTransactions ends the node by kill -9 in the midst of transactions. Invariants:
// a transaction is there as a whole or not at all, once; what was committed stays, what was
// not is never seen; the log goes on for readers of committed records.
func TestKillAmongTransactions(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Dir: t.TempDir(), Settings: map[string]string{
		"log.segment.bytes": "65536", "log.flush.offset.checkpoint.interval.ms": "200", "offsets.topic.num.partitions": "2",
	}})
	const topic = "among"
	if err := makeTopic(t, admin(t, n), topic, nil); err != nil {
		t.Fatal(err)
	}
	x := &transactions{fates: map[string]fate{}, sizes: map[string]int{}}
	for round := range rounds() {
		ctx, stop := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for id := range 3 {
			workers.Go(func() { x.produce(ctx, t, n.Kafka, fmt.Sprintf("round%d-producer%d", round, id), topic) })
		}
		for range 2 {
			want := x.count(committed) + 30
			eventually(t, "transactions are committed", func() bool { return x.count(committed) >= want })
			n.Kill()
			n.Restart()
		}
		want := x.count(committed) + 10
		eventually(t, "transactions are committed after a kill", func() bool { return x.count(committed) >= want })
		stop()
		workers.Wait()
		x.settle(t, n, round)
		x.verify(t, n, topic)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d transactions committed, %d aborted, of %d it is not known", x.count(committed), x.count(aborted), x.count(unknown))
	if x.count(aborted) == 0 {
		t.Error("nothing was aborted")
	}
}

// settle ends what a round's producers may have left open: their successors do.
func (x *transactions) settle(t *testing.T, n *nodetest.Node, round int) {
	t.Helper()
	for id := range 3 {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.TransactionalID(fmt.Sprintf("round%d-producer%d", round, id)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if _, _, err := cl.ProducerID(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		cl.Close()
	}
}
