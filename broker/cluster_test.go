package broker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// quick makes time pass faster than in a real cluster.
var quick = map[string]string{
	"broker.heartbeat.interval.ms": "100", "broker.session.timeout.ms": "3000",
	"leader.imbalance.check.interval.seconds": "1", "leader.imbalance.per.broker.percentage": "0",
	"replica.lag.time.max.ms": "3000",
}

func admin(t *testing.T, addrs ...string) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

// seedOf asks one broker and no other.
func seedOf(t *testing.T, b *brokertest.Broker, opts ...kgo.Opt) *kgo.Broker {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.SeedBrokers()[0]
}

// makeTopic makes a topic. That it is there is no error: a controller that loses its office
// before it can answer is asked again.
func makeTopic(t *testing.T, a *kadm.Client, partitions int32, replicas int16, settings map[string]*string, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := a.CreateTopic(ctx, partitions, replicas, settings, name); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Fatal(err)
	}
}

// leaders gives the leader of each partition, as one broker says.
func leaders(t *testing.T, a *kadm.Client, topic string) map[int32]kadm.PartitionDetail {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ts, err := a.ListTopics(ctx, topic)
	if err != nil {
		return nil // asked again
	}
	return ts[topic].Partitions
}

// TestClusterOfAnOldVersion: what an instance of an older release hides from clients is not hidden from its own nodes,
// nor from the agent; they are told apart from clients by what they say of themselves.
func TestClusterOfAnOldVersion(t *testing.T) {
	for _, version := range []string{"1.1.0", "2.3.0", "2.7"} {
		t.Run(version, func(t *testing.T) {
			c := brokertest.StartCluster(t, 3, brokertest.Set(quick), brokertest.Set(map[string]string{"version": version}))
			makeTopic(t, admin(t, c.Addrs()...), 1, 3, nil, "old")
			produceInto(t, c, "old")
			for software, want := range map[string]int16{"belfry-agent": 0, "belfry-broker": 0, "anything-else": kerr.UnsupportedVersion.Code} {
				ask := kmsg.NewPtrApiVersionsRequest()
				ask.Version, ask.ClientSoftwareName, ask.ClientSoftwareVersion = 3, software, "1"
				if version == "2.7" {
					want = 0 // as that release knew this version
				}
				if got := rawVersions(t, c.Brokers[0].Addr(), ask); got != want {
					t.Errorf("ApiVersions 3 of %s is answered with error %d, want %d", software, got, want)
				}
			}
		})
	}
}

// rawVersions sends ApiVersions by hand and gives the error code of the answer, which stands first in any version.
func rawVersions(t *testing.T, address string, req *kmsg.ApiVersionsRequest) int16 {
	t.Helper()
	socket, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 7)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 10) // size, correlation ID, error code
	if _, err := io.ReadFull(socket, head); err != nil {
		t.Fatal(err)
	}
	return int16(binary.BigEndian.Uint16(head[8:]))
}

