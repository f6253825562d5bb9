// Command sarama tries every feature of the compat table with IBM/sarama.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

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
		{Name: "produce-none", Try: d.codec(sarama.CompressionNone)},
		{Name: "produce-gzip", Try: d.codec(sarama.CompressionGZIP)},
		{Name: "produce-snappy", Try: d.codec(sarama.CompressionSnappy)},
		{Name: "produce-lz4", Try: d.codec(sarama.CompressionLZ4)},
		{Name: "produce-zstd", Try: d.codec(sarama.CompressionZSTD)},
		{Name: "idempotent", Try: d.idempotent},
		{Name: "transactions", Try: d.transactions},
		{Name: "group-eager", Try: d.groupEager},
		d.groupCooperative(),
		{Name: "group-static", Try: d.groupStatic},
		{Name: "group-new-protocol", Lacks: "sarama speaks the classic group protocol only"},
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

// config is what every client of this program starts from.
func config() *sarama.Config {
	c := sarama.NewConfig()
	newest(c)
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll // with acks=1 a message is there for readers a moment after the answer
	c.Producer.Retry.Backoff = 50 * time.Millisecond
	c.Metadata.Retry.Backoff = 50 * time.Millisecond
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	return c
}

// admin opens an administrator and hands it to use.
func admin(address string, c *sarama.Config, use func(sarama.ClusterAdmin) error) error {
	a, err := sarama.NewClusterAdmin([]string{address}, c)
	if err != nil {
		return err
	}
	return errors.Join(use(a), a.Close())
}

// topic creates a topic and gives its full name.
func (d driver) topic(name string, partitions int32, entries map[string]*string) (string, error) {
	full := d.Topic(name)
	return full, admin(d.Bootstrap, config(), func(a sarama.ClusterAdmin) error {
		detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: features.Replicas(), ConfigEntries: entries}
		if err := a.CreateTopic(full, detail, false); err != nil {
			return err
		}
		return features.Known(context.Background(), full)
	})
}

// produce sends messages one batch after the other and waits for all answers.
func produce(address string, c *sarama.Config, all ...*sarama.ProducerMessage) error {
	p, err := sarama.NewSyncProducer([]string{address}, c)
	if err != nil {
		return err
	}
	err = p.SendMessages(all)
	var several sarama.ProducerErrors
	if errors.As(err, &several) {
		err = several[0].Err
	}
	return errors.Join(err, p.Close())
}

// read reads n messages of partition 0 from an offset on.
func read(ctx context.Context, address string, c *sarama.Config, topic string, from int64, n int) ([]*sarama.ConsumerMessage, error) {
	consumer, err := sarama.NewConsumer([]string{address}, c)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	part, err := consumer.ConsumePartition(topic, 0, from)
	if err != nil {
		return nil, err
	}
	defer part.Close()
	var got []*sarama.ConsumerMessage
	for len(got) < n {
		select {
		case m := <-part.Messages():
			got = append(got, m)
		case <-ctx.Done():
			return got, fmt.Errorf("read %d of %d messages", len(got), n)
		}
	}
	return got, nil
}

// wire makes sarama's messages.
func wire(topic string, all []features.Message) []*sarama.ProducerMessage {
	var out []*sarama.ProducerMessage
	for _, m := range all {
		out = append(out, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(m.Key), Value: sarama.StringEncoder(m.Value)})
	}
	return out
}

// roundTrip sends messages to partition 0 of a topic and compares what comes back.
func roundTrip(ctx context.Context, address string, c *sarama.Config, topic, name string, n int) error {
	sent := features.Messages(n, name)
	if err := produce(address, c, wire(topic, sent)...); err != nil {
		return err
	}
	got, err := read(ctx, address, c, topic, sarama.OffsetOldest, n)
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
	name, hour := d.Topic("create"), "3600000"
	return admin(d.Bootstrap, config(), func(a sarama.ClusterAdmin) error {
		detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: features.Replicas(), ConfigEntries: map[string]*string{"retention.ms": &hour}}
		if err := errors.Join(a.CreateTopic(name, detail, false), features.Known(ctx, name)); err != nil {
			return err
		}
		if err := features.Refused(a.CreateTopic(name, detail, false), "already exists", "second creation"); err != nil {
			return err
		}
		meta, err := a.DescribeTopics([]string{name})
		if err != nil {
			return err
		}
		if err := features.Equal(len(meta[0].Partitions), 3, "partitions"); err != nil {
			return err
		}
		entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{"retention.ms"}})
		if err != nil {
			return err
		}
		if len(entries) != 1 || entries[0].Value != hour {
			return fmt.Errorf("retention.ms: got %v, want %s", entries, hour)
		}
		if err := a.CreatePartitions(name, 5, nil, false); err != nil {
			return err
		}
		if err := errors.Join(a.DeleteTopic(name), features.Gone(ctx, name)); err != nil {
			return err
		}
		left, err := a.ListTopics()
		if _, there := left[name]; there {
			return fmt.Errorf("listed after its deletion")
		}
		return err
	})
}

