package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"belfry/features"
)

func values(topic string, all ...string) []*sarama.ProducerMessage {
	var out []*sarama.ProducerMessage
	for _, value := range all {
		out = append(out, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	}
	return out
}

// transactional opens a producer of transactions.
func (d driver) transactional(id string) (sarama.SyncProducer, error) {
	c := config()
	c.Producer.Idempotent, c.Producer.Transaction.ID, c.Producer.RequiredAcks = true, id, sarama.WaitForAll
	c.Net.MaxOpenRequests = 1
	return sarama.NewSyncProducer([]string{d.Bootstrap}, c)
}

// transactions copies a topic with its offsets, aborts, commits, and is fenced by another producer of its name.
func (d driver) transactions(ctx context.Context) error {
	in, err := d.topic("txn-in", 1, nil)
	if err != nil {
		return err
	}
	out, err := d.topic("txn-out", 1, nil)
	if err != nil {
		return err
	}
	if err := produce(d.Bootstrap, config(), values(in, "a", "b", "c")...); err != nil {
		return err
	}
	from, err := read(ctx, d.Bootstrap, config(), in, sarama.OffsetOldest, 3)
	if err != nil {
		return err
	}
	p, err := d.transactional(in)
	if err != nil {
		return err
	}
	defer p.Close() // of a fenced producer: it says so again
	var copies []string
	for _, m := range from {
		copies = append(copies, string(m.Value))
	}
	offsets := func() error {
		return p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{in: {{Partition: 0, Offset: 3}}}, in)
	}
	for _, step := range []func() error{
		p.BeginTxn, func() error { return p.SendMessages(values(out, copies...)) }, offsets, p.CommitTxn,
		p.BeginTxn, func() error { return p.SendMessages(values(out, "aborted")) }, p.AbortTxn,
		p.BeginTxn, func() error { return p.SendMessages(values(out, "later")) }, p.CommitTxn,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := errors.Join(d.committedAt(in, 3), d.fence(p, in, out)); err != nil {
		return err
	}
	return d.seen(ctx, out)
}

// committedAt checks the offset of the group named as the topic.
func (d driver) committedAt(topic string, want int64) error {
	return admin(d.Bootstrap, config(), func(a sarama.ClusterAdmin) error {
		r, err := a.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0}})
		if err != nil {
			return err
		}
		if b := r.GetBlock(topic, 0); b == nil || b.Offset != want {
			return fmt.Errorf("offset committed with a transaction: got %+v, want %d", b, want)
		}
		return nil
	})
}

// fence lets another producer take the name; what the first one does then is refused.
func (d driver) fence(first sarama.SyncProducer, id, out string) error {
	if err := first.BeginTxn(); err != nil {
		return err
	}
	second, err := d.transactional(id)
	if err != nil {
		return err
	}
	if err := errors.Join(second.BeginTxn(), second.SendMessages(values(out, "fence")), second.CommitTxn(), second.Close()); err != nil {
		return err
	}
	err = first.SendMessages(values(out, "fenced"))
	var several sarama.ProducerErrors
	if errors.As(err, &several) {
		err = several[0].Err
	}
	return features.Refused(err, "(?i)epoch|fence|transaction|90", "a producer whose name was taken")
}

// seen compares what readers of committed messages and others get.
func (d driver) seen(ctx context.Context, out string) error {
	want := map[sarama.IsolationLevel][]string{
		sarama.ReadCommitted: {"a", "b", "c", "later", "fence"}, sarama.ReadUncommitted: {"a", "b", "c", "aborted", "later", "fence"},
	}
	for level, values := range want {
		c := config()
		c.Consumer.IsolationLevel = level
		all, err := read(ctx, d.Bootstrap, c, out, sarama.OffsetOldest, len(values))
		if err != nil {
			return err
		}
		var got []string
		for _, m := range all {
			got = append(got, string(m.Value))
		}
		if err := features.EqualAll(got, values, fmt.Sprintf("values at isolation level %d", level)); err != nil {
			return err
		}
	}
	return nil
}

func (d driver) failover(ctx context.Context) error {
	t := d.Topic("failover") // the test has made it
	c := config()
	c.Producer.Idempotent, c.Producer.RequiredAcks = true, sarama.WaitForAll
	c.Producer.Retry.Max, c.Metadata.Retry.Max = 200, 200
	c.Producer.Retry.Backoff, c.Metadata.Retry.Backoff = 100*time.Millisecond, 100*time.Millisecond
	c.Net.MaxOpenRequests = 1
	c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = 6*time.Second, 300*time.Millisecond
	p, err := sarama.NewSyncProducer([]string{d.Bootstrap}, c)
	if err != nil {
		return err
	}
	defer p.Close()
	g, err := sarama.NewConsumerGroup([]string{d.Bootstrap}, t, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	got, ended := make(chan string, 1000), make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && !errors.Is(err, sarama.ErrClosedConsumerGroup) {
			// An error ends a session, not the member: the coordinator may have died.
			err = g.Consume(ctx, []string{t}, claims(func(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
				for m := range claim.Messages() {
					got <- string(m.Value)
					s.MarkMessage(m, "") // committed once a second
				}
				return nil
			}))
		}
		ended <- err
	}()
	err = features.Survive(ctx, features.Failover{
		Send: func(_ context.Context, all []string) error { return p.SendMessages(values(t, all...)) },
		Read: func(ctx context.Context) ([]string, error) {
			select {
			case value := <-got:
				return []string{value}, nil
			case <-ctx.Done():
				return nil, nil
			}
		},
		Twice: true, // a session that ends before its commit is answered reads again
	})
	cancel()
	<-ended
	return errors.Join(err, g.Close())
}
