package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/record"
)

// try produces one batch and gives the partition's answer.
func try(c *rawClient, topic string, batch []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return c.ask(produceRequest(9, topic, batch)).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
}

// makeTopic creates a topic of one partition with settings.
func makeTopic(c *rawClient, name string, settings map[string]string) {
	c.t.Helper()
	makeTopicOf(c, name, 1, settings)
}

func makeTopicOf(c *rawClient, name string, partitions int32, settings map[string]string) {
	c.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 5
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for k, v := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, &v
		topic.Configs = append(topic.Configs, c)
	}
	req.Topics = append(req.Topics, topic)
	if resp := c.ask(req).(*kmsg.CreateTopicsResponse); resp.Topics[0].ErrorCode != 0 {
		c.t.Fatalf("cannot create %s: %v", name, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	}
}

// batch builds a batch after a pattern; each value becomes a record with the key.
func batch(t *testing.T, codec record.Codec, change func(*record.Builder), key []byte, values ...string) []byte {
	t.Helper()
	b := record.NewBuilder(codec)
	if change != nil {
		change(b)
	}
	for _, v := range values {
		b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Key: key, Value: []byte(v)})
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sequence makes a batch of an idempotent producer.
func sequence(id int64, epoch int16, first int32) func(*record.Builder) {
	return func(b *record.Builder) {
		b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = id, epoch, first
	}
}

func TestProduceRefusals(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "plain", nil)
	makeTopic(c, "small", map[string]string{"max.message.bytes": "500"})
	makeTopic(c, "compacted", map[string]string{"cleanup.policy": "compact"})
	makeTopic(c, "past", map[string]string{"message.timestamp.before.max.ms": "60000"})
	at := func(d time.Duration) []byte { return batchOf("x", time.Now().Add(d).UnixMilli()) }
	broken := batch(t, record.None, nil, nil, "x")
	broken[len(broken)-1]++
	two := append(batch(t, record.None, nil, nil, "x"), batch(t, record.None, nil, nil, "y")...)
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, topic string
		records     []byte
		want        *kerr.Error
		text        string // part of the message
	}{
		{"good", "plain", batch(t, record.Gzip, nil, nil, "x"), nil, ""},
		{"no records", "plain", nil, kerr.InvalidRecord, "no records"},
		{"corrupt", "plain", broken, kerr.CorruptMessage, "CRC"},
		{"garbage", "plain", []byte(long), kerr.CorruptMessage, ""},
		{"cut short", "plain", broken[:30], kerr.CorruptMessage, ""},
		{"two batches", "plain", two, kerr.InvalidRecord, "2 batches"},
		{"control", "plain", batch(t, record.None, func(b *record.Builder) { b.Header.Attributes = record.ControlBit }, nil, "x"), kerr.InvalidRecord, ""},
		{"transactional", "plain", batch(t, record.None, func(b *record.Builder) {
			sequence(1, 0, 0)(b)
			b.Header.Attributes = record.TransactionalBit
		}, nil, "x"), kerr.TransactionalIDAuthorizationFailed, "no transactional ID"},
		{"an hour ahead", "plain", at(61 * time.Minute), kerr.InvalidTimestamp, ""},
		{"almost an hour ahead", "plain", at(59 * time.Minute), nil, ""},
		{"long ago", "plain", at(-100_000 * time.Hour), nil, ""},
		{"too long ago", "past", at(-2 * time.Minute), kerr.InvalidTimestamp, ""},
		{"large batch", "small", batch(t, record.None, nil, nil, long, long), kerr.MessageTooLarge, "limit max.message.bytes is 500"},
		{"large message", "small", batch(t, record.None, nil, nil, long+long), kerr.MessageTooLarge, "600 bytes (key, value and headers), the limit max.message.bytes is 500"},
		{"message of the limit", "small", batch(t, record.None, nil, []byte("k"), strings.Repeat("x", 499)), nil, ""},
		{"large compressed", "small", batch(t, record.Gzip, nil, nil, long, long), nil, ""},
		{"without key", "compacted", batch(t, record.None, nil, nil, "x", "y"), kerr.InvalidRecord, "key"},
		{"with key", "compacted", batch(t, record.None, nil, []byte("k"), "x"), nil, ""},
		{"internal", "__consumer_offsets", batch(t, record.None, nil, nil, "x"), kerr.InvalidTopicException, "broker's own"},
		{"unknown", "nowhere", batch(t, record.None, nil, nil, "x"), kerr.UnknownTopicOrPartition, "no topic \"nowhere\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := try(c, tt.topic, tt.records)
			code(t, p.ErrorCode, tt.want)
			message := ""
			if p.ErrorMessage != nil {
				message = *p.ErrorMessage
			}
			if !strings.Contains(message, tt.text) || (tt.want != nil) != (message != "") {
				t.Errorf("message %q, want one with %q", message, tt.text)
			}
		})
	}
}