func TestThreeBrokers(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	ctx := t.Context()
	// Each takes a change of the cluster, and has seen it when it answers.
	for i, b := range c.Brokers {
		name := fmt.Sprint("by-", i+1)
		seed := seedOf(t, b)
		create := kmsg.NewPtrCreateTopicsRequest()
		create.TimeoutMillis = 10_000
		nt := kmsg.NewCreateTopicsRequestTopic()
		nt.Topic, nt.NumPartitions, nt.ReplicationFactor = name, 6, 3
		create.Topics = append(create.Topics, nt)
		made, err := create.RequestWith(ctx, seed)
		if err != nil || made.Topics[0].ErrorCode != kerr.TopicAlreadyExists.Code && (made.Topics[0].ErrorCode != 0 || made.Topics[0].NumPartitions != 6) {
			t.Fatalf("broker %d: %+v, %v", i+1, made, err)
		}
		ask := kmsg.NewPtrMetadataRequest()
		ask.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		got, err := ask.RequestWith(ctx, seed)
		if err != nil || len(got.Topics) != 1 || got.Topics[0].ErrorCode != 0 || len(got.Topics[0].Partitions) != 6 {
			t.Fatalf("broker %d does not know what it made: %+v, %v", i+1, got, err)
		}
		producer := kmsg.NewPtrInitProducerIDRequest()
		if got, err := producer.RequestWith(ctx, seed); err != nil || got.ErrorCode != 0 || got.ProducerID < 0 {
			t.Fatalf("broker %d gives no producer ID: %+v, %v", i+1, got, err)
		}
		if twice, err := create.RequestWith(ctx, seed); err != nil || twice.Topics[0].ErrorCode != kerr.TopicAlreadyExists.Code {
			t.Fatalf("broker %d: %+v, %v", i+1, twice, err)
		}
	}
	all := admin(t, c.Addrs()...)
	meta, err := all.BrokerMetadata(ctx)
	if err != nil || len(meta.Brokers) != 3 || meta.Controller < 1 {
		t.Fatalf("%+v, %v", meta, err)
	}
	inSync := func(topic string, n int) func() bool {
		return func() bool {
			ps := leaders(t, all, topic)
			for _, p := range ps {
				if len(p.ISR) != n || p.Leader < 1 {
					return false
				}
			}
			return len(ps) == 6
		}
	}
	brokertest.Eventually(t, "all are in sync", inSync("by-1", 3))

	// One that is not the controller dies without a word.
	dead := int32(1)
	for dead == meta.Controller {
		dead++
	}
	victim := c.Broker(metadata.BrokerID(dead))
	began := time.Now()
	victim.Kill()
	brokertest.Eventually(t, "others lead what it led", func() bool {
		ps := leaders(t, all, "by-1")
		for _, p := range ps {
			if p.Leader == dead || p.Leader < 1 || slices.Contains(p.ISR, dead) {
				return false
			}
		}
		return len(ps) == 6
	})
	t.Logf("failover took %v", time.Since(began))
	produceInto(t, c, "by-1")

	// It comes back, catches up, and leads again what prefers it.
	victim.Restart(nil, nil)
	brokertest.Eventually(t, "it is in sync again", inSync("by-1", 3))
	brokertest.Eventually(t, "preferred leaders are back", func() bool {
		ps := leaders(t, all, "by-1")
		for _, p := range ps {
			if p.Leader != p.Replicas[0] {
				return false
			}
		}
		return len(ps) == 6
	})

	// The controller stops as it should: nothing fails meanwhile.
	c.Broker(metadata.BrokerID(meta.Controller)).Stop()
	produceInto(t, c, "by-1")
	ps := leaders(t, admin(t, victim.Addr()), "by-1")
	for n, p := range ps {
		if p.Leader == meta.Controller || slices.Contains(p.ISR, meta.Controller) {
			t.Errorf("partition %d is led by the broker that stopped: %+v", n, p)
		}
	}
	c.Broker(metadata.BrokerID(meta.Controller)).Restart(nil, nil)
	brokertest.Eventually(t, "all are in sync again", inSync("by-1", 3))
}