func (d driver) codec(codec sarama.CompressionCodec) func(context.Context) error {
	return func(ctx context.Context) error {
		t, err := d.topic("codec-"+codec.String(), 1, nil)
		if err != nil {
			return err
		}
		c := config()
		c.Producer.Compression = codec
		if codec == sarama.CompressionZSTD && !c.Version.IsAtLeast(sarama.V2_1_0_0) {
			c.Version = sarama.V2_1_0_0
		}
		return roundTrip(ctx, d.Bootstrap, c, t, codec.String(), 100)
	}
}

func (d driver) idempotent(ctx context.Context) error {
	t, err := d.topic("idempotent", 1, nil)
	if err != nil {
		return err
	}
	c := config()
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Flush.MaxMessages = 7
	c.Net.MaxOpenRequests = 1
	return roundTrip(ctx, d.Bootstrap, c, t, "idempotent", 100)
}

func (d driver) commitResume(ctx context.Context) error {
	t, err := d.topic("resume", 1, nil)
	if err != nil {
		return err
	}
	if err := produce(d.Bootstrap, config(), wire(t, features.Messages(20, "resume"))...); err != nil {
		return err
	}
	first, err := d.firstOffset(ctx, t, func(s sarama.ConsumerGroupSession) {
		s.MarkOffset(t, 0, 10, "half-way")
		s.Commit()
	})
	if err := errors.Join(err, features.Equal(first, 0, "first offset of a new group")); err != nil {
		return err
	}
	err = admin(d.Bootstrap, config(), func(a sarama.ClusterAdmin) error {
		r, err := a.ListConsumerGroupOffsets(t, map[string][]int32{t: {0}})
		if err != nil {
			return err
		}
		b := r.GetBlock(t, 0)
		if b == nil || b.Offset != 10 || b.Metadata != "half-way" {
			return fmt.Errorf("committed: got %+v, want offset 10 and its metadata", b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	first, err = d.firstOffset(ctx, t, func(sarama.ConsumerGroupSession) {})
	return errors.Join(err, features.Equal(first, 10, "first offset after the return"))
}

// firstOffset joins the group named as the topic, gives the offset of the first message and leaves.
func (d driver) firstOffset(ctx context.Context, topic string, then func(sarama.ConsumerGroupSession)) (int64, error) {
	c := config()
	c.Consumer.Offsets.AutoCommit.Enable = false
	g, err := sarama.NewConsumerGroup([]string{d.Bootstrap}, topic, c)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan int64, 1)
	err = g.Consume(ctx, []string{topic}, claims(func(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
		m, ok := <-claim.Messages()
		if !ok {
			return errors.New("no message came")
		}
		first <- m.Offset
		then(s)
		cancel()
		return nil
	}))
	if err := errors.Join(err, g.Close()); err != nil {
		return 0, err
	}
	select {
	case offset := <-first:
		return offset, nil
	default:
		return 0, errors.New("the session ended without a message")
	}
}

func (d driver) seekByTime(ctx context.Context) error {
	t, err := d.topic("time", 1, nil)
	if err != nil {
		return err
	}
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	var all []*sarama.ProducerMessage
	for i := range 10 {
		all = append(all, &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder("t" + strconv.Itoa(i)), Timestamp: base.Add(time.Duration(i) * time.Second)})
	}
	if err := produce(d.Bootstrap, config(), all...); err != nil {
		return err
	}
	client, err := sarama.NewClient([]string{d.Bootstrap}, config())
	if err != nil {
		return err
	}
	defer client.Close()
	offset, err := client.GetOffset(t, 0, base.Add(4500*time.Millisecond).UnixMilli())
	if err := errors.Join(err, features.Equal(offset, 5, "offset by time")); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, config(), t, offset, 1)
	if err != nil {
		return err
	}
	return errors.Join(features.Equal(string(got[0].Value), "t5", "message"), features.Equal(got[0].Timestamp.UnixMilli(), base.Add(5*time.Second).UnixMilli(), "its time"))
}

func (d driver) headers(ctx context.Context) error {
	t, err := d.topic("headers", 1, nil)
	if err != nil {
		return err
	}
	sent := []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("text")}, {Key: []byte("a"), Value: []byte{0, 255, 128}}, {Key: []byte("empty"), Value: []byte{}}, {Key: []byte("null")}}
	if err := produce(d.Bootstrap, config(), &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder("v"), Headers: sent}); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, config(), t, sarama.OffsetOldest, 1)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(got[0].Headers, sent, func(g *sarama.RecordHeader, w sarama.RecordHeader) bool {
		return bytes.Equal(g.Key, w.Key) && bytes.Equal(g.Value, w.Value)
	})
	return features.Equal(same, true, "headers are the same")
}

