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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger knows what was acknowledged and compares it with what is read back.
type ledger struct {
	topic string
	// scale makes messages larger; 0 is 1.
	scale int
	// trimmed says that retention or the guard may delete the oldest messages.
	trimmed bool
	// loose names producers whose messages may stand in the log twice: they are not idempotent.
	loose map[string]bool

	mu struct {
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
	l := &ledger{topic: topic, verified: map[int32]int64{}, seen: map[string]place{}, last: map[string]int{}, loose: map[string]bool{}}
	l.mu.acked = map[place]string{}
	for p := range partitions {
		l.verified[p] = 0
	}
	return l
}

// message is number i of a producer.
func (l *ledger) message(name string, i int) *kgo.Record {
	return &kgo.Record{Topic: l.topic, Value: append(fmt.Appendf(nil, "%s %d ", name, i), bytes.Repeat([]byte{letter(i)}, l.padding(i))...)}
}

func letter(i int) byte { return byte('a' + i%26) }

func (l *ledger) padding(i int) int { return max(1, l.scale) * (200 + i%800) }

// read gives what a message says, or why nobody can have sent it.
func (l *ledger) read(r *kgo.Record) (name string, i int, err error) {
	fields := bytes.SplitN(r.Value, []byte(" "), 3)
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("partition %d holds %.40q at offset %d, which nobody sent", r.Partition, r.Value, r.Offset)
	}
	i, err = strconv.Atoi(string(fields[1]))
	if err != nil || len(fields[2]) != l.padding(i) || bytes.Count(fields[2], []byte{letter(i)}) < len(fields[2]) {
		return "", 0, fmt.Errorf("partition %d holds a damaged message %.40q at offset %d", r.Partition, r.Value, r.Offset)
	}
	return string(fields[0]), i, nil
}

func said(name string, i int) string { return name + " " + strconv.Itoa(i) }

// produce sends numbered messages until ctx ends; each producer numbers its own. They are sent
// once: what fails is not sent again by us, only by the client, which must never give up.
func (l *ledger) produce(ctx context.Context, t *testing.T, seed, name string, opts ...kgo.Opt) {
	// Why always: a process that is killed between a connection's first request and its answer looks to
	// this client like one that wants TLS.
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seed), kgo.AlwaysRetryEOF(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500)}, opts...)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for i := 0; ctx.Err() == nil; i++ {
		c.Produce(ctx, l.message(name, i), func(r *kgo.Record, err error) {
			switch {
			case err == nil:
				l.note(r, said(name, i))
			case !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed):
				t.Errorf("the client gave up on %q: %v", said(name, i), err)
			}
		})
	}
}

// note takes down what was acknowledged.
func (l *ledger) note(r *kgo.Record, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.acked[place{r.Partition, r.Offset}] = value
	l.mu.count++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.count
}

// follow reads as a member of a group until ctx ends. Nothing damaged and nothing but
// what was sent may ever come.
func (l *ledger) follow(ctx context.Context, t *testing.T, seed, group string) (read int) {
	c, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.AlwaysRetryEOF(), kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.CloseAllowingRebalance()
	for {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return read
		}
		for _, e := range fetches.Errors() {
			if session := new(kgo.ErrGroupSession); !errors.As(e.Err, &session) {
				t.Errorf("a member of group %s cannot read partition %d: %v", group, e.Partition, e.Err)
			}
		}
		for _, r := range fetches.Records() {
			read++
			name, i, err := l.read(r)
			if err != nil {
				t.Errorf("a member of group %s: %v", group, err)
				continue
			}
			l.mu.Lock()
			want, ok := l.mu.acked[place{r.Partition, r.Offset}]
			l.mu.Unlock()
			if ok && want != said(name, i) {
				t.Errorf("a member of group %s read %q at partition %d offset %d, acknowledged was %q", group, said(name, i), r.Partition, r.Offset, want)
			}
		}
	}
}

// verify reads what was not read yet, up to the ends of now, and compares: what was acknowledged
// is at its offset, whole; no message of an idempotent producer stands in the log twice or out of order.
func (l *ledger) verify(ctx context.Context, t *testing.T, seed string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
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
	if l.trimmed {
		for p, start := range l.starts(ctx, t, seed) {
			l.skip(due, p, start)
		}
	}
	from := map[int32]kgo.Offset{}
	for p, o := range l.verified {
		from[p] = kgo.NewOffset().At(o)
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for len(due) > 0 {
		fetches := c.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			t.Fatalf("cannot read back, %d acknowledged messages not seen: %v", len(due), e.Err)
		}
		for _, r := range fetches.Records() {
			if gap := r.Offset > l.verified[r.Partition]; gap && l.trimmed && l.starts(ctx, t, seed)[r.Partition] >= r.Offset {
				l.skip(due, r.Partition, r.Offset)
			}
			l.check(t, due, r)
		}
	}
}

// skip passes over what was deleted because it was old.
func (l *ledger) skip(due map[place]string, partition int32, start int64) {
	for at := range due {
		if at.partition == partition && at.offset < start {
			delete(due, at)
		}
	}
	l.verified[partition] = max(l.verified[partition], start)
}

// starts gives the partitions' log starts.
func (l *ledger) starts(ctx context.Context, t *testing.T, seed string) map[int32]int64 {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(seed))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	listed, err := kadm.NewClient(c).ListStartOffsets(ctx, l.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	starts := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { starts[o.Partition] = o.Offset })
	return starts
}

func (l *ledger) check(t *testing.T, due map[place]string, r *kgo.Record) {
	t.Helper()
	at := place{r.Partition, r.Offset}
	name, i, err := l.read(r)
	if err != nil {
		t.Fatal(err)
	}
	value := said(name, i)
	if want, ok := due[at]; ok && want != value {
		t.Errorf("%v holds %q, acknowledged was %q", at, value, want)
	}
	if r.Offset != l.verified[r.Partition] {
		t.Errorf("partition %d goes from offset %d to %d", r.Partition, l.verified[r.Partition], r.Offset)
	}
	if !l.loose[name] {
		if first, ok := l.seen[value]; ok {
			t.Errorf("%q stands at %v and at %v", value, first, at)
		}
		l.seen[value] = at
		key := fmt.Sprint(name, r.Partition)
		if last, ok := l.last[key]; ok && i <= last {
			t.Errorf("%v: %q stands behind number %d of the same producer", at, value, last)
		}
		l.last[key] = i
	}
	delete(due, at)
	l.verified[r.Partition] = r.Offset + 1
}
