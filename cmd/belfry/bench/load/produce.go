package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Produce is how messages are sent.
type Produce struct {
	Topic   string
	Size    int           // bytes of a value
	Codec   string        // "" or lz4
	For     time.Duration // how long, if Bytes is 0
	Bytes   int64         // how much, if not 0
	Clients int           // that share the work; 0 = 1
	Spread  bool          // every message to the next partition, instead of a batch after the other
}

func (p Produce) options() []kgo.Opt {
	codec := kgo.NoCompression()
	if p.Codec == "lz4" {
		codec = kgo.Lz4Compression()
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
	if p.Spread {
		opts = append(opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	}
	return opts
}

// What all clients of a measurement together hold that has no answer yet: enough for the largest
// batches to every partition, little beside the machine's memory.
const (
	bufferedRecords = 50_000
	bufferedBytes   = 64 << 20
)

// clients opens as many as are wanted and has each know the topic before anything is measured.
func (k Kafka) clients(ctx context.Context, n int, topic string, opts ...kgo.Opt) (cs []*kgo.Client, done func(), err error) {
	done = func() {
		for _, c := range cs {
			c.Close()
		}
	}
	n = max(n, 1)
	opts = append([]kgo.Opt{kgo.MaxBufferedRecords(max(bufferedRecords/n, 100)), kgo.MaxBufferedBytes(max(bufferedBytes/n, 1<<20))}, opts...)
	for range n {
		c, err := k.client(opts...)
		if err != nil {
			done()
			return nil, nil, err
		}
		cs = append(cs, c)
	}
	errs := make(chan error, len(cs))
	gate := make(chan struct{}, 16) // Why: a thousand handshakes at once measure nothing that is wanted
	for _, c := range cs {
		go func() {
			gate <- struct{}{}
			// Why: the first message of a client also waits for metadata and a producer ID.
			errs <- c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("first")}).FirstErr()
			<-gate
		}()
	}
	for range cs {
		if e := <-errs; e != nil {
			err = e
		}
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("cannot produce the first message: %w", err)
	}
	return cs, done, nil
}

// Produce sends and tells what was acknowledged, from the first message to the last answer.
func (k Kafka) Produce(ctx context.Context, p Produce) (Amount, error) {
	cs, done, err := k.clients(ctx, p.Clients, p.Topic, p.options()...)
	if err != nil {
		return Amount{}, err
	}
	defer done()
	return p.run(ctx, cs)
}

func (p Produce) run(ctx context.Context, cs []*kgo.Client) (Amount, error) {
	vs := Values(p.Size)
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
	more := func(sent int) bool {
		if failed.Load() != nil || ctx.Err() != nil {
			return false
		}
		if p.Bytes > 0 {
			return int64(sent)*int64(p.Size)*int64(len(cs)) < p.Bytes
		}
		return time.Since(begin) < p.For
	}
	burst := max(1, 100/len(cs)) // messages between two looks at the clock
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(func() {
			for i := 0; more(i); {
				for range burst {
					c.Produce(ctx, &kgo.Record{Topic: p.Topic, Value: vs[i%len(vs)]}, promise)
					i++
				}
			}
			if err := c.Flush(ctx); err != nil {
				failed.Store(&err)
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	if err := failed.Load(); err != nil {
		return Amount{}, fmt.Errorf("cannot produce: %w", *err)
	}
	return Amount{acked.Load() * int64(p.Size), took}, ctx.Err()
}

// Pace is how messages are sent at a fixed rate.
type Pace struct {
	Topic   string
	Size    int // bytes of a value
	Rate    int // messages a second, all clients together
	For     time.Duration
	Clients int
	Spread  bool
}

// step is how often what is due is sent. Times begin when a message was due.
const step = time.Millisecond

// each calls send for every message in the moment that it is due, or as soon after as it can.
func (p Pace) each(ctx context.Context, send func(i int, due time.Time)) {
	total := int(p.For.Seconds() * float64(p.Rate))
	begin := time.Now()
	for sent, k := 0, 1; sent < total && ctx.Err() == nil; k++ {
		due := begin.Add(time.Duration(k) * step)
		if early := time.Until(due); early > 0 {
			time.Sleep(early)
		}
		for until := min(total, p.Rate*k/int(time.Second/step)); sent < until; sent++ {
			send(sent, due)
		}
	}
}

// Answer sends at a fixed rate and gives the times from the moment that each message was due to
// its acknowledgement: a stall counts for everything that should have been sent meanwhile.
func (k Kafka) Answer(ctx context.Context, p Pace) (Times, error) {
	opts := append(Produce{Spread: p.Spread}.options(), kgo.ProducerLinger(0))
	cs, done, err := k.clients(ctx, p.Clients, p.Topic, opts...)
	if err != nil {
		return nil, err
	}
	defer done()
	vs := Values(p.Size)
	var mu sync.Mutex
	var failed error
	var times []time.Duration
	p.each(ctx, func(i int, due time.Time) {
		cs[i%len(cs)].Produce(ctx, &kgo.Record{Topic: p.Topic, Value: vs[i%len(vs)]}, func(_ *kgo.Record, err error) {
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took)
			if err != nil {
				failed = err
			}
		})
	})
	for _, c := range cs {
		if err := c.Flush(ctx); err != nil {
			return nil, err
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		return nil, fmt.Errorf("cannot produce at %d messages a second: %w", p.Rate, failed)
	}
	return sorted(times), nil
}

func retriable(err error) bool { return kerr.IsRetriable(err) }

// Single sends message by message, each after the answer to the one before.
func (k Kafka) Single(ctx context.Context, topic string, size int, d time.Duration) (Amount, error) {
	cs, done, err := k.clients(ctx, 1, topic, append(Produce{}.options(), kgo.ProducerLinger(0))...)
	if err != nil {
		return Amount{}, err
	}
	defer done()
	vs := Values(size)
	begin := time.Now()
	var n int64
	for ; time.Since(begin) < d; n++ {
		if err := cs[0].ProduceSync(ctx, &kgo.Record{Topic: topic, Value: vs[n%int64(len(vs))]}).FirstErr(); err != nil {
			return Amount{}, fmt.Errorf("cannot produce: %w", err)
		}
	}
	return Amount{n * int64(size), time.Since(begin)}, nil
}
