package api_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// dial gives an ordinary client.
func dial(t *testing.T, node *brokertest.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(node.Addr()), kgo.RetryTimeout(patience)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func create(t *testing.T, cl *kgo.Client, topic string, partitions int32, configs map[string]*string) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(within(t), partitions, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, cl *kgo.Client, rs ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(within(t), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// drain reads until it has n records.
func drain(t *testing.T, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := within(t)
	var got []*kgo.Record
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came in time", len(got), n)
		}
		fs.EachError(func(topic string, p int32, err error) { t.Errorf("fetch of %s-%d: %v", topic, p, err) })
		got = append(got, fs.Records()...)
	}
	return got
}

// TestEveryCodec sends and reads with every codec, with clients of several releases.
func TestEveryCodec(t *testing.T) {
	node := brokertest.Start(t)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	releases := map[string]*kversion.Versions{
		"newest": kversion.Stable(), "2.7": kversion.V2_7_0(), "2.3": kversion.V2_3_0(), "1.1": kversion.V1_1_0(), "0.11": kversion.V0_11_0(),
	}
	for release, versions := range releases {
		for name, codec := range codecs {
			t.Run(release+"/"+name, func(t *testing.T) {
				if name == "zstd" && release != "newest" && release != "2.7" && release != "2.3" {
					return // zstd came with 2.1
				}
				topic := "codec-" + release + "-" + name
				cl := dial(t, node, kgo.MaxVersions(versions), kgo.ProducerBatchCompression(codec), kgo.ConsumeTopics(topic),
					kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
				create(t, dial(t, node), topic, 1, nil)
				var sent []*kgo.Record
				for i := range 50 {
					sent = append(sent, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d %0100d", i, i),
						Headers: []kgo.RecordHeader{{Key: "number", Value: fmt.Append(nil, i)}, {Key: "null"}}})
				}
				send(t, cl, sent...)
				for i, r := range drain(t, cl, len(sent)) {
					if r.Offset != int64(i) || string(r.Key) != string(sent[i].Key) || string(r.Value) != string(sent[i].Value) {
						t.Fatalf("record %d is %d %q %q", i, r.Offset, r.Key, r.Value)
					}
					if len(r.Headers) != 2 || string(r.Headers[0].Value) != fmt.Sprint(i) || r.Headers[1].Value != nil {
						t.Fatalf("record %d has headers %v", i, r.Headers)
					}
				}
			})
		}
	}
}

// TestGroupOfTwo has two members share a topic, one leave, the other take over and
// go on where the group was.
func TestGroupOfTwo(t *testing.T) {
	node := brokertest.Start(t)
	create(t, dial(t, node), "work", 4, nil)
	producer := dial(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var mu sync.Mutex
	assigned := map[string]map[int32]bool{"a": {}, "b": {}}
	member := func(name string) *kgo.Client {
		return dial(t, node, kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("work"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.DisableAutoCommit(), kgo.HeartbeatInterval(50*time.Millisecond), kgo.SessionTimeout(10*time.Second),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
				mu.Lock()
				defer mu.Unlock()
				for _, p := range m["work"] {
					assigned[name][p] = true
				}
			}),
			kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
				mu.Lock()
				defer mu.Unlock()
				for _, p := range m["work"] {
					delete(assigned[name], p)
				}
			}))
	}
	shares := func(a, b int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(assigned["a"]) == a && len(assigned["b"]) == b
		}
	}
	a := member("a")
	brokertest.Eventually(t, "a has all four partitions", shares(4, 0))
	b := member("b")
	brokertest.Eventually(t, "both have two partitions", shares(2, 2))

	for i := range 40 {
		send(t, producer, &kgo.Record{Topic: "work", Partition: int32(i % 4), Value: fmt.Append(nil, i)})
	}
	seen := map[string]int{}
	for _, cl := range []*kgo.Client{a, b} {
		for _, r := range drain(t, cl, 20) {
			seen[string(r.Value)]++
		}
		if err := cl.CommitUncommittedOffsets(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 40 {
		t.Fatalf("%d different records were read, want 40", len(seen))
	}
	a.LeaveGroup()
	mu.Lock()
	assigned["a"] = map[int32]bool{}
	mu.Unlock()
	brokertest.Eventually(t, "b has all four partitions", shares(0, 4))
	for i := range 8 {
		send(t, producer, &kgo.Record{Topic: "work", Partition: int32(i % 4), Value: fmt.Append(nil, 40+i)})
	}
	for _, r := range drain(t, b, 8) {
		seen[string(r.Value)]++
	}
	if len(seen) != 48 {
		t.Errorf("%d different records were read, want 48: nothing twice, nothing lost", len(seen))
	}
}

// TestRestart keeps topics, settings, records, offsets and producers over a stop, and
// over an end without a clean shutdown.
func TestRestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			node := brokertest.Start(t)
			retention := "7200000"
			cl := dial(t, node)
			create(t, cl, "kept", 2, map[string]*string{"retention.ms": &retention})
			for i := range 20 {
				send(t, cl, &kgo.Record{Topic: "kept", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
			}
			adm := kadm.NewClient(cl)
			offsets := kadm.Offsets{}
			offsets.Add(kadm.Offset{Topic: "kept", Partition: 1, At: 5, LeaderEpoch: -1, Metadata: "here"})
			if err := adm.CommitAllOffsets(within(t), "g", offsets); err != nil {
				t.Fatal(err)
			}
			cluster := node.ClusterID()
			node.Restart(func() {
				if !clean {
					node.ForgetCleanShutdown()
				}
			}, nil)
			if node.ClusterID() != cluster {
				t.Errorf("cluster is %s after the restart, was %s", node.ClusterID(), cluster)
			}
			for i := range 20 {
				send(t, cl, &kgo.Record{Topic: "kept", Key: fmt.Append(nil, i), Value: fmt.Append(nil, 20+i)})
			}
			got := drain(t, dial(t, node, kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 40)
			var values []string
			for _, r := range got {
				values = append(values, string(r.Value))
			}
			slices.Sort(values)
			if values = slices.Compact(values); len(values) != 40 || len(got) != 40 {
				t.Errorf("%d records, %d different, want 40", len(got), len(values))
			}
			fetched, err := adm.FetchOffsets(within(t), "g")
			if err != nil {
				t.Fatal(err)
			}
			if o, ok := fetched.Lookup("kept", 1); !ok || o.At != 5 || o.Metadata != "here" {
				t.Errorf("committed offset is %+v, want 5", o)
			}
			configs, err := adm.DescribeTopicConfigs(within(t), "kept")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" && *c.Value == retention }) {
				t.Error("retention.ms is lost")
			}
		})
	}
}

