package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"belfry/features"
)

func (d driver) groupEager(ctx context.Context) error {
	t, err := d.topic(ctx, "eager", 4)
	if err != nil {
		return err
	}
	return features.GroupOfTwo(ctx, features.Group{
		Join: func(_ context.Context, _ string, seen func(string)) (features.Member, error) { return d.join(t, seen) },
		Send: func(ctx context.Context, keys []string) error {
			w := writer(d.Bootstrap, t)
			w.Balancer = toPartition
			var all []kafka.Message
			for i, key := range keys {
				all = append(all, kafka.Message{Key: []byte(key), WriterData: i % 4})
			}
			return produce(ctx, w, all...)
		},
	})
}

// join starts a member: each generation of the group reads its partitions until it ends.
func (d driver) join(topic string, seen func(string)) (features.Member, error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: topic, Brokers: []string{d.Bootstrap}, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 300 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second, JoinGroupBackoff: 500 * time.Millisecond,
	})
	if err != nil {
		return features.Member{}, err
	}
	share := &features.Share{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for {
			gen, err := g.Next(ctx)
			var told kafka.Error
			if errors.As(err, &told) && told.Temporary() && ctx.Err() == nil {
				continue // no coordinator yet: as a Reader does
			}
			if err != nil {
				if ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed) {
					err = nil
				}
				ended <- err
				return
			}
			for _, part := range gen.Assignments[topic] {
				gen.Start(func(ctx context.Context) {
					share.Add(int32(part.ID))
					defer share.Remove(int32(part.ID))
					d.consume(ctx, gen, topic, part, seen)
				})
			}
		}
	}()
	leave := func() error {
		cancel()
		return errors.Join(<-ended, g.Close())
	}
	return features.Member{Share: share, Leave: leave}, nil
}

// consume reads one partition and commits each message, until its generation ends.
func (d driver) consume(ctx context.Context, gen *kafka.Generation, topic string, part kafka.PartitionAssignment, seen func(string)) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{d.Bootstrap}, Topic: topic, Partition: part.ID, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 200 * time.Millisecond})
	defer r.Close()
	if err := r.SetOffset(part.Offset); err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	for {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return // the generation has ended; who waits for the message sees its absence
		}
		seen(string(m.Key))
		if err := gen.CommitOffsets(map[string]map[int]int64{topic: {part.ID: m.Offset + 1}}); err != nil {
			return
		}
	}
}

func (d driver) commitResume(ctx context.Context) error {
	t, err := d.topic(ctx, "resume", 1)
	if err != nil {
		return err
	}
	if err := produce(ctx, writer(d.Bootstrap, t), wire(features.Messages(20, "resume"))...); err != nil {
		return err
	}
	for _, want := range []int64{0, 10} {
		if err := d.session(ctx, t, want); err != nil {
			return err
		}
		found, err := client(d.Bootstrap).OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: t, Topics: map[string][]int{t: {0}}})
		if err != nil {
			return err
		}
		if err := features.Equal(found.Topics[t][0].CommittedOffset, want+10, "committed"); err != nil {
			return err
		}
	}
	return nil
}

// session reads ten messages as a member of the group and commits them; the first one has an offset.
func (d driver) session(ctx context.Context, topic string, first int64) (err error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{d.Bootstrap}, GroupID: topic, Topic: topic, StartOffset: kafka.FirstOffset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 200 * time.Millisecond})
	defer func() { err = errors.Join(err, r.Close()) }()
	for i := range int64(10) {
		m, err := r.FetchMessage(ctx)
		if err := errors.Join(err, features.Equal(m.Offset, first+i, "offset")); err != nil {
			return err
		}
		if err := r.CommitMessages(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