func (d driver) tombstone(ctx context.Context) error {
	compact := "compact"
	t, err := d.topic("tombstone", 1, map[string]*string{"cleanup.policy": &compact})
	if err != nil {
		return err
	}
	k := sarama.StringEncoder("k")
	err = produce(d.Bootstrap, config(), &sarama.ProducerMessage{Topic: t, Key: k, Value: sarama.StringEncoder("v")},
		&sarama.ProducerMessage{Topic: t, Key: k}, &sarama.ProducerMessage{Topic: t, Key: k, Value: sarama.StringEncoder("")})
	if err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, config(), t, sarama.OffsetOldest, 3)
	if err != nil {
		return err
	}
	var values []string
	for _, m := range got {
		values = append(values, fmt.Sprintf("%q %v", m.Value, m.Value == nil))
	}
	err = features.EqualAll(values, []string{`"v" false`, `"" true`, `"" false`}, "values, and whether they are null")
	return errors.Join(err, features.Refused(produce(d.Bootstrap, config(), &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder("no key")}), "INVALID_RECORD|error 87|(?i)invalid.record|failed the validation", "a message without key in a compacted topic"))
}

func (d driver) largeMessage(ctx context.Context) error {
	t, err := d.topic("large", 1, nil)
	if err != nil {
		return err
	}
	c := config()
	c.Producer.MaxMessageBytes = 64 << 20
	sent := features.MiB(9)
	if err := produce(d.Bootstrap, c, &sarama.ProducerMessage{Topic: t, Value: sarama.ByteEncoder(sent)}); err != nil {
		return err
	}
	got, err := read(ctx, d.Bootstrap, c, t, sarama.OffsetOldest, 1)
	if err != nil {
		return err
	}
	err = produce(d.Bootstrap, c, &sarama.ProducerMessage{Topic: t, Value: sarama.ByteEncoder(features.MiB(11))})
	return errors.Join(features.Equal(bytes.Equal(got[0].Value, sent), true, "the large message is the same"), features.Refused(err, "larger than|too large", "11 MiB"))
}

func (d driver) wrongTopic(context.Context) error {
	bad := d.Topic(" no/topic")
	err := admin(d.Bootstrap, config(), func(a sarama.ClusterAdmin) error {
		return features.Refused(a.CreateTopic(bad, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false), "topic.*not valid|(?i)invalid topic|illegal", "creation")
	})
	value := sarama.StringEncoder("v")
	return errors.Join(err,
		features.Refused(produce(d.Bootstrap, config(), &sarama.ProducerMessage{Topic: bad, Value: value}), "(?i)invalid topic|not valid", "produce to a bad name"),
		features.Refused(produce(d.Bootstrap, config(), &sarama.ProducerMessage{Topic: d.Topic("missing"), Value: value}), "does not exist", "produce to a missing topic"))
}

func (d driver) unknownVersion(ctx context.Context) error {
	c := config()
	capped(c)
	t := d.Topic("old")
	err := admin(d.OldBootstrap, c, func(a sarama.ClusterAdmin) error {
		err := a.CreateTopic(t, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: features.Replicas()}, false)
		return errors.Join(err, features.Known(ctx, t))
	})
	if err != nil {
		return err
	}
	return roundTrip(ctx, d.OldBootstrap, c, t, "old", 20)
}