// TestSeek finds offsets by time, and deletes records.
func TestSeek(t *testing.T) {
	node := brokertest.Start(t)
	cl := dial(t, node)
	create(t, cl, "times", 1, nil)
	start := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 10 {
		send(t, cl, &kgo.Record{Topic: "times", Value: fmt.Append(nil, i), Timestamp: start.Add(time.Duration(i) * time.Minute)})
	}
	adm := kadm.NewClient(cl)
	listed, err := adm.ListOffsetsAfterMilli(within(t), start.Add(4*time.Minute+time.Second).UnixMilli(), "times")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := listed.Lookup("times", 0); o.Offset != 5 || o.Timestamp != start.Add(5*time.Minute).UnixMilli() {
		t.Errorf("offset after 4 min 1 s is %+v, want 5", o)
	}
	if listed, err = adm.ListMaxTimestampOffsets(within(t), "times"); err != nil {
		t.Fatal(err)
	}
	if o, _ := listed.Lookup("times", 0); o.Offset != 9 {
		t.Errorf("offset of the largest time is %+v, want 9", o)
	}
	late := drain(t, dial(t, node, kgo.ConsumeTopics("times"), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(start.Add(7*time.Minute).UnixMilli()))), 3)
	if string(late[0].Value) != "7" {
		t.Errorf("reading after 7 min begins with %q", late[0].Value)
	}
}

// TestLargestMessage accepts a message of exactly 10 485 760 bytes and refuses one
// byte more, in words.
func TestLargestMessage(t *testing.T) {
	const largest = 10_485_760
	node := brokertest.Start(t)
	cl := dial(t, node, kgo.ProducerBatchMaxBytes(largest+4096), kgo.BrokerMaxWriteBytes(64<<20), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ConsumeTopics("large"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	create(t, cl, "large", 1, nil)
	value := make([]byte, largest)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	send(t, cl, &kgo.Record{Topic: "large", Value: value})
	got := drain(t, cl, 1)
	if string(got[0].Value) != string(value) {
		t.Error("the largest message comes back changed")
	}
	err := cl.ProduceSync(within(t), &kgo.Record{Topic: "large", Value: append(value, 'x')}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("one byte more gives %v, want MESSAGE_TOO_LARGE", err)
	}
}

// TestAutoCreation makes topics on first use only where both sides allow it.
func TestAutoCreation(t *testing.T) {
	node := brokertest.Start(t)
	off := dial(t, node, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	if err := off.ProduceSync(within(t), &kgo.Record{Topic: "auto", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("unknown topic gives %v while auto-creation is off", err)
	}
	on := "true"
	if _, err := kadm.NewClient(off).AlterBrokerConfigs(within(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "auto.create.topics.enable", Value: &on}}); err != nil {
		t.Fatal(err)
	}
	not := dial(t, node, kgo.UnknownTopicRetries(0))
	if err := not.ProduceSync(within(t), &kgo.Record{Topic: "auto", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("unknown topic gives %v although the client does not want it made", err)
	}
	send(t, dial(t, node, kgo.AllowAutoTopicCreation()), &kgo.Record{Topic: "auto", Value: []byte("x")})
	topics, err := kadm.NewClient(dial(t, node)).ListTopics(within(t), "auto")
	if err != nil {
		t.Fatal(err)
	}
	if d := topics["auto"]; len(d.Partitions) != 3 {
		t.Errorf("made with %d partitions, want 3 as num.partitions says", len(d.Partitions))
	}
}

// Settings of all brokers hold at once: for what is produced and for who connects.
func TestSettingsHoldAtOnce(t *testing.T) {
	node := brokertest.Start(t)
	cl := dial(t, node)
	create(t, cl, "t", 1, nil)
	adm := kadm.NewClient(cl)
	set := func(name, value string) {
		t.Helper()
		rs, err := adm.AlterBrokerConfigs(within(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}})
		if err == nil {
			err = rs[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	send(t, cl, &kgo.Record{Topic: "t", Value: make([]byte, 5000)})
	set("message.max.bytes", "1000")
	value := make([]byte, 5000)
	for i := range value {
		value[i] = byte(rand.Uint32()) // nothing that could be compressed
	}
	if err := cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: value}).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("a message beyond the new limit gives %v, want MESSAGE_TOO_LARGE", err)
	}
	set("max.connections.per.ip", "100")
	refused := false
	for range 110 {
		c := dialRaw(t, node.Addr())
		c.send(kmsg.NewPtrApiVersionsRequest())
		if _, _, err := c.frame(); err != nil {
			refused = true
		}
	}
	if !refused {
		t.Error("more than 100 connections from one address are served")
	}
}
