package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"belfry/features"
)

func (d driver) groupEager(ctx context.Context) error {
	return d.group(ctx, "eager", features.Group{}, func(string) []kgo.Opt { return []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())} })
}

func (d driver) groupCooperative(ctx context.Context) error {
	return d.group(ctx, "cooperative", features.Group{Cooperative: true}, func(string) []kgo.Opt {
		return []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}
	})
}

func (d driver) groupStatic(ctx context.Context) error {
	return d.group(ctx, "static", features.Group{Static: true}, func(member string) []kgo.Opt {
		return []kgo.Opt{kgo.Balancers(kgo.RangeBalancer()), kgo.InstanceID(member)}
	})
}

// group runs the scenario of two members with options for each.
func (d driver) group(ctx context.Context, name string, g features.Group, opts func(member string) []kgo.Opt) error {
	t, err := d.topic(ctx, name, 4, nil)
	if err != nil {
		return err
	}
	g.Join = func(_ context.Context, member string, seen func(string)) (features.Member, error) {
		return d.join(t, seen, opts(member))
	}
	g.Send = func(ctx context.Context, keys []string) error {
		var all []*kgo.Record
		for i, key := range keys {
			all = append(all, &kgo.Record{Topic: t, Partition: int32(i % 4), Key: []byte(key)})
		}
		return produce(ctx, d.Bootstrap, all, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return features.GroupOfTwo(ctx, g)
}

// join starts a member that commits what it has polled before it polls again.
func (d driver) join(topic string, seen func(string), opts []kgo.Opt) (features.Member, error) {
	share := &features.Share{}
	remove := func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { share.Remove(gone[topic]...) }
	opts = append(opts, kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, more map[string][]int32) { share.Add(more[topic]...) }),
		kgo.OnPartitionsRevoked(remove), kgo.OnPartitionsLost(remove))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- with(d.Bootstrap, func(c *kgo.Client) error {
			defer c.AllowRebalance()
			for ctx.Err() == nil {
				f := c.PollFetches(ctx)
				if err := f.Err(); err != nil && ctx.Err() == nil {
					return err
				}
				f.EachRecord(func(r *kgo.Record) { seen(string(r.Key)) })
				if err := c.CommitUncommittedOffsets(context.Background()); err != nil {
					return fmt.Errorf("cannot commit: %w", err)
				}
				c.AllowRebalance()
			}
			return nil
		}, opts...)
	}()
	leave := func() error {
		cancel()
		return <-ended
	}
	return features.Member{Share: share, Leave: leave}, nil
}

func (d driver) commitResume(ctx context.Context) error {
	t, err := d.topic(ctx, "resume", 1, nil)
	if err != nil {
		return err
	}
	if err := produce(ctx, d.Bootstrap, wire(t, features.Messages(20, "resume"))); err != nil {
		return err
	}
	session := func(first int64, then func(*kgo.Client, *kgo.Record) error) error {
		return with(d.Bootstrap, func(c *kgo.Client) error {
			f := c.PollRecords(ctx, 1)
			if err := f.Err(); err != nil {
				return err
			}
			r := f.Records()[0]
			return errors.Join(features.Equal(r.Offset, first, "first offset of the session"), then(c, r))
		}, kgo.ConsumerGroup(t), kgo.ConsumeTopics(t), kgo.DisableAutoCommit())
	}
	err = session(0, func(c *kgo.Client, r *kgo.Record) error {
		r.Offset = 9 // the next one is committed
		return c.CommitRecords(ctx, r)
	})
	if err != nil {
		return err
	}
	return session(10, func(c *kgo.Client, _ *kgo.Record) error {
		return features.Equal(c.CommittedOffsets()[t][0].Offset, 10, "committed")
	})
}
