// Command franz-go tries every feature of the compat table with twmb/franz-go.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"belfry/features"
)

// driver holds what the features share.
type driver struct {
	features.Args
}

func main() {
	d := driver{features.ReadArgs()}
	features.Run([]features.Feature{
		{Name: "create-topic", Try: d.createTopic},
		{Name: "produce-none", Try: d.codec("none", kgo.NoCompression())},
		{Name: "produce-gzip", Try: d.codec("gzip", kgo.GzipCompression())},
		{Name: "produce-snappy", Try: d.codec("snappy", kgo.SnappyCompression())},
		{Name: "produce-lz4", Try: d.codec("lz4", kgo.Lz4Compression())},
		{Name: "produce-zstd", Try: d.codec("zstd", kgo.ZstdCompression())},
		{Name: "idempotent", Try: d.idempotent},
		{Name: "transactions", Try: d.transactions},
		{Name: "group-eager", Try: d.groupEager},
		{Name: "group-cooperative", Try: d.groupCooperative},
		{Name: "group-static", Try: d.groupStatic},
		d.groupNewProtocol(),
		{Name: "commit-resume", Try: d.commitResume},
		{Name: "seek-by-time", Try: d.seekByTime},
		{Name: "headers", Try: d.headers},
		{Name: "tombstone", Try: d.tombstone},
		{Name: "large-message", Try: d.largeMessage},
		{Name: "wrong-topic", Try: d.wrongTopic},
		{Name: "unknown-version", Try: d.unknownVersion},
		{Name: "failover", Try: d.failover},
	})
}

// with opens a client and hands it to use.
func with(address string, use func(*kgo.Client) error, opts ...kgo.Opt) error {
	base := []kgo.Opt{kgo.SeedBrokers(address), kgo.FetchMaxWait(200 * time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(1)}
	c, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return err
	}
	defer c.Close()
	return use(c)
}

// admin opens an administrator and hands it to use.
func admin(address string, use func(*kadm.Client) error) error {
	return with(address, func(c *kgo.Client) error { return use(kadm.NewClient(c)) })
}

// create creates one topic.
func create(ctx context.Context, address, topic string, partitions int32, entries map[string]*string) error {
	return admin(address, func(a *kadm.Client) error {
		r, err := a.CreateTopic(ctx, partitions, features.Replicas(), entries, topic)
		if err := errors.Join(err, r.Err); err != nil {
			return err
		}
		return features.Known(ctx, topic)
	})
}

// topic creates a topic and gives its full name.
func (d driver) topic(ctx context.Context, name string, partitions int32, entries map[string]*string) (string, error) {
	full := d.Topic(name)
	return full, create(ctx, d.Bootstrap, full, partitions, entries)
}

// produce sends records and waits for all answers.
func produce(ctx context.Context, address string, records []*kgo.Record, opts ...kgo.Opt) error {
	return with(address, func(c *kgo.Client) error { return c.ProduceSync(ctx, records...).FirstErr() }, opts...)
}

// read reads n records of partition 0 from an offset on.
func read(ctx context.Context, address, topic string, from int64, n int) ([]*kgo.Record, error) {
	var got []*kgo.Record
	part := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}})
	err := with(address, func(c *kgo.Client) error {
		for len(got) < n {
			f := c.PollFetches(ctx)
			if err := f.Err(); err != nil {
				return fmt.Errorf("read %d of %d messages: %w", len(got), n, err)
			}
			got = append(got, f.Records()...)
		}
		return nil
	}, part)
	return got, err
}

// wire makes franz-go's records.
func wire(topic string, all []features.Message) []*kgo.Record {
	var out []*kgo.Record
	for _, m := range all {
		out = append(out, &kgo.Record{Topic: topic, Key: []byte(m.Key), Value: []byte(m.Value)})
	}
	return out
}

// roundTrip sends messages to a topic of one partition and compares what comes back.
func roundTrip(ctx context.Context, address, topic, name string, n int, opts ...kgo.Opt) error {
	sent := features.Messages(n, name)
	if err := produce(ctx, address, wire(topic, sent), opts...); err != nil {
		return err
	}
	got, err := read(ctx, address, topic, 0, n)
	if err != nil {
		return err
	}
	var back []features.Message
	for _, r := range got {
		back = append(back, features.Message{Key: string(r.Key), Value: string(r.Value)})
	}
	return features.EqualAll(back, sent, "messages")
}

