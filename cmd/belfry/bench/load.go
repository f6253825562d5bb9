package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topicName = "bench"

// load is the client side.
type load struct {
	addr       string
	partitions int
}

func (l load) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.addr), kgo.DefaultProduceTopic(topicName), kgo.MaxBufferedRecords(100_000)}, opts...)...)
}

func (l load) prepare(ctx context.Context) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = kadm.NewClient(c).CreateTopic(ctx, int32(l.partitions), 1, nil, topicName)
	return err
}

func codec(name string) kgo.CompressionCodec {
	if name == "lz4" {
		return kgo.Lz4Compression()
	}
	return kgo.NoCompression()
}

// text gives n bytes that compress about as well as log lines do.
func text(n int) []byte {
	const words = "the quick brown fox jumps over the lazy dog 0123456789 "
	b := make([]byte, n)
	for i := range b {
		b[i] = words[(i*7+i/13)%len(words)]
	}
	return b
}

// produce sends for a while and gives the acknowledged MB a second, before compression.
func (l load) produce(ctx context.Context, size int, codecName string, d time.Duration) (float64, error) {
	c, err := l.client(kgo.ProducerBatchCompression(codec(codecName)))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	value := text(size)
	var acked atomic.Int64
	var failed atomic.Pointer[error]
	begin := time.Now()
	for time.Since(begin) < d && failed.Load() == nil {
		for range 100 {
			c.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(&err)
					return
				}
				acked.Add(1)
			})
		}
	}
	if err := c.Flush(ctx); err != nil {
		return 0, err
	}
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(acked.Load()) * float64(size) / 1e6 / time.Since(begin).Seconds(), nil
}

// consume reads from the start for a while and gives MB of values a second.
func (l load) consume(ctx context.Context, d time.Duration) (float64, error) {
	c, err := l.client(kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	bytes := 0
	begin := time.Now()
	last := begin
	for ctx.Err() == nil {
		fetches := c.PollFetches(ctx)
		n := 0
		fetches.EachRecord(func(r *kgo.Record) { n += len(r.Value) })
		if n == 0 && time.Since(last) > 200*time.Millisecond {
			break // the end of the topic
		}
		if n > 0 {
			bytes, last = bytes+n, time.Now()
		}
	}
	if bytes == 0 {
		return 0, fmt.Errorf("nothing was consumed")
	}
	return float64(bytes) / 1e6 / last.Sub(begin).Seconds(), nil
}

// latency sends at a fixed rate and gives the sorted times from sending to acknowledgement.
func (l load) latency(ctx context.Context, rate int, d time.Duration) ([]time.Duration, error) {
	c, err := l.client(kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	value := text(1000)
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	begin := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for sent := 0; time.Since(begin) < d; <-tick.C {
		// Why: a late tick sends what it owes, so that a stall shows in the figures instead of thinning the load.
		for due := int(time.Since(begin).Seconds() * float64(rate)); sent < due; sent++ {
			at := time.Now()
			c.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				times = append(times, time.Since(at))
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
