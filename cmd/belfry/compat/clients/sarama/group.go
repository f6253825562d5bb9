package main

import (
	"context"
	"errors"

	"github.com/IBM/sarama"

	"belfry/features"
)

// claims is a group handler that only consumes.
type claims func(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim) error

func (claims) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (c claims) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	return c(s, claim)
}

func (d driver) groupEager(ctx context.Context) error {
	return d.group(ctx, "eager", features.Group{}, func(c *sarama.Config, _ string) {
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	})
}

func (d driver) groupStatic(ctx context.Context) error {
	return d.group(ctx, "static", features.Group{Static: true}, func(c *sarama.Config, name string) {
		// Why sticky: the member that comes back is to find its partitions.
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
		c.Consumer.Group.InstanceId = name
		if !c.Version.IsAtLeast(sarama.V2_3_0_0) {
			c.Version = sarama.V2_3_0_0
		}
	})
}

// group runs the scenario of two members with a configuration for each.
func (d driver) group(ctx context.Context, name string, g features.Group, set func(c *sarama.Config, member string)) error {
	t, err := d.topic(name, 4, nil)
	if err != nil {
		return err
	}
	g.Join = func(ctx context.Context, member string, seen func(string)) (features.Member, error) {
		c := config()
		c.ClientID = member
		c.Consumer.Group.Session.Timeout = 6e9
		c.Consumer.Group.Heartbeat.Interval = 300e6
		set(c, member)
		return d.join(ctx, t, c, seen)
	}
	g.Send = func(_ context.Context, keys []string) error {
		c := config()
		c.Producer.Partitioner = sarama.NewManualPartitioner
		var all []*sarama.ProducerMessage
		for i, key := range keys {
			all = append(all, &sarama.ProducerMessage{Topic: t, Partition: int32(i % 4), Key: sarama.StringEncoder(key)})
		}
		return produce(d.Bootstrap, c, all...)
	}
	return features.GroupOfTwo(ctx, g)
}

// join starts a member; it joins again and again, as each rebalance ends a session of sarama.
func (d driver) join(ctx context.Context, topic string, c *sarama.Config, seen func(string)) (features.Member, error) {
	g, err := sarama.NewConsumerGroup([]string{d.Bootstrap}, topic, c)
	if err != nil {
		return features.Member{}, err
	}
	share := &features.Share{}
	handler := claims(func(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
		share.Add(claim.Partition())
		defer share.Remove(claim.Partition())
		for m := range claim.Messages() {
			seen(string(m.Key))
			s.MarkMessage(m, "")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			err = g.Consume(ctx, []string{topic}, handler)
		}
		ended <- err
	}()
	leave := func() error {
		cancel()
		err := <-ended
		if errors.Is(err, sarama.ErrClosedConsumerGroup) {
			err = nil
		}
		return errors.Join(err, g.Close())
	}
	return features.Member{Share: share, Leave: leave}, nil
}