func (d driver) createTopic(ctx context.Context) error {
	hour := "3600000"
	name, err := d.topic(ctx, "create", 3, map[string]*string{"retention.ms": &hour})
	if err != nil {
		return err
	}
	_, again := d.topic(ctx, "create", 3, nil)
	if !errors.Is(again, kerr.TopicAlreadyExists) {
		return fmt.Errorf("second creation: %v", again)
	}
	return admin(d.Bootstrap, func(a *kadm.Client) error {
		count := func() int {
			all, listErr := a.ListTopics(ctx, name)
			err = listErr
			return len(all[name].Partitions)
		}
		if err := errors.Join(features.Equal(count(), 3, "partitions"), err); err != nil {
			return err
		}
		configs, err := a.DescribeTopicConfigs(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range configs[0].Configs {
			if c.Key == "retention.ms" {
				err = features.Equal(c.MaybeValue(), hour, "retention.ms")
			}
		}
		if err != nil {
			return err
		}
		grown, err := a.UpdatePartitions(ctx, 5, name)
		if err := errors.Join(err, grown[name].Err); err != nil {
			return err
		}
		if err := features.Until(ctx, features.Limit, func() string { return "5 partitions" }, func() bool { return count() == 5 }); err != nil {
			return err
		}
		gone, err := a.DeleteTopics(ctx, name)
		if err := errors.Join(err, gone[name].Err, features.Gone(ctx, name)); err != nil {
			return err
		}
		all, err := a.ListTopics(ctx)
		return errors.Join(err, features.Equal(all.Has(name), false, "listed after its deletion"))
	})
}

func (d driver) codec(name string, codec kgo.CompressionCodec) func(context.Context) error {
	return func(ctx context.Context) error {
		t, err := d.topic(ctx, "codec-"+name, 1, nil)
		if err != nil {
			return err
		}
		return roundTrip(ctx, d.Bootstrap, t, name, 100, kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite())
	}
}

func (d driver) idempotent(ctx context.Context) error {
	t, err := d.topic(ctx, "idempotent", 1, nil)
	if err != nil {
		return err
	}
	return roundTrip(ctx, d.Bootstrap, t, "idempotent", 100, kgo.ProducerBatchMaxBytes(2000))
}

func (d driver) seekByTime(ctx context.Context) error {
	t, err := d.topic(ctx, "time", 1, nil)
	if err != nil {
		return err
	}
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	var all []*kgo.Record
	for i := range 10 {
		all = append(all, &kgo.Record{Topic: t, Value: fmt.Appendf(nil, "t%d", i), Timestamp: base.Add(time.Duration(i) * time.Second)})
	}
	if err := produce(ctx, d.Bootstrap, all); err != nil {
		return err
	}
	var offset int64
	err = admin(d.Bootstrap, func(a *kadm.Client) error {
		found, err := a.ListOffsetsAfterMilli(ctx, base.Add(4500*time.Millisecond).UnixMilli(), t)
		if err != nil {
			return err
		}
		o, _ := found.Lookup(t, 0)
		offset = o.Offset
		return errors.Join(o.Err, features.Equal(offset, 5, "offset by time"))
	})
	if err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, offset, 1)
	if err != nil {
		return err
	}
	return errors.Join(features.Equal(string(got[0].Value), "t5", "message"), features.Equal(got[0].Timestamp.UnixMilli(), base.Add(5*time.Second).UnixMilli(), "its time"))
}

func (d driver) headers(ctx context.Context) error {
	t, err := d.topic(ctx, "headers", 1, nil)
	if err != nil {
		return err
	}
	sent := []kgo.RecordHeader{{Key: "a", Value: []byte("text")}, {Key: "a", Value: []byte{0, 255, 128}}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
	if err := produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: t, Value: []byte("v"), Headers: sent}}); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, 0, 1)
	if err != nil {
		return err
	}
	return features.Equal(fmt.Sprintf("%#v", got[0].Headers), fmt.Sprintf("%#v", sent), "headers")
}

func (d driver) tombstone(ctx context.Context) error {
	compact := "compact"
	t, err := d.topic(ctx, "tombstone", 1, map[string]*string{"cleanup.policy": &compact})
	if err != nil {
		return err
	}
	k := []byte("k")
	err = produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: t, Key: k, Value: []byte("v")}, {Topic: t, Key: k}, {Topic: t, Key: k, Value: []byte{}}})
	if err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, 0, 3)
	if err != nil {
		return err
	}
	var values []string
	for _, r := range got {
		values = append(values, fmt.Sprintf("%q %v", r.Value, r.Value == nil))
	}
	err = features.EqualAll(values, []string{`"v" false`, `"" true`, `"" false`}, "values, and whether they are null")
	return errors.Join(err, features.Refused(produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: t, Value: []byte("no key")}}), "INVALID_RECORD", "a message without key in a compacted topic"))
}

func (d driver) largeMessage(ctx context.Context) error {
	t, err := d.topic(ctx, "large", 1, nil)
	if err != nil {
		return err
	}
	roomy, sent := kgo.ProducerBatchMaxBytes(64<<20), features.MiB(9)
	if err := produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: t, Value: sent}}, roomy); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, 0, 1)
	if err != nil {
		return err
	}
	err = produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: t, Value: features.MiB(11)}}, roomy, kgo.ProducerBatchCompression(kgo.NoCompression()))
	return errors.Join(features.Equal(bytes.Equal(got[0].Value, sent), true, "the large message is the same"), features.Refused(err, "MESSAGE_TOO_LARGE", "11 MiB"))
}

func (d driver) wrongTopic(ctx context.Context) error {
	bad, value := d.Topic(" no/topic"), []byte("v")
	return errors.Join(
		features.Refused(create(ctx, d.Bootstrap, bad, 1, nil), "INVALID_TOPIC_EXCEPTION", "creation"),
		features.Refused(produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: bad, Value: value}}), "INVALID_TOPIC_EXCEPTION", "produce to a bad name"),
		features.Refused(produce(ctx, d.Bootstrap, []*kgo.Record{{Topic: d.Topic("missing"), Value: value}}), "UNKNOWN_TOPIC_OR_PARTITION", "produce to a missing topic"))
}

func (d driver) unknownVersion(ctx context.Context) error {
	t := d.Topic("old")
	if err := create(ctx, d.OldBootstrap, t, 1, nil); err != nil {
		return err
	}
	return roundTrip(ctx, d.OldBootstrap, t, "old", 20)
}
