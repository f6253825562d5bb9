package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// largest is the largest message that a topic takes by default.
// Source: product specification, "Compatibility".
const largest = 10_485_760

func franz(t *testing.T, n *nodetest.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Kafka)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFranzGo(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	adm := kadm.NewClient(franz(t, n))
	if _, err := adm.CreateTopic(ctx, 4, 1, nil, "franz"); err != nil {
		t.Fatal(err)
	}
	total := franzProduce(ctx, t, n)
	committed := franzGroup(ctx, t, n, total/2)
	n.Kill()
	n.Restart()
	adm = kadm.NewClient(franz(t, n)) // the old one's connections have died, and it does not ask everything again
	franzResume(ctx, t, n, adm, committed, total)
	franzSeek(ctx, t, n, adm)
	franzLarge(ctx, t, n)
}

func franzProduce(ctx context.Context, t *testing.T, n *nodetest.Node) int {
	t.Helper()
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	const each = 200
	for i, codec := range codecs {
		c := franz(t, n, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic("franz"))
		for j := range each {
			r := &kgo.Record{Key: fmt.Appendf(nil, "%d-%d", i, j), Value: bytes.Repeat([]byte{byte('a' + i)}, 300), Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte{byte(i)}}}}
			c.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("codec %d: %v", i, err)
				}
			})
		}
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return each * len(codecs)
}

// franzGroup lets two members share the topic until half of it is committed.
func franzGroup(ctx context.Context, t *testing.T, n *nodetest.Node, half int) int {
	t.Helper()
	assigned := make(chan int, 16)
	member := func() *kgo.Client {
		return franz(t, n, kgo.ConsumerGroup("franz-group"), kgo.ConsumeTopics("franz"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
				if len(m["franz"]) > 0 {
					assigned <- len(m["franz"])
				}
			}))
	}
	one := member()
	one.PollRecords(ctx, 1) // Why: a group client joins when it is polled
	if got := <-assigned; got != 4 {
		t.Errorf("alone, a member has %d of 4 partitions", got)
	}
	two := member()
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		for ctx.Err() == nil && len(assigned) == 0 {
			one.AllowRebalance()
			pollCtx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			two.PollRecords(pollCtx, 1)
			cancel()
		}
	}()
	<-polled
	if got := <-assigned; got != 2 {
		t.Errorf("the second member was given %d of 4 partitions, want 2", got)
	}
	done := 0
	for done < half && ctx.Err() == nil {
		for _, c := range []*kgo.Client{one, two} {
			pollCtx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			rs := c.PollRecords(pollCtx, min(50, half-done)).Records()
			cancel()
			if len(rs) == 0 || done >= half {
				continue
			}
			if err := c.CommitRecords(ctx, rs...); err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if len(r.Headers) != 1 || r.Headers[0].Value[0] != r.Value[0]-'a' {
					t.Errorf("message %d of partition %d has headers %v", r.Offset, r.Partition, r.Headers)
				}
			}
			done += len(rs)
		}
	}
	one.Close()
	two.Close()
	return done
}

// franzResume reads on after kill -9: nothing that was produced is missing.
func franzResume(ctx context.Context, t *testing.T, n *nodetest.Node, adm *kadm.Client, committed, total int) {
	t.Helper()
	lag, err := adm.Lag(ctx, "franz-group")
	if err != nil {
		t.Fatal(err)
	}
	l := lag["franz-group"]
	if err := l.Error(); err != nil {
		t.Fatal(err)
	}
	if got := l.Lag.Total(); got > int64(total-1) || got < int64(total-committed-100) {
		t.Errorf("lag after kill -9 is %d, %d of %d were read and committed", got, committed, total)
	}
	c := franz(t, n, kgo.ConsumerGroup("franz-group"), kgo.ConsumeTopics("franz"))
	for left := l.Lag.Total(); left > 0; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d messages left: %v", left, err)
		}
		left -= int64(fetches.NumRecords())
	}
}

func franzSeek(ctx context.Context, t *testing.T, n *nodetest.Node, adm *kadm.Client) {
	t.Helper()
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "franz-seek"); err != nil {
		t.Fatal(err)
	}
	c := franz(t, n, kgo.DefaultProduceTopic("franz-seek"))
	base := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 10 {
		if err := c.ProduceSync(ctx, &kgo.Record{Value: []byte{byte(i)}, Timestamp: base.Add(time.Duration(i) * time.Minute)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	os, err := adm.ListOffsetsAfterMilli(ctx, base.Add(7*time.Minute-time.Second).UnixMilli(), "franz-seek")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := os.Lookup("franz-seek", 0); o.Offset != 7 {
		t.Errorf("the first message after 6:59 min has offset %d, want 7", o.Offset)
	}
}

func franzLarge(ctx context.Context, t *testing.T, n *nodetest.Node) {
	t.Helper()
	c := franz(t, n, kgo.DefaultProduceTopic("franz"), kgo.ProducerBatchMaxBytes(2*largest), kgo.BrokerMaxWriteBytes(4*largest), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedBytes(8*largest))
	if err := c.ProduceSync(ctx, &kgo.Record{Value: make([]byte, largest)}).FirstErr(); err != nil {
		t.Errorf("a message of exactly %d bytes was refused: %v", largest, err)
	}
	err := c.ProduceSync(ctx, &kgo.Record{Value: make([]byte, largest+1)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("a message of %d bytes: got %v, want MESSAGE_TOO_LARGE", largest+1, err)
	}
}
