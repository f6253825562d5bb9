package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Each kind of data has a topic of its own, so that what is consumed does not depend on how
// fast something else was produced.
const (
	topic1K      = "bench-1k"
	topic100B    = "bench-100b"
	topicLZ4     = "bench-lz4"
	topicLatency = "bench-latency"
)

func topics() []string { return []string{topic1K, topic100B, topicLZ4, topicLatency} }

// load is the client side.
type load struct {
	addr       string
	partitions int
}

// amount is how much went through in how long.
type amount struct {
	bytes int64 // of values, uncompressed
	took  time.Duration
}

func (a amount) rate() float64      { return float64(a.bytes) / 1e6 / a.took.Seconds() }
func (a amount) gigabytes() float64 { return float64(a.bytes) / 1e9 }

func (l load) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.addr), kgo.MaxBufferedRecords(50_000)}, opts...)...)
}

func (l load) prepare(ctx context.Context) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	resps, err := kadm.NewClient(c).CreateTopics(ctx, int32(l.partitions), 1, nil, topics()...)
	if err != nil {
		return err
	}
	return resps.Error()
}

func codec(name string) kgo.CompressionCodec {
	if name == "lz4" {
		return kgo.Lz4Compression()
	}
	return kgo.NoCompression()
}

// values gives messages of n bytes that look like lines of a log: words and numbers, none
// like the other. lz4 brings them to about half.
func values(n int) [][]byte {
	words := []string{"request", "response", "user", "order", "created", "updated", "status", "duration", "info", "warn", "connection", "timeout", "from", "to", "payment", "stock"}
	r := rand.New(rand.NewPCG(1, 2)) // Why fixed seeds: every peer and round gets the same
	vs := make([][]byte, 1024)
	for i := range vs {
		b := make([]byte, 0, n+64)
		for len(b) < n {
			b = fmt.Appendf(b, "%s=%x %s ", words[r.IntN(len(words))], r.Uint64N(1<<28), words[r.IntN(len(words))])
		}
		vs[i] = b[:n]
	}
	return vs
}

// produce sends for a while and tells what was acknowledged.
func (l load) produce(ctx context.Context, topic string, size int, codecName string, d time.Duration) (amount, error) {
	c, err := l.client(kgo.ProducerBatchCompression(codec(codecName)))
	if err != nil {
		return amount{}, err
	}
	defer c.Close()
	vs := values(size)
	var acked atomic.Int64
	var failed atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(&err)
			return
		}
		acked.Add(1)
	}
	begin := time.Now()
	for i := 0; time.Since(begin) < d && failed.Load() == nil; {
		for range 100 {
			c.Produce(ctx, &kgo.Record{Topic: topic, Value: vs[i%len(vs)]}, promise)
			i++
		}
	}
	if err := c.Flush(ctx); err != nil {
		return amount{}, err
	}
	if err := failed.Load(); err != nil {
		return amount{}, fmt.Errorf("cannot produce: %w", *err)
	}
	return amount{acked.Load() * int64(size), time.Since(begin)}, nil
}

// consume reads for a while, from the start again whenever the end is reached. The first
// answer of each pass is not counted: what comes before it is the client's own beginning.
func (l load) consume(ctx context.Context, topic string, d time.Duration) (amount, error) {
	var sum amount
	for sum.took < d {
		a, err := l.pass(ctx, topic, d-sum.took)
		if err != nil {
			return amount{}, err
		}
		sum.bytes, sum.took = sum.bytes+a.bytes, sum.took+a.took
	}
	return sum, nil
}

func (l load) pass(ctx context.Context, topic string, d time.Duration) (amount, error) {
	c, err := l.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return amount{}, err
	}
	defer c.Close()
	const quiet = 200 * time.Millisecond // without data it is the end of the topic
	var first, last time.Time
	var bytes int64
	patience := 30 * time.Second
	for {
		pollCtx, cancel := context.WithTimeout(ctx, patience)
		fetches := c.PollFetches(pollCtx)
		cancel()
		if ctx.Err() != nil {
			return amount{}, ctx.Err()
		}
		if err := failure(fetches); err != nil {
			return amount{}, fmt.Errorf("cannot consume: %w", err)
		}
		var n int64
		fetches.EachRecord(func(r *kgo.Record) { n += int64(len(r.Value)) })
		now := time.Now()
		switch {
		case first.IsZero() && n == 0:
			return amount{}, errors.New("cannot consume: nothing came")
		case first.IsZero():
			first, last, patience = now, now, quiet
		case n == 0:
			return amount{bytes, max(last.Sub(first), time.Millisecond)}, nil
		default:
			bytes, last = bytes+n, now
		}
		if now.Sub(first) >= d {
			return amount{bytes, last.Sub(first)}, nil
		}
	}
}

// failure gives the first error that is not merely the end of our patience.
func failure(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) && !kerr.IsRetriable(e.Err) {
			return e.Err
		}
	}
	return nil
}

// latency sends at a fixed rate and gives the sorted times from the moment that each message
// was due to its acknowledgement: a stall counts for everything that should have been sent
// meanwhile.
func (l load) latency(ctx context.Context, rate int, d time.Duration) ([]time.Duration, error) {
	c, err := l.client(kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	vs := values(1000)
	// Why: the first message of a client also waits for metadata and a producer ID.
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: topicLatency, Value: vs[0]}).FirstErr(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var failed error
	total := int(d.Seconds() * float64(rate))
	times := make([]time.Duration, 0, total)
	begin := time.Now()
	const step = time.Millisecond
	for sent, k := 0, 1; sent < total && ctx.Err() == nil; k++ {
		due := begin.Add(time.Duration(k) * step)
		if early := time.Until(due); early > 0 {
			time.Sleep(early)
		}
		for until := min(total, rate*k/int(time.Second/step)); sent < until; sent++ {
			c.Produce(ctx, &kgo.Record{Topic: topicLatency, Value: vs[sent%len(vs)]}, func(_ *kgo.Record, err error) {
				took := time.Since(due)
				mu.Lock()
				defer mu.Unlock()
				times = append(times, took)
				if err != nil {
					failed = err
				}
			})
		}
	}
	if err := c.Flush(ctx); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(times)
	return times, failed
}
