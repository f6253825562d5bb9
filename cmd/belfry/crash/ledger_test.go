package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger knows what was acknowledged and compares it with what is read back. It is made for
// tens of millions of messages: one word an offset, one bit a message.
type ledger struct {
	topic string
	// scale makes messages larger; 0 is 1.
	scale int
	// trimmed says that retention or the guard may delete the oldest messages.
	trimmed bool
	// loose names producers whose messages may stand in the log twice: they are not idempotent.
	loose map[string]bool

	// verified is up to where each partition was read and compared.
	verified []int64
	produced map[string]*readBack

	mu struct {
		sync.Mutex
		acked [][]entry // by partition and offset
		count int
		names []string // an entry holds the index
	}
}

// readBack is what was read of one producer that must not be doubled or reordered.
type readBack struct {
	numbers bitmap
	last    []int // by partition: the highest number, -1 for none
}

// entry says which message was acknowledged at an offset: the index of its producer's name
// plus 1 in the top byte, its number below. 0 is none.
type entry uint64

const numberBits = 56

func (e entry) producer() int { return int(e>>numberBits) - 1 }

func (e entry) number() int { return int(e & (1<<numberBits - 1)) }

// bitmap is a set of small numbers.
type bitmap []uint64

// add tells whether n was there already.
func (b *bitmap) add(n int) (there bool) {
	for len(*b) <= n/64 {
		*b = append(*b, 0)
	}
	word, bit := &(*b)[n/64], uint64(1)<<(n%64)
	there = *word&bit != 0
	*word |= bit
	return there
}

func newLedger(topic string, partitions int32) *ledger {
	l := &ledger{topic: topic, loose: map[string]bool{}, verified: make([]int64, partitions)}
	l.mu.acked = make([][]entry, partitions)
	l.forget()
	return l
}

// forget what was read, not what was acknowledged: the next verify begins at the beginning.
func (l *ledger) forget() {
	clear(l.verified)
	l.produced = map[string]*readBack{}
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
				l.note(t, r, name, i)
			case ctx.Err() == nil: // later the client ends with whatever it met last, as it is told to stop
				t.Errorf("the client gave up on number %d of %s: %v", i, name, err)
			}
		})
	}
}

// note takes down that number i of a producer was acknowledged. Nobody may be given an offset that somebody else was
// given before: what stood there would be lost.
func (l *ledger) note(t *testing.T, r *kgo.Record, name string, i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	producer := slices.Index(l.mu.names, name)
	if producer < 0 {
		producer = len(l.mu.names)
		l.mu.names = append(l.mu.names, name)
	}
	acked := &l.mu.acked[r.Partition]
	for int64(len(*acked)) <= r.Offset {
		*acked = append(*acked, 0)
	}
	e := entry(producer+1)<<numberBits | entry(i)
	if before := (*acked)[r.Offset]; before != 0 && before != e {
		t.Errorf("partition %d offset %d is acknowledged to number %d of %s and was to number %d of producer %s", r.Partition, r.Offset, i, name, before.number(), l.mu.names[before.producer()])
	}
	(*acked)[r.Offset] = e
	l.mu.count++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.count
}

// tops gives, by partition, the offset behind the last acknowledged one.
func (l *ledger) tops() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	tops := make([]int64, len(l.mu.acked))
	for p, acked := range l.mu.acked {
		tops[p] = int64(len(acked))
	}
	return tops
}

// compare says what is wrong with a message that was read: damaged, or not what was acknowledged at its offset.
func (l *ledger) compare(r *kgo.Record) (name string, i int, err error) {
	if name, i, err = l.read(r); err != nil {
		return "", 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	acked := l.mu.acked[r.Partition]
	if r.Offset >= int64(len(acked)) || acked[r.Offset] == 0 {
		return name, i, nil // not acknowledged, but it may be there
	}
	e := acked[r.Offset]
	if want, n := l.mu.names[e.producer()], e.number(); want != name || n != i {
		return "", 0, fmt.Errorf("partition %d holds number %d of %s at offset %d, acknowledged there was number %d of %s", r.Partition, i, name, r.Offset, n, want)
	}
	return name, i, nil
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
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			if _, _, err := l.compare(r); err != nil {
				t.Errorf("a member of group %s: %v", group, err)
			}
		})
	}
}

// verify reads what was not read yet, as far as acknowledgements go now, and compares: what was acknowledged
// is at its offset, whole; no message of an idempotent producer stands in the log twice or out of order.
func (l *ledger) verify(ctx context.Context, t *testing.T, seed string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tops := l.tops()
	if l.trimmed {
		for p, start := range l.starts(ctx, t, seed) {
			l.verified[p] = max(l.verified[p], start)
		}
	}
	from := map[int32]kgo.Offset{}
	for p, o := range l.verified {
		if o < tops[p] {
			from[int32(p)] = kgo.NewOffset().At(o)
		}
	}
	if len(from) == 0 {
		return
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	behind := func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(from)), func(p int32) bool { return l.verified[p] < tops[p] })
	}
	for behind() {
		fetches := c.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			t.Fatalf("cannot read back: read up to %v, acknowledged up to %v: %v", l.verified, tops, e.Err)
		}
		for _, r := range fetches.Records() {
			if gap := r.Offset > l.verified[r.Partition]; gap && l.trimmed && l.starts(ctx, t, seed)[r.Partition] >= r.Offset {
				l.verified[r.Partition] = r.Offset
			}
			l.check(t, r)
		}
	}
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

func (l *ledger) check(t *testing.T, r *kgo.Record) {
	t.Helper()
	name, i, err := l.compare(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := l.verified[r.Partition]; r.Offset != want {
		t.Errorf("partition %d goes from offset %d to %d", r.Partition, want, r.Offset)
	}
	l.verified[r.Partition] = r.Offset + 1
	if l.loose[name] {
		return
	}
	back := l.produced[name]
	if back == nil {
		back = &readBack{last: slices.Repeat([]int{-1}, len(l.verified))}
		l.produced[name] = back
	}
	if back.numbers.add(i) {
		t.Errorf("number %d of %s stands in the log twice, once in partition %d at offset %d", i, name, r.Partition, r.Offset)
	}
	if last := back.last[r.Partition]; i <= last {
		t.Errorf("partition %d offset %d: number %d of %s stands behind number %d", r.Partition, r.Offset, i, name, last)
	}
	back.last[r.Partition] = i
}