func produceInto(t *testing.T, c *brokertest.Cluster, topic string) {
	t.Helper()
	p, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic(topic), kgo.MetadataMinAge(20*time.Millisecond), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range 60 {
		if err := p.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// TestControllerDies: the broker that leads both the metadata log and partitions is gone
// at once, while messages are written.
func TestControllerDies(t *testing.T) {
	// Why so long a session: only who sees that the process is gone is faster, also on a busy machine.
	const session = 18 * time.Second
	patient := maps.Clone(quick)
	patient["broker.session.timeout.ms"] = strconv.FormatInt(session.Milliseconds(), 10)
	c := brokertest.StartCluster(t, 3, brokertest.Set(patient))
	ctx := t.Context()
	all := admin(t, c.Addrs()...)
	makeTopic(t, all, 6, 3, map[string]*string{"min.insync.replicas": kmsg.StringPtr("2")}, "t")
	meta, err := all.BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic("t"), kgo.MetadataMinAge(20*time.Millisecond), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var written int
	var longest time.Duration
	gone := make(chan struct{})
	over := func(end time.Time) bool {
		select {
		case <-gone:
			return time.Now().After(end)
		default:
			return false
		}
	}
	for end := time.Now().Add(3 * time.Second); !over(end); written++ {
		within, cancel := context.WithTimeout(ctx, 20*time.Second)
		began := time.Now()
		if err := p.ProduceSync(within, kgo.StringRecord(fmt.Sprint(written))).FirstErr(); err != nil {
			t.Fatalf("message %d: %v", written, err)
		}
		cancel()
		longest = max(longest, time.Since(began))
		if written == 100 {
			go func() {
				defer close(gone)
				c.Broker(metadata.BrokerID(meta.Controller)).Kill()
			}()
		}
	}
	var now kadm.Metadata
	for end := time.Now().Add(session); ; <-time.After(50 * time.Millisecond) {
		if now, err = admin(t, c.Addrs()...).BrokerMetadata(ctx); err == nil && now.Controller != meta.Controller && len(now.Brokers) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("controller %d died; now %+v, %v", meta.Controller, now, err)
		}
	}
	t.Logf("the longest wait for an answer was %v", longest)
	if longest > session {
		t.Error("nobody saw that the broker's process was gone")
	}
	if got := count(t, c, "t"); got != written {
		t.Fatalf("%d messages were acknowledged, %d are there", written, got)
	}
	// The cluster takes changes from either of the two.
	makeTopic(t, all, 1, 2, nil, "later")
	// One of three decides nothing, and says so in time.
	c.Broker(metadata.BrokerID(now.Controller)).Kill()
	last := seedOf(t, c.Broker(metadata.BrokerID(6-now.Controller-meta.Controller))) // IDs 1, 2, 3
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 1500
	nt := kmsg.NewCreateTopicsRequestTopic()
	nt.Topic, nt.NumPartitions, nt.ReplicationFactor = "never", 1, 1
	create.Topics = append(create.Topics, nt)
	began := time.Now()
	made, err := create.RequestWith(ctx, last)
	if err != nil || made.Topics[0].ErrorCode != kerr.RequestTimedOut.Code && made.Topics[0].ErrorCode != kerr.NotController.Code {
		t.Fatalf("%+v, %v", made, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	// A client is sent to the broker that it asked, which will pass on what it is told; the agent hears the truth.
	asked := 6 - now.Controller - meta.Controller
	agent := seedOf(t, c.Broker(metadata.BrokerID(asked)), kgo.SoftwareNameAndVersion("belfry-agent", "1"))
	for seed, want := range map[*kgo.Broker]int32{last: asked, agent: -1} {
		who, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, seed)
		if err != nil || who.ControllerID != want {
			t.Fatalf("%+v, %v: there is no controller, want %d", who, err, want)
		}
	}
}

// count reads a topic to its end.
func count(t *testing.T, c *brokertest.Cluster, topic string) (n int) {
	t.Helper()
	ends, err := admin(t, c.Addrs()...).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	r, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := map[string]bool{}
	for n < want && ctx.Err() == nil {
		r.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			n++
			seen[string(r.Value)] = true
		})
	}
	return len(seen)
}

func TestReplicasMove(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	ctx := t.Context()
	all := admin(t, c.Addrs()...)
	makeTopic(t, all, 3, 2, nil, "t")
	produceInto(t, c, "t")
	var req kadm.AlterPartitionAssignmentsReq
	want := map[int32][]int32{}
	for n, p := range leaders(t, all, "t") {
		other := int32(6) - p.Replicas[0] - p.Replicas[1] // IDs 1, 2, 3
		want[n] = []int32{other, p.Replicas[0]}
		req.Assign("t", n, want[n])
	}
	resp, err := all.AlterPartitionAssignments(ctx, req)
	if err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	brokertest.Eventually(t, "the replicas have moved", func() bool {
		ps := leaders(t, all, "t")
		for n, p := range ps {
			if !slices.Equal(p.Replicas, want[n]) || len(p.ISR) != 2 {
				return false
			}
		}
		return len(ps) == 3
	})
	if got := count(t, c, "t"); got != 60 {
		t.Fatalf("%d of 60 messages moved along", got)
	}
	running, err := kmsg.NewPtrListPartitionReassignmentsRequest().RequestWith(ctx, seedOf(t, c.Brokers[0]))
	if err != nil || len(running.Topics) != 0 {
		t.Fatalf("%v, %v", running, err)
	}
}

