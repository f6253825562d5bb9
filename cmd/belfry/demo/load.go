package demo

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topic and the group of the demo.
const (
	topicName  = "orders"
	groupName  = "billing"
	partitions = 3
)

// Sizes of the load.
const (
	messageSize = 4 << 10
	beat        = 100 * time.Millisecond // how often a portion is sent and read
)

// load is a producer that keeps a pace, and a consumer in a group that is slower than it.
type load struct {
	address string
	pace    int // messages a second

	resting  atomic.Bool // the producer pauses and the consumer catches up
	sent     atomic.Int64
	refused  atomic.Int64
	consumed atomic.Int64
	trouble  atomic.Pointer[string] // what the last refused message was told
}

func (l *load) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.address), kgo.ClientID("belfry-demo")}, options...)...)
}

// prepare creates the topic with small segments, so that what is deleted makes room at once.
func (l *load) prepare(ctx context.Context) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	segment, now := "1048576", "0"
	_, err = kadm.NewClient(c).CreateTopic(ctx, partitions, 1, map[string]*string{"segment.bytes": &segment, "file.delete.delay.ms": &now}, topicName)
	if err != nil {
		return fmt.Errorf("cannot create topic %q: %w", topicName, err)
	}
	return nil
}

// produce sends at the pace until ctx ends. A message that is refused is counted and not sent again.
func (l *load) produce(ctx context.Context) error {
	c, err := l.client(kgo.DefaultProduceTopic(topicName), kgo.RecordDeliveryTimeout(time.Second), kgo.MaxBufferedRecords(10_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer c.Close()
	value := make([]byte, messageSize)
	if _, err := rand.Read(value); err != nil {
		return err
	}
	portion := max(1, l.pace*int(beat/time.Millisecond)/1000)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for i := 0; i < portion && !l.resting.Load(); i++ {
			key := fmt.Appendf(nil, "customer-%d", i)
			c.TryProduce(ctx, &kgo.Record{Key: key, Value: value}, func(_ *kgo.Record, err error) {
				if err == nil {
					l.sent.Add(1)
				} else if ctx.Err() == nil {
					l.refused.Add(1)
					text := err.Error()
					l.trouble.Store(&text)
				}
			})
		}
	}
}

// consume reads a third of what is produced, everything while the load rests, until ctx ends.
func (l *load) consume(ctx context.Context) error {
	c, err := l.client(kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitInterval(time.Second), kgo.FetchMaxPartitionBytes(128<<10)) // small, so that it reads as evenly as it consumes
	if err != nil {
		return err
	}
	defer c.Close()
	portion := max(1, l.pace/3*int(beat/time.Millisecond)/1000)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		most := portion
		if l.resting.Load() {
			most *= 30
		}
		within, cancel := context.WithTimeout(ctx, beat)
		got := c.PollRecords(within, most)
		cancel()
		l.consumed.Add(int64(got.NumRecords()))
	}
}

// forget deletes the older part of the topic: what an operator does when the storage cannot be extended. Each partition
// keeps the given share of its messages.
func (l *load) forget(ctx context.Context, keep float64) (int64, error) {
	c, err := l.client()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	starts, err := admin.ListStartOffsets(ctx, topicName)
	if err != nil {
		return 0, fmt.Errorf("cannot list offsets of topic %q: %w", topicName, err)
	}
	ends, err := admin.ListEndOffsets(ctx, topicName)
	if err != nil {
		return 0, fmt.Errorf("cannot list offsets of topic %q: %w", topicName, err)
	}
	until, gone := kadm.Offsets{}, int64(0)
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		drop := int64(float64(end.Offset-start.Offset) * (1 - keep))
		until.AddOffset(end.Topic, end.Partition, start.Offset+drop, -1)
		gone += drop
	})
	deleted, err := admin.DeleteRecords(ctx, until)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("cannot delete records of topic %q: %w", topicName, err)
	}
	return gone, nil
}
