package guard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/agent/guard"
	"github.com/belfry-mq/belfry/agent/volume"
	"github.com/belfry-mq/belfry/broker/brokertest"
)

// The guard on a real broker, with a logical volume size.

const (
	topicName = "orders"
	capacity  = 48 << 20 // the metadata log takes some 10 MB of it
	patience  = 20 * time.Second
)

// rig is a broker, its guard and a client.
type rig struct {
	broker *brokertest.Broker
	guard  *guard.Guard
	client *kgo.Client
	admin  *kadm.Client
}

func newRig(t *testing.T, policy guard.Policy) *rig {
	t.Helper()
	r := &rig{broker: brokertest.Start(t)}
	dirs := []string{r.broker.DataDir()}
	var err error
	r.guard, err = guard.New(guard.Options{
		Settings: guard.Settings{Policy: policy, Interval: 50 * time.Millisecond}, Broker: "0",
		Usage: func() (int64, int64, float64, error) { return volume.Usage(dirs, capacity) },
		Held: func() (sum int64) {
			for _, d := range r.broker.Dirs() {
				sum += d.Size
			}
			return sum
		},
		Brake: r.broker, Cleaner: r.broker, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.guard.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.client, err = kgo.NewClient(kgo.SeedBrokers(r.broker.Addr()), kgo.DefaultProduceTopic(topicName), kgo.RecordRetries(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	r.admin = kadm.NewClient(r.client)
	segment, now := "1048576", "0"
	if _, err := r.admin.CreateTopic(t.Context(), 3, 1, map[string]*string{"segment.bytes": &segment, "file.delete.delay.ms": &now}, topicName); err != nil {
		t.Fatal(err)
	}
	return r
}

// send produces about a megabyte and gives the first refusal.
func (r *rig) send(t *testing.T) error {
	t.Helper()
	value := make([]byte, 64<<10)
	var records []*kgo.Record
	for i := range 16 {
		records = append(records, &kgo.Record{Key: fmt.Append(nil, i), Value: value})
	}
	return r.client.ProduceSync(t.Context(), records...).FirstErr()
}

// starts sums the first offsets of the topic, ends its last ones.
func (r *rig) offsets(t *testing.T) (starts, ends int64) {
	t.Helper()
	for _, side := range []struct {
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
		sum  *int64
	}{{r.admin.ListStartOffsets, &starts}, {r.admin.ListEndOffsets, &ends}} {
		listed, err := side.list(t.Context(), topicName)
		if err != nil {
			t.Fatal(err)
		}
		listed.Each(func(o kadm.ListedOffset) { *side.sum += o.Offset })
	}
	return starts, ends
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("%s: not within %v", what, patience)
		case <-tick.C:
		}
	}
}

func TestDeleteOnARealBroker(t *testing.T) {
	r := newRig(t, guard.Delete)
	sent := 0
	for r.guard.Status().Deletions < 3 && sent < 10*capacity {
		if err := r.send(t); err != nil {
			t.Fatalf("produce under delete: %v", err)
		}
		sent += 1 << 20
	}
	s := r.guard.Status()
	if s.Deletions < 3 || s.DeletedBytes < 3<<20 {
		t.Fatalf("%d deletions, %d bytes after %d bytes were sent", s.Deletions, s.DeletedBytes, sent)
	}
	eventually(t, "usage below the threshold", func() bool { return r.guard.Status().Percent < 95 && !r.guard.Status().Deleting })
	starts, ends := r.offsets(t)
	if starts == 0 || starts >= ends {
		t.Errorf("log starts sum up to %d, ends to %d", starts, ends)
	}
	// What was not deleted is read to the end, and what was is out of range.
	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addr()), kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	starts, ends = r.offsets(t)
	for read := int64(0); read < ends-starts; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d read: %v", read, ends-starts, err)
		}
		read += int64(fetches.NumRecords())
	}
	if err := r.fetchAt(t, 0); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Errorf("fetch of a deleted offset: %v", err)
	}
}

// fetchAt asks for one offset of a partition whose first messages were deleted.
func (r *rig) fetchAt(t *testing.T, offset int64) error {
	t.Helper()
	described, err := r.admin.Metadata(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := r.admin.ListStartOffsets(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.Version = 1<<20, 12
	part := kmsg.NewFetchRequestTopic()
	part.Topic, part.TopicID = topicName, described.Topics[topicName].ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes, p.FetchOffset = 1<<20, offset
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			p.Partition = o.Partition
		}
	})
	part.Partitions = append(part.Partitions, p)
	req.Topics = append(req.Topics, part)
	resp, err := r.client.Broker(0).RetriableRequest(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode)
}

func TestRejectOnARealBroker(t *testing.T) {
	r := newRig(t, guard.Reject)
	var refusal error
	for sent := 0; refusal == nil && sent < 10*capacity; sent += 1 << 20 {
		refusal = r.send(t)
	}
	if !errors.Is(refusal, kerr.KafkaStorageError) {
		t.Fatalf("refusal %v, want KAFKA_STORAGE_ERROR", refusal)
	}
	if text := r.refusalText(t); !strings.Contains(text, "95 %") {
		t.Errorf("the refusal says %q, which names no threshold", text)
	}
	if s := r.guard.Status(); !s.Refusing || s.Deletions > 0 {
		t.Errorf("refused at %g %%, refusing %v, %d deletions", s.Percent, s.Refusing, s.Deletions)
	}
	// Reading, management and offset commits go on.
	starts, ends := r.offsets(t)
	if starts != 0 || ends == 0 {
		t.Errorf("log starts sum up to %d, ends to %d", starts, ends)
	}
	commit := kadm.Offsets{}
	commit.AddOffset(topicName, 0, 1, -1)
	if err := r.admin.CommitAllOffsets(t.Context(), "billing", commit); err != nil {
		t.Errorf("offset commit while produce is refused: %v", err)
	}
	// Room comes back by deleting records; produce works again by itself.
	until := kadm.Offsets{}
	listed, err := r.admin.ListEndOffsets(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	listed.Each(func(o kadm.ListedOffset) { until.AddOffset(o.Topic, o.Partition, o.Offset*9/10, -1) })
	deleted, err := r.admin.DeleteRecords(t.Context(), until)
	if err != nil || deleted.Error() != nil {
		t.Fatalf("delete records: %v, %v", err, deleted.Error())
	}
	eventually(t, "produce accepted again", func() bool { return r.send(t) == nil })
}

// refusalText produces once by hand and gives the text beside the error code.
func (r *rig) refusalText(t *testing.T) string {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 5000
	described, err := r.admin.ListTopics(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	part := kmsg.NewProduceRequestTopic()
	part.Topic, part.TopicID = topicName, described[topicName].ID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = []byte("not looked at: the brake comes first")
	part.Partitions = append(part.Partitions, p)
	req.Topics = append(req.Topics, part)
	resp, err := r.client.Broker(0).RetriableRequest(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	answer := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if answer.ErrorCode != kerr.KafkaStorageError.Code || answer.ErrorMessage == nil {
		t.Fatalf("answer %+v", answer)
	}
	return *answer.ErrorMessage
}