// What concerns one record, the version of the request, or the whole request.
func TestProduceRefusalsByRequest(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "plain", nil)
	makeTopic(c, "compacted", map[string]string{"cleanup.policy": "compact"})
	p := try(c, "compacted", func() []byte {
		b := record.NewBuilder(record.None)
		b.Add(record.Record{Key: []byte("k")})
		b.Add(record.Record{Value: []byte("no key")})
		b.Add(record.Record{Key: []byte("k")})
		b.Add(record.Record{Value: []byte("no key again")})
		out, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}())
	if len(p.ErrorRecords) != 2 || p.ErrorRecords[0].RelativeOffset != 1 || p.ErrorRecords[1].RelativeOffset != 3 || p.ErrorRecords[1].ErrorMessage == nil {
		t.Errorf("failed records %+v, want the second and the fourth", p.ErrorRecords)
	}
	old := produceRequest(6, "plain", batch(t, record.Zstd, nil, nil, "x"))
	code(t, c.ask(old).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, kerr.UnsupportedCompressionType)
	acks := produceRequest(9, "plain", batch(t, record.None, nil, nil, "x"))
	acks.Acks = 2
	code(t, c.ask(acks).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, kerr.InvalidRequiredAcks)
	tx := produceRequest(9, "plain", batch(t, record.None, nil, nil, "x"))
	tx.TransactionID = kmsg.StringPtr("tx")
	code(t, c.ask(tx).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, nil)
}

func TestIdempotence(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "once", nil)
	tests := []struct {
		name   string
		epoch  int16
		first  int32
		want   *kerr.Error
		offset int64
	}{
		{"first", 0, 0, nil, 0},
		{"second", 0, 2, nil, 2},
		{"first again", 0, 0, nil, 0},
		{"second again", 0, 2, nil, 2},
		{"gap", 0, 8, kerr.OutOfOrderSequenceNumber, -1},
		{"new epoch not at 0", 1, 4, kerr.OutOfOrderSequenceNumber, -1},
		{"new epoch", 1, 0, nil, 4},
		{"old epoch", 0, 4, kerr.InvalidProducerEpoch, -1},
	}
	for _, tt := range tests {
		p := try(c, "once", batch(t, record.None, sequence(4000, tt.epoch, tt.first), nil, "a", "b"))
		if got := p.ErrorCode; tt.want == nil && got != 0 || tt.want != nil && got != tt.want.Code {
			t.Errorf("%s: code %v, want %v", tt.name, kerr.ErrorForCode(got), tt.want)
		}
		if p.BaseOffset != tt.offset {
			t.Errorf("%s: offset %d, want %d", tt.name, p.BaseOffset, tt.offset)
		}
	}
	node.Restart(node.ForgetCleanShutdown, nil)
	c = dialRaw(t, node.Addr())
	if p := try(c, "once", batch(t, record.None, sequence(4000, 1, 0), nil, "a", "b")); p.ErrorCode != 0 || p.BaseOffset != 4 {
		t.Errorf("a duplicate after a crash: %+v, want offset 4", p)
	}
}

func TestAppendTimeAndCodec(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "stamped", map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "lz4"})
	before := time.Now().UnixMilli()
	p := try(c, "stamped", batchOf("x", 5))
	code(t, p.ErrorCode, nil)
	if p.LogAppendTime < before || p.LogAppendTime > time.Now().UnixMilli() {
		t.Errorf("append time %d, want now (%d)", p.LogAppendTime, before)
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes = 4, 1<<20
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = "stamped"
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 1 << 20
	topic.Partitions = append(topic.Partitions, fp)
	req.Topics = append(req.Topics, topic)
	b := c.ask(req).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
	h, err := record.Verify(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.Codec() != record.LZ4 || !h.LogAppendTime() || h.MaxTimestamp != p.LogAppendTime {
		t.Errorf("stored header %+v, want lz4 and append time %d", h, p.LogAppendTime)
	}
	if got := valuesOf(t, b); len(got) != 1 || got[0] != "x" {
		t.Errorf("values %q", got)
	}
}

func TestNoAcks(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "silent", nil)
	for range 3 {
		req := produceRequest(9, "silent", batchOf("x", 1000))
		req.Acks = 0
		c.send(req)
	}
	brokertest.Eventually(t, "all three are in the log", func() bool {
		return c.ask(listOffsetsOf("silent", -1)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset == 3
	})
	req := produceRequest(9, "nowhere", batchOf("x", 1000))
	req.Acks = 0
	c.send(req)
	c.closed()
}

func listOffsetsOf(topic string, timestamp int64) *kmsg.ListOffsetsRequest {
	req := listOffsets(4, timestamp)
	req.Topics[0].Topic = topic
	return req
}

// TestPipelining sends without waiting: answers come in order, offsets too.
func TestPipelining(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "line", nil)
	const n = 30
	for range n {
		c.send(produceRequest(9, "line", batchOf("x", 1000)))
	}
	for i := range int64(n) {
		correlation, body, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		resp := c.decode(produceRequest(9, "line", nil), body).(*kmsg.ProduceResponse)
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != i {
			t.Fatalf("answer %d (request %d) is %+v", i, correlation, p)
		}
	}
}

func TestBrake(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "braked", nil)
	node.RefuseProduce("storage is 96 % full, the threshold is 95 %: free some space")
	p := try(c, "braked", batchOf("x", 1000))
	code(t, p.ErrorCode, kerr.KafkaStorageError)
	if p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, "threshold is 95 %") {
		t.Errorf("message %v, want the threshold", p.ErrorMessage)
	}
	code(t, c.ask(listOffsetsOf("braked", -1)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode, nil)
	var rejected uint64
	for _, r := range node.Stats().Read().Topics {
		if r.Name == "braked" {
			rejected = r.RejectedBytes
		}
	}
	if rejected == 0 {
		t.Error("refused bytes are not counted")
	}
	if n := node.RefusedProduce(); n != 1 {
		t.Errorf("%d refused requests are counted, want 1", n)
	}
	node.RefuseProduce("")
	code(t, try(c, "braked", batchOf("x", 1000)).ErrorCode, nil)
}
