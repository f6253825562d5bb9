package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"belfry/features"
)

func texts(topic string, values ...string) []*kgo.Record {
	var all []*kgo.Record
	for _, value := range values {
		all = append(all, &kgo.Record{Topic: topic, Value: []byte(value)})
	}
	return all
}

// readCommitted reads n committed values of a partition.
func readCommitted(ctx context.Context, address, topic string, n int) ([]string, error) {
	var got []string
	err := with(address, func(c *kgo.Client) error {
		for len(got) < n {
			f := c.PollFetches(ctx)
			if err := f.Err(); err != nil {
				return err
			}
			f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		}
		return nil
	}, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(topic))
	return got, err
}

// transactions copies a topic with its offsets, aborts, commits, and is fenced by another producer of its name.
func (d driver) transactions(ctx context.Context) error {
	in, err := d.topic(ctx, "txn-in", 1, nil)
	if err != nil {
		return err
	}
	out, err := d.topic(ctx, "txn-out", 1, nil)
	if err != nil {
		return err
	}
	if err := produce(ctx, d.Bootstrap, texts(in, "a", "b", "c")); err != nil {
		return err
	}
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(d.Bootstrap), kgo.TransactionalID(in), kgo.ConsumerGroup(in), kgo.ConsumeTopics(in),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := d.copy(ctx, s, out); err != nil {
		return err
	}
	for _, step := range []struct {
		value string
		end   kgo.TransactionEndTry
	}{{"aborted", kgo.TryAbort}, {"later", kgo.TryCommit}} {
		if err := s.Begin(); err != nil {
			return err
		}
		if err := s.Client().ProduceSync(ctx, texts(out, step.value)...).FirstErr(); err != nil {
			return err
		}
		committed, err := s.End(ctx, step.end)
		if err := errors.Join(err, features.Equal(committed, bool(step.end), "whether the transaction was committed")); err != nil {
			return err
		}
	}
	err = admin(d.Bootstrap, func(a *kadm.Client) error {
		found, err := a.FetchOffsets(ctx, in)
		if err != nil {
			return err
		}
		at, _ := found.Lookup(in, 0)
		return features.Equal(at.At, 3, "offset committed with a transaction")
	})
	if err := errors.Join(err, d.fence(ctx, s.Client(), in, out)); err != nil {
		return err
	}
	got, err := readCommitted(ctx, d.Bootstrap, out, 5)
	if err := errors.Join(err, features.EqualAll(got, []string{"a", "b", "c", "later", "fence"}, "committed values")); err != nil {
		return err
	}
	all, err := read(ctx, d.Bootstrap, out, 0, 6)
	return errors.Join(err, features.Equal(string(all[3].Value), "aborted", "the aborted value, which is there for others"))
}

// copy reads all and writes it in one transaction, which commits the offsets too.
func (d driver) copy(ctx context.Context, s *kgo.GroupTransactSession, out string) error {
	if err := s.Begin(); err != nil {
		return err
	}
	for n := 0; n < 3; {
		f := s.PollFetches(ctx)
		if err := f.Err(); err != nil {
			return err
		}
		for _, r := range f.Records() {
			if err := s.ProduceSync(ctx, texts(out, string(r.Value))...).FirstErr(); err != nil {
				return err
			}
			n++
		}
	}
	committed, err := s.End(ctx, kgo.TryCommit)
	return errors.Join(err, features.Equal(committed, true, "whether the copy was committed"))
}

// fence lets another producer take the name; what the first one does then is refused.
func (d driver) fence(ctx context.Context, first *kgo.Client, id, out string) error {
	if err := first.BeginTransaction(); err != nil {
		return err
	}
	err := with(d.Bootstrap, func(second *kgo.Client) error {
		if err := second.BeginTransaction(); err != nil {
			return err
		}
		if err := second.ProduceSync(ctx, texts(out, "fence")...).FirstErr(); err != nil {
			return err
		}
		return second.EndTransaction(ctx, kgo.TryCommit)
	}, kgo.TransactionalID(id))
	if err != nil {
		return err
	}
	return features.Refused(first.ProduceSync(ctx, texts(out, "fenced")...).FirstErr(), "PRODUCER_FENCED|INVALID_PRODUCER_EPOCH", "a producer whose name was taken")
}

func (d driver) failover(ctx context.Context) error {
	t := d.Topic("failover") // the test has made it
	return with(d.Bootstrap, func(c *kgo.Client) error {
		return features.Survive(ctx, features.Failover{
			Send: func(ctx context.Context, values []string) error {
				return c.ProduceSync(ctx, texts(t, values...)...).FirstErr()
			},
			Read: func(ctx context.Context) (got []string, err error) {
				f := c.PollFetches(ctx)
				f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
				if err := f.Err(); err != nil || len(got) == 0 {
					return got, err
				}
				return got, c.CommitUncommittedOffsets(ctx)
			},
		})
	}, kgo.ConsumerGroup(t), kgo.ConsumeTopics(t), kgo.DisableAutoCommit())
}
