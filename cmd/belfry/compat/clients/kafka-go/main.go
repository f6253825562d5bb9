// Command kafka-go tries every feature of the compat table with segmentio/kafka-go.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

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
		{Name: "produce-none", Try: d.codec("none", compress.None)},
		{Name: "produce-gzip", Try: d.codec("gzip", kafka.Gzip)},
		{Name: "produce-snappy", Try: d.codec("snappy", kafka.Snappy)},
		{Name: "produce-lz4", Try: d.codec("lz4", kafka.Lz4)},
		{Name: "produce-zstd", Try: d.codec("zstd", kafka.Zstd)},
		{Name: "idempotent", Lacks: "kafka-go's Writer sends no producer ID and no sequence numbers"},
		{Name: "transactions", Lacks: "kafka-go's Writer has no transactions"},
		{Name: "group-eager", Try: d.groupEager},
		{Name: "group-cooperative", Lacks: "kafka-go has no cooperative rebalance: every generation assigns all partitions anew"},
		{Name: "group-static", Lacks: "kafka-go has no group.instance.id"},
		{Name: "group-new-protocol", Lacks: "kafka-go speaks the classic group protocol only"},
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

func client(address string) *kafka.Client { return &kafka.Client{Addr: kafka.TCP(address)} }

// create creates one topic.
func create(ctx context.Context, address string, t kafka.TopicConfig) error {
	r, err := client(address).CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
	if err != nil {
		return err
	}
	if err := r.Errors[t.Topic]; err != nil {
		return err
	}
	return features.Known(ctx, t.Topic)
}

// topic creates a topic and gives its full name.
func (d driver) topic(ctx context.Context, name string, partitions int, entries ...kafka.ConfigEntry) (string, error) {
	full := d.Topic(name)
	return full, create(ctx, d.Bootstrap, kafka.TopicConfig{Topic: full, NumPartitions: partitions, ReplicationFactor: int(features.Replicas()), ConfigEntries: entries})
}

// toPartition is a balancer that sends message i into partition i modulo n, by what the message says.
var toPartition = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.WriterData.(int) })

// writer makes a producer.
func writer(address, topic string) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(address), Topic: topic, BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireAll, MaxAttempts: 3, Balancer: &kafka.RoundRobin{}}
}

// produce writes messages and waits for the answers.
func produce(ctx context.Context, w *kafka.Writer, all ...kafka.Message) error {
	err := w.WriteMessages(ctx, all...)
	var several kafka.WriteErrors
	if errors.As(err, &several) {
		for _, e := range several {
			if e != nil {
				err = e
			}
		}
	}
	return errors.Join(err, w.Close())
}

// read reads n messages of partition 0 from an offset on.
func read(ctx context.Context, address, topic string, from int64, n int) (got []kafka.Message, err error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: topic, MinBytes: 1, MaxBytes: 32 << 20, MaxWait: 200 * time.Millisecond})
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.SetOffset(from); err != nil {
		return nil, err
	}
	for len(got) < n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return got, fmt.Errorf("read %d of %d messages: %w", len(got), n, err)
		}
		got = append(got, m)
	}
	return got, nil
}

// wire makes kafka-go's messages.
func wire(all []features.Message) []kafka.Message {
	var out []kafka.Message
	for _, m := range all {
		out = append(out, kafka.Message{Key: []byte(m.Key), Value: []byte(m.Value)})
	}
	return out
}

// roundTrip sends messages to a topic of one partition and compares what comes back.
func roundTrip(ctx context.Context, w *kafka.Writer, address, name string, n int) error {
	sent := features.Messages(n, name)
	if err := produce(ctx, w, wire(sent)...); err != nil {
		return err
	}
	got, err := read(ctx, address, w.Topic, kafka.FirstOffset, n)
	if err != nil {
		return err
	}
	var back []features.Message
	for _, m := range got {
		back = append(back, features.Message{Key: string(m.Key), Value: string(m.Value)})
	}
	return features.EqualAll(back, sent, "messages")
}

func (d driver) createTopic(ctx context.Context) error {
	wish := kafka.TopicConfig{Topic: d.Topic("create"), NumPartitions: 3, ReplicationFactor: int(features.Replicas()), ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "3600000"}}}
	if err := create(ctx, d.Bootstrap, wish); err != nil {
		return err
	}
	if err := features.Refused(create(ctx, d.Bootstrap, wish), "Topic Already Exists", "second creation"); err != nil {
		return err
	}
	c := client(d.Bootstrap)
	if err := d.partitions(ctx, wish.Topic, 3); err != nil {
		return err
	}
	configs, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: wish.Topic, ConfigNames: []string{"retention.ms"}}}})
	if err != nil {
		return err
	}
	if got := configs.Resources[0].ConfigEntries; len(got) != 1 || got[0].ConfigValue != "3600000" {
		return fmt.Errorf("retention.ms: got %+v, want 3600000", got)
	}
	grown, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: wish.Topic, Count: 5}}})
	if err := errors.Join(err, grown.Errors[wish.Topic]); err != nil {
		return err
	}
	if err := features.Until(ctx, features.Limit, func() string { return "5 partitions" }, func() bool { return d.partitions(ctx, wish.Topic, 5) == nil }); err != nil {
		return err
	}
	gone, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{wish.Topic}})
	if err := errors.Join(err, gone.Errors[wish.Topic], features.Gone(ctx, wish.Topic)); err != nil {
		return err
	}
	return features.Refused(d.partitions(ctx, wish.Topic, 0), "Unknown Topic", "description after the deletion")
}

