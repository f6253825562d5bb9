package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// endless is how far a topic goes whose broker says that it is empty and sends messages all the
// same: the null broker.
const endless = 1 << 40

func (k Kafka) reader(topic string) (*kgo.Client, error) {
	return k.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
}

// Consume reads a topic for a while, from its start again whenever its end is reached. The first
// answer of each pass is not counted, unless it is the only one: what comes before it is the
// client's own beginning.
func (k Kafka) Consume(ctx context.Context, topic string, d time.Duration) (Amount, error) {
	var sum Amount
	for sum.Took < d {
		a, err := k.Pass(ctx, topic, d-sum.Took)
		if err != nil {
			return Amount{}, err
		}
		sum.Bytes, sum.Took = sum.Bytes+a.Bytes, sum.Took+a.Took
	}
	return sum, nil
}

// Pass reads a topic once, from its start to its end or until the time is over.
func (k Kafka) Pass(ctx context.Context, topic string, d time.Duration) (Amount, error) {
	c, err := k.reader(topic)
	if err != nil {
		return Amount{}, err
	}
	defer c.Close()
	left, err := k.await(ctx, kadm.NewClient(c), topic)
	if err != nil {
		return Amount{}, err
	}
	if left == 0 {
		left = endless
	}
	begin := time.Now()
	var first time.Time
	var bytes int64
	for {
		n, size, err := poll(ctx, c, nil)
		if err != nil {
			return Amount{}, err
		}
		now := time.Now()
		left -= n
		switch {
		case !first.IsZero():
			bytes += size
		case left <= 0:
			return Amount{size, max(now.Sub(begin), time.Millisecond)}, nil
		case n > 0:
			first = now
		default:
			continue
		}
		if left <= 0 || now.Sub(first) >= d {
			return Amount{bytes, max(now.Sub(first), time.Millisecond)}, nil
		}
	}
}

// silence is how long a consumer waits for something to come.
const silence = 30 * time.Second

// poll waits for messages and gives how many came and the bytes of their values. look sees each.
func poll(ctx context.Context, c *kgo.Client, look func(*kgo.Record)) (n, bytes int64, err error) {
	pollCtx, cancel := context.WithTimeoutCause(ctx, silence, errNothing)
	defer cancel()
	fetches := c.PollFetches(pollCtx)
	fetches.EachRecord(func(r *kgo.Record) {
		n++
		bytes += int64(len(r.Value))
		if look != nil {
			look(r)
		}
	})
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
			if n > 0 {
				continue // the time was over just after they came
			}
			return 0, 0, context.Cause(pollCtx)
		}
		if !retriable(e.Err) {
			return 0, 0, fmt.Errorf("cannot consume: %w", e.Err)
		}
	}
	return n, bytes, nil
}

// Both produces at full speed while a consumer follows, and tells what the consumer had got when
// it had everything: as much comes out as goes in.
func (k Kafka) Both(ctx context.Context, p Produce) (Amount, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cs, done, err := k.clients(ctx, 1, p.Topic, p.options()...)
	if err != nil {
		return Amount{}, err
	}
	defer done()
	c, err := k.reader(p.Topic)
	if err != nil {
		return Amount{}, err
	}
	defer c.Close()
	got, _, err := poll(ctx, c, nil) // the first message; from now on it follows
	if err != nil {
		return Amount{}, err
	}
	type sent struct {
		Amount
		err error
	}
	all := make(chan sent, 1)
	begin := time.Now()
	go func() {
		a, err := p.run(ctx, cs)
		all <- sent{a, err}
	}()
	var bytes int64
	last := begin
	total := int64(endless)
	for got < total {
		select {
		case s := <-all:
			if s.err != nil {
				return Amount{}, s.err
			}
			total = s.Bytes/int64(p.Size) + 1
			continue
		default:
		}
		n, size, err := k.next(ctx, c)
		if err != nil {
			return Amount{}, err
		}
		if n > 0 {
			got, bytes, last = got+n, bytes+size, time.Now()
		}
	}
	return Amount{bytes, last.Sub(begin)}, nil
}

// next polls for a moment only, as the producer may have sent its last.
func (k Kafka) next(ctx context.Context, c *kgo.Client) (n, bytes int64, err error) {
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	n, bytes, err = poll(short, c, nil)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		return n, bytes, nil
	}
	return n, bytes, err
}

// EndToEnd sends at a fixed rate and gives the times from the moment that each message was due
// to its arrival at a consumer.
func (k Kafka) EndToEnd(ctx context.Context, p Pace) (Times, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cs, done, err := k.clients(ctx, 1, p.Topic, append(Produce{}.options(), kgo.ProducerLinger(0))...)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := k.reader(p.Topic)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, _, err := poll(ctx, c, nil); err != nil {
		return nil, err
	}
	zero := time.Now()
	vs := Values(p.Size)
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		p.each(ctx, func(i int, due time.Time) {
			v := append([]byte(nil), vs[i%len(vs)]...)
			binary.BigEndian.PutUint64(v, uint64(due.Sub(zero)))
			cs[0].Produce(ctx, &kgo.Record{Topic: p.Topic, Value: v}, func(_ *kgo.Record, err error) {
				if err != nil {
					cancel(fmt.Errorf("cannot produce at %d messages a second: %w", p.Rate, err))
				}
			})
		})
	}()
	defer func() { <-sender }()
	total := int(p.For.Seconds() * float64(p.Rate))
	times := make([]time.Duration, 0, total)
	for len(times) < total {
		var arrived time.Duration
		_, _, err := poll(ctx, c, func(r *kgo.Record) {
			if arrived == 0 {
				arrived = time.Since(zero)
			}
			if len(r.Value) == p.Size {
				times = append(times, arrived-time.Duration(binary.BigEndian.Uint64(r.Value)))
			}
		})
		if err != nil {
			cancel(err)
			return nil, err
		}
	}
	return sorted(times), nil
}