// TestTransactionsOverBrokers: the coordinator, the partitions and the group's offsets are
// led by different brokers.
func TestTransactionsOverBrokers(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	all := admin(t, c.Addrs()...)
	makeTopic(t, all, 6, 3, nil, "t")
	for _, id := range []string{"one", "two", "three"} { // by several coordinators
		p, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic("t"), kgo.TransactionalID(id),
			kgo.MetadataMinAge(20*time.Millisecond), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		for round := range 4 {
			if err := p.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for i := range 12 {
				if err := p.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(id, round, i))).FirstErr(); err != nil {
					t.Fatalf("%s, round %d: %v", id, round, err)
				}
			}
			if err := p.EndTransaction(ctx, kgo.TransactionEndTry(round%2 == 0)); err != nil {
				t.Fatalf("%s, round %d: %v", id, round, err)
			}
		}
		p.Close()
	}
	r, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	seen := map[string]bool{}
	for len(seen) < 3*2*12 && ctx.Err() == nil {
		r.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
	}
	for v := range seen {
		if !strings.HasPrefix(strings.TrimLeft(v, "onetwhr"), "0") && !strings.HasPrefix(strings.TrimLeft(v, "onetwhr"), "2") {
			t.Errorf("%q was aborted and is read", v)
		}
	}
	if len(seen) != 3*2*12 {
		t.Fatalf("%d messages are committed, %d are read", 3*2*12, len(seen))
	}
}

// TestAFullFollowerStopsItsLeaders refuses produce at one broker of three: partitions with a
// replica there refuse it wherever they are led, others do not.
func TestAFullFollowerStopsItsLeaders(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var addrs []string
	for _, b := range c.Brokers {
		addrs = append(addrs, b.Addr())
	}
	a := admin(t, addrs...)
	if _, err := a.CreateTopic(ctx, 3, 3, nil, "shared"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CreateTopic(ctx, 9, 1, nil, "single"); err != nil {
		t.Fatal(err)
	}
	full := c.Brokers[0]
	try := func(topic string, partition int32) error {
		k, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		return k.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x")}).FirstErr()
	}
	// Every partition of a topic has come to take records, or none takes any.
	until := func(what string, want func() error) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if err = want(); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v", what, err)
	}
	takes := func() error {
		for p := range int32(3) {
			if err := try("shared", p); err != nil {
				return err
			}
		}
		return nil
	}
	until("before", takes)
	full.RefuseProduce("the disk is at 96 %, the threshold is 95 %")
	until("at the threshold", func() error {
		for p := range int32(3) {
			if err := try("shared", p); !errors.Is(err, kerr.KafkaStorageError) {
				return fmt.Errorf("partition %d: %v", p, err)
			}
		}
		return nil
	})
	for p, state := range leaders(t, a, "single") {
		err := try("single", p)
		if own := state.Leader == int32(full.Node()); own != errors.Is(err, kerr.KafkaStorageError) || !own && err != nil {
			t.Errorf("partition %d of broker %d: %v", p, state.Leader, err)
		}
	}
	full.RefuseProduce("")
	until("after", takes)
}

// TestRoomIsMadeOnAllReplicas frees bytes on a broker that leads one of two partitions: every
// replica of both begins at the same offset after.
func TestRoomIsMadeOnAllReplicas(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a := admin(t, c.Addrs()...)
	small := map[string]*string{"segment.bytes": kmsg.StringPtr("16384"), "min.insync.replicas": kmsg.StringPtr("3")}
	if _, err := a.CreateTopic(ctx, 3, 3, small, "t"); err != nil {
		t.Fatal(err)
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(4096))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for i := range 300 {
		k.Produce(ctx, &kgo.Record{Topic: "t", Partition: int32(i % 3), Value: make([]byte, 1000)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := k.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// Where it follows, its high watermark may be a fetch behind, and nothing above that may go:
	// it is told until the oldest of each partition has gone.
	node := c.Brokers[0]
	for want, left := int64(150_000), 3; left > 0; want = 1 {
		if _, err := node.FreeOldest(ctx, want); err != nil {
			t.Fatalf("%d partitions begin at 0 still: %v", left, err)
		}
		starts, err := a.ListStartOffsets(ctx, "t")
		if err := errors.Join(err, starts.Error()); err != nil {
			t.Fatal(err)
		}
		left = 0
		starts.Each(func(at kadm.ListedOffset) {
			if at.Offset == 0 {
				left++
			}
		})
	}
	// What is on the disks is the same everywhere, as soon as the followers have fetched.
	deadline := time.Now().Add(20 * time.Second)
	for {
		dirs, err := a.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		sizes := map[int32]map[int64]bool{}
		dirs.Each(func(d kadm.DescribedLogDir) {
			d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
				if p.Topic == "t" {
					if sizes[p.Partition] == nil {
						sizes[p.Partition] = map[int64]bool{}
					}
					sizes[p.Partition][p.Size] = true
				}
			})
		})
		same := len(sizes) == 3
		for _, s := range sizes {
			same = same && len(s) == 1
		}
		if same {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sizes of the replicas differ: %v", sizes)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