// partitions counts by a connection of its own: a Client answers from what it remembers.
func (d driver) partitions(ctx context.Context, topic string, want int) error {
	conn, err := kafka.DialContext(ctx, "tcp", d.Bootstrap)
	if err != nil {
		return err
	}
	defer conn.Close()
	all, err := conn.ReadPartitions(topic)
	return errors.Join(err, features.Equal(len(all), want, "partitions"))
}

func (d driver) codec(name string, codec kafka.Compression) func(context.Context) error {
	return func(ctx context.Context) error {
		t, err := d.topic(ctx, "codec-"+name, 1)
		if err != nil {
			return err
		}
		w := writer(d.Bootstrap, t)
		w.Compression = codec
		return roundTrip(ctx, w, d.Bootstrap, name, 100)
	}
}

func (d driver) seekByTime(ctx context.Context) error {
	t, err := d.topic(ctx, "time", 1)
	if err != nil {
		return err
	}
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	var all []kafka.Message
	for i := range 10 {
		all = append(all, kafka.Message{Value: fmt.Appendf(nil, "t%d", i), Time: base.Add(time.Duration(i) * time.Second)})
	}
	if err := produce(ctx, writer(d.Bootstrap, t), all...); err != nil {
		return err
	}
	conn, err := kafka.DialLeader(ctx, "tcp", d.Bootstrap, t, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	offset, err := conn.ReadOffset(base.Add(4500 * time.Millisecond))
	if err := errors.Join(err, features.Equal(offset, 5, "offset by time")); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, offset, 1)
	if err != nil {
		return err
	}
	return errors.Join(features.Equal(string(got[0].Value), "t5", "message"), features.Equal(got[0].Time.UnixMilli(), base.Add(5*time.Second).UnixMilli(), "its time"))
}

func (d driver) headers(ctx context.Context) error {
	t, err := d.topic(ctx, "headers", 1)
	if err != nil {
		return err
	}
	sent := []kafka.Header{{Key: "a", Value: []byte("text")}, {Key: "a", Value: []byte{0, 255, 128}}, {Key: "empty", Value: []byte{}}}
	if err := produce(ctx, writer(d.Bootstrap, t), kafka.Message{Value: []byte("v"), Headers: sent}); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, kafka.FirstOffset, 1)
	if err != nil {
		return err
	}
	return features.Equal(fmt.Sprint(got[0].Headers), fmt.Sprint(sent), "headers")
}

func (d driver) tombstone(ctx context.Context) error {
	t, err := d.topic(ctx, "tombstone", 1, kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"})
	if err != nil {
		return err
	}
	k := []byte("k")
	err = produce(ctx, writer(d.Bootstrap, t), kafka.Message{Key: k, Value: []byte("v")}, kafka.Message{Key: k}, kafka.Message{Key: k, Value: []byte{}})
	if err != nil {
		return err
	}
	// Why not by a Reader: it gives an empty value as null.
	got, err := client(d.Bootstrap).Fetch(ctx, &kafka.FetchRequest{Topic: t, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err != nil {
		return err
	}
	var values []string
	for range 3 {
		r, err := got.Records.ReadRecord()
		if err != nil {
			return err
		}
		b, err := kafka.ReadAll(r.Value)
		if err != nil {
			return err
		}
		values = append(values, fmt.Sprintf("%q %v", b, r.Value == nil))
	}
	err = features.EqualAll(values, []string{`"v" false`, `"" true`, `"" false`}, "values, and whether they are null")
	return errors.Join(err, features.Refused(produce(ctx, writer(d.Bootstrap, t), kafka.Message{Value: []byte("no key")}), "Invalid Record", "a message without key in a compacted topic"))
}

func (d driver) largeMessage(ctx context.Context) error {
	t, err := d.topic(ctx, "large", 1)
	if err != nil {
		return err
	}
	roomy := func() *kafka.Writer {
		w := writer(d.Bootstrap, t)
		w.BatchBytes = 64 << 20
		return w
	}
	sent := features.MiB(9)
	if err := produce(ctx, roomy(), kafka.Message{Value: sent}); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, t, kafka.FirstOffset, 1)
	if err != nil {
		return err
	}
	return errors.Join(features.Equal(bytes.Equal(got[0].Value, sent), true, "the large message is the same"),
		features.Refused(produce(ctx, roomy(), kafka.Message{Value: features.MiB(11)}), "Message Size Too Large", "11 MiB"))
}

func (d driver) wrongTopic(ctx context.Context) error {
	bad := d.Topic(" no/topic")
	return errors.Join(
		features.Refused(create(ctx, d.Bootstrap, kafka.TopicConfig{Topic: bad, NumPartitions: 1, ReplicationFactor: 1}), "Invalid Topic", "creation"),
		features.Refused(produce(ctx, writer(d.Bootstrap, bad), kafka.Message{Value: []byte("v")}), "Unknown Topic", "produce to a bad name"),
		features.Refused(produce(ctx, writer(d.Bootstrap, d.Topic("missing")), kafka.Message{Value: []byte("v")}), "Unknown Topic", "produce to a missing topic"))
}

func (d driver) unknownVersion(ctx context.Context) error {
	t := d.Topic("old")
	if err := create(ctx, d.OldBootstrap, kafka.TopicConfig{Topic: t, NumPartitions: 1, ReplicationFactor: int(features.Replicas())}); err != nil {
		return err
	}
	return roundTrip(ctx, writer(d.OldBootstrap, t), d.OldBootstrap, "old", 20)
}
