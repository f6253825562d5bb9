package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Pulse is a steady write to every partition of a topic, with the moment of each acknowledgement.
//
// The client retries what it may for deliveryLimit, as a well-configured one does: what is seen is
// what an application sees, an answer that comes late or, if ever, a message that has failed.
type Pulse struct {
	c     *kgo.Client
	begin time.Time
	stop  context.CancelFunc
	done  chan struct{} // closed when nothing more is sent

	mu struct {
		sync.Mutex
		parts  []pulsed
		failed int
		why    error         // of the first that failed
		news   chan struct{} // closed at the next acknowledgement
	}
}

// pulsed is what is known of a partition.
type pulsed struct {
	acked []time.Duration // when, since the beginning; in order
	sent  time.Duration   // when the youngest of the acknowledged messages was sent
}

// deliveryLimit is how long a client tries to deliver a message: the default of Kafka's own producer.
const deliveryLimit = 2 * time.Minute

// outageBuffer is how many messages may wait while a cluster does not answer.
const outageBuffer = 1 << 20

// outageOptions are those of a producer that lives through outages: the broker's time is measured,
// not that of batches which wait to be filled.
func outageOptions() []kgo.Opt {
	return append(Produce{}.options(), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(deliveryLimit),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(outageBuffer))
}

// StartPulse begins to write a message to each partition every so often, once each has had its
// first one acknowledged.
//
// Errors: the first messages failed; ctx.
func (k Kafka) StartPulse(ctx context.Context, topic string, partitions, size int, every time.Duration) (*Pulse, error) {
	s, err := k.StartSweeper(ctx, topic, partitions, size)
	if err != nil {
		return nil, err
	}
	p := &Pulse{c: s.c, begin: time.Now(), done: make(chan struct{})}
	p.mu.parts, p.mu.news = make([]pulsed, partitions), make(chan struct{})
	ctx, p.stop = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.beat(topic, s.values[i%len(s.values)])
			}
		}
	}()
	return p, nil
}

// beat sends a message to each partition. Why not under the pulse's context: what is on its way when
// it stops is still waited for.
func (p *Pulse) beat(topic string, value []byte) {
	sent := time.Since(p.begin)
	for i := range p.mu.parts {
		p.c.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: int32(i), Value: value}, func(r *kgo.Record, err error) {
			p.acknowledged(int(r.Partition), sent, err)
		})
	}
}

func (p *Pulse) acknowledged(partition int, sent time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.mu.failed++
		if p.mu.why == nil {
			p.mu.why = err
		}
		return
	}
	part := &p.mu.parts[partition]
	part.acked, part.sent = append(part.acked, time.Since(p.begin)), max(part.sent, sent)
	close(p.mu.news)
	p.mu.news = make(chan struct{})
}

// Past waits until each partition has acknowledged a message that was sent after a moment.
//
// Errors: ctx.
func (p *Pulse) Past(ctx context.Context, moment time.Time) error {
	after := moment.Sub(p.begin)
	for {
		behind, news := p.behind(after)
		if behind == 0 {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("cannot write to %d partitions: %w", behind, context.Cause(ctx))
		}
	}
}

func (p *Pulse) behind(after time.Duration) (n int, news <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.mu.parts {
		if part.sent <= after {
			n++
		}
	}
	return n, p.mu.news
}

// Stop ends the pulse once every message has been acknowledged or has failed. It may be called more than once.
func (p *Pulse) Stop(ctx context.Context) error {
	p.stop()
	<-p.done
	defer p.c.Close()
	return p.c.Flush(ctx)
}

// Gap gives the longest time from one acknowledgement of a partition to the next one: that which
// holds the moment, or any after it. Requires: stopped.
func (p *Pulse) Gap(partition int32, moment time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return longestGap(p.mu.parts[partition].acked, moment.Sub(p.begin))
}

func longestGap(acked []time.Duration, from time.Duration) (longest time.Duration) {
	for i := 1; i < len(acked); i++ {
		if acked[i] > from {
			longest = max(longest, acked[i]-acked[i-1])
		}
	}
	return longest
}

// Failed gives how many messages were given up, and why the first of them was. Requires: stopped.
func (p *Pulse) Failed() (n int, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.failed, p.mu.why
}

// Sweeper writes one message to every partition of a topic whenever it is told to.
type Sweeper struct {
	c          *kgo.Client
	topic      string
	partitions int
	values     [][]byte
}

// StartSweeper opens a client that knows every partition's leader: it has written to each.
//
// Errors: as Sweep.
func (k Kafka) StartSweeper(ctx context.Context, topic string, partitions, size int) (*Sweeper, error) {
	c, err := k.client(outageOptions()...)
	if err != nil {
		return nil, err
	}
	s := &Sweeper{c: c, topic: topic, partitions: partitions, values: Values(size)}
	if err := s.Sweep(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Sweep returns once every partition has acknowledged its message.
//
// Errors: one was given up; ctx.
func (s *Sweeper) Sweep(ctx context.Context) error {
	all := make([]*kgo.Record, s.partitions)
	for i := range all {
		all[i] = &kgo.Record{Topic: s.topic, Partition: int32(i), Value: s.values[i%len(s.values)]}
	}
	if err := s.c.ProduceSync(ctx, all...).FirstErr(); err != nil {
		return fmt.Errorf("cannot write to every partition of %q: %w", s.topic, err)
	}
	return nil
}

// Close ends the client.
func (s *Sweeper) Close() { s.c.Close() }
