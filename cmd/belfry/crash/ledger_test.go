package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger knows what was acknowledged and compares it with what is read back.
type ledger struct {
	topic      string
	partitions int32
	mu         struct {
		sync.Mutex
		acked map[place]string
		count int
	}
	// what was read and compared already
	verified map[int32]int64
	seen     map[string]place
	last     map[string]int // by producer and partition: the highest number read
}

type place struct {
	partition int32
	offset    int64
}

func newLedger(topic string, partitions int32) *ledger {
	l := &ledger{topic: topic, partitions: partitions, verified: map[int32]int64{}, seen: map[string]place{}, last: map[string]int{}}
	l.mu.acked = map[place]string{}
	for p := range partitions {
		l.verified[p] = 0
	}
	return l
}

// produce sends numbered values until ctx ends; each producer numbers its own. Values are sent
// once: what fails is not sent again by us, only by the client.
func (l *ledger) produce(ctx context.Context, t *testing.T, seed, name string, opts ...kgo.Opt) {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seed), kgo.DefaultProduceTopic(l.topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500)}, opts...)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for i := 0; ctx.Err() == nil; i++ {
		value := name + " " + strconv.Itoa(i)
		r := &kgo.Record{Value: append([]byte(value+" "), bytes.Repeat([]byte{byte('a' + i%26)}, 200+i%800)...)}
		c.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				if !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
					t.Logf("%s: %v", value, err)
				}
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.mu.acked[place{r.Partition, r.Offset}] = value
			l.mu.count++
		})
	}
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.count
}

// verify reads what was not read yet, up to the ends of now, and compares. With uniqueness,
// no value may stand in the log twice and each producer's numbers only rise.
func (l *ledger) verify(ctx context.Context, t *testing.T, seed string, unique bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	from := map[int32]kgo.Offset{}
	for p, o := range l.verified {
		from[p] = kgo.NewOffset().At(o)
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Why: acknowledgements of before the crash may still be on their way to the ledger; what it holds
	// now must be readable now.
	l.mu.Lock()
	due := map[place]string{}
	for at, v := range l.mu.acked {
		if at.offset >= l.verified[at.partition] {
			due[at] = v
		}
	}
	l.mu.Unlock()
	for len(due) > 0 {
		fetches := c.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			t.Fatalf("cannot read back, %d acknowledged messages not seen: %v", len(due), e.Err)
		}
		for _, r := range fetches.Records() {
			l.check(t, due, r, unique)
		}
	}
}

func (l *ledger) check(t *testing.T, due map[place]string, r *kgo.Record, unique bool) {
	t.Helper()
	at := place{r.Partition, r.Offset}
	fields := bytes.SplitN(r.Value, []byte(" "), 3)
	if len(fields) != 3 {
		t.Fatalf("%v holds %q, which nobody sent", at, r.Value)
	}
	value := string(fields[0]) + " " + string(fields[1])
	n, err := strconv.Atoi(string(fields[1]))
	if err != nil || len(fields[2]) != 200+n%800 {
		t.Fatalf("%v holds a damaged message %q", at, value)
	}
	if want, ok := due[at]; ok && want != value {
		t.Errorf("%v holds %q, acknowledged was %q", at, value, want)
	}
	if r.Offset != l.verified[r.Partition] {
		t.Errorf("partition %d goes from offset %d to %d", r.Partition, l.verified[r.Partition], r.Offset)
	}
	if unique {
		if first, ok := l.seen[value]; ok {
			t.Errorf("%q stands at %v and at %v", value, first, at)
		}
		l.seen[value] = at
		key := fmt.Sprint(string(fields[0]), r.Partition)
		if last, ok := l.last[key]; ok && n <= last {
			t.Errorf("%v: %q stands behind number %d of the same producer", at, value, last)
		}
		l.last[key] = n
	}
	delete(due, at)
	l.verified[r.Partition] = r.Offset + 1
}
