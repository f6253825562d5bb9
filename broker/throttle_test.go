package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// fill writes n messages of a kilobyte into each partition of a topic.
func fill(t *testing.T, c *brokertest.Cluster, topic string, partitions, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(16<<10), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for i := range n * partitions {
		k.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Appendf(make([]byte, 990), "%10d", i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := k.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func setConfigs(t *testing.T, all *kadm.Client, topic string, brokers []int32, set map[string]string) {
	t.Helper()
	var cs []kadm.AlterConfig
	for name, value := range set {
		cs = append(cs, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	var rs kadm.AlterConfigsResponses
	var err error
	if topic != "" {
		rs, err = all.AlterTopicConfigs(t.Context(), cs, topic)
	} else {
		rs, err = all.AlterBrokerConfigs(t.Context(), cs, brokers...)
	}
	for _, r := range rs {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// moved asks for new replicas and gives how long it takes until they are there; each runs meanwhile.
func moved(t *testing.T, all *kadm.Client, topic string, to map[int32][]int32, meanwhile func()) time.Duration {
	t.Helper()
	var req kadm.AlterPartitionAssignmentsReq
	for n, replicas := range to {
		req.Assign(topic, n, replicas)
	}
	began := time.Now()
	if resp, err := all.AlterPartitionAssignments(t.Context(), req); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	for deadline := began.Add(time.Minute); ; {
		done := true
		for n, p := range leaders(t, all, topic) {
			done = done && slices.Equal(p.Replicas, to[n]) && len(p.ISR) == len(to[n])
		}
		if done {
			return time.Since(began)
		}
		if time.Now().After(deadline) {
			t.Fatalf("not moved after a minute: %+v", leaders(t, all, topic))
		}
		meanwhile()
	}
}

// TestMovesKeepTheirRate moves partitions under a limit of the leader, of the follower, and of
// neither: the first two take as long as the limit says, and who is in sync waits for nobody.
func TestMovesKeepTheirRate(t *testing.T) {
	const rate, partitions, each = 400_000, 2, 500 // a megabyte in all
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	all := admin(t, c.Addrs()...)
	makeTopic(t, all, 1, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("3")}, "busy")
	p, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic("busy"), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	setConfigs(t, all, "busy", nil, map[string]string{"leader.replication.throttled.replicas": "*", "follower.replication.throttled.replicas": "*"})
	var slowest time.Duration
	pace := time.NewTicker(10 * time.Millisecond) // Why: what goes to those in sync counts; at full speed nothing would be left
	defer pace.Stop()
	produce := func() {
		<-pace.C
		began := time.Now()
		if err := p.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	produce()
	for _, side := range []string{"leader", "follower", "neither"} {
		t.Run(side, func(t *testing.T) {
			topic := "moved-by-" + side
			if _, err := all.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
				t.Fatal(err)
			}
			fill(t, c, topic, partitions, each)
			from, to := map[int32][]int32{}, map[int32][]int32{}
			for n, p := range leaders(t, all, topic) {
				from[n] = p.Replicas
				to[n] = []int32{p.Replicas[0]%3 + 1}
			}
			one := leaders(t, all, topic)
			for n := range one { // both from one broker to another: the limits are of brokers
				from[n], to[n] = []int32{1}, []int32{2}
			}
			moved(t, all, topic, from, func() {})
			slowest = 0
			want := time.Duration(0)
			if side != "neither" {
				setConfigs(t, all, "", []int32{1, 2, 3}, map[string]string{side + ".replication.throttled.rate": strconv.Itoa(rate)})
				setConfigs(t, all, topic, nil, map[string]string{side + ".replication.throttled.replicas": map[string]string{"leader": "0:1,1:1", "follower": "0:2,1:2"}[side]})
				// A second's worth is saved up at most, and the last batch may go too far.
				want = time.Duration(float64(partitions*each*1000)/rate*float64(time.Second)) - time.Second
			}
			took := moved(t, all, topic, to, produce)
			t.Logf("%d bytes took %v; the slowest produce with acks=all took %v", partitions*each*1000, took, slowest)
			if took < want {
				t.Errorf("the move took %v, at %d bytes/s it takes at least %v", took, rate, want)
			}
			if most := 4*want + 20*time.Second; took > most {
				t.Errorf("the move took %v, want at most %v", took, most)
			}
			if got := count(t, c, topic); got != partitions*each {
				t.Errorf("%d of %d messages moved along", got, partitions*each)
			}
			if side != "neither" {
				setConfigs(t, all, "", []int32{1, 2, 3}, map[string]string{side + ".replication.throttled.rate": "9223372036854775807"})
			}
		})
	}
}

// TestMoveUnderALimit is what else there is to a move that takes its time: the topic stays,
// old data may be deleted, a limit that is lifted is felt at once.
func TestMoveUnderALimit(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	all := admin(t, c.Addrs()...)
	small := map[string]*string{"segment.bytes": kadm.StringPtr("65536")}
	if _, err := all.CreateTopic(t.Context(), 1, 1, small, "t"); err != nil {
		t.Fatal(err)
	}
	fill(t, c, "t", 1, 1000)
	from := leaders(t, all, "t")[0].Leader
	to := from%3 + 1
	setConfigs(t, all, "", []int32{1, 2, 3}, map[string]string{"leader.replication.throttled.rate": "50000"})
	setConfigs(t, all, "t", nil, map[string]string{"leader.replication.throttled.replicas": "*"})
	began := time.Now()
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign("t", 0, []int32{to})
	if resp, err := all.AlterPartitionAssignments(t.Context(), req); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	if _, err := all.CreatePartitions(t.Context(), 1, "t"); err != nil {
		t.Fatal(err)
	}
	if rs, err := all.CreatePartitions(t.Context(), 1, "t"); err != nil || !errors.Is(rs["t"].Err, kerr.ReassignmentInProgress) {
		t.Errorf("a topic under a move grows: %v, %v", rs["t"].Err, err)
	}
	if r, err := all.DeleteTopic(t.Context(), "t"); !errors.Is(err, kerr.ReassignmentInProgress) && !errors.Is(r.Err, kerr.ReassignmentInProgress) {
		t.Errorf("a topic under a move is deleted: %v, %v", r.Err, err)
	}
	// The oldest goes, on the leader and so on whoever copies it.
	freed, err := c.Broker(metadata.BrokerID(from)).FreeOldest(t.Context(), 300_000)
	if err != nil || freed < 300_000 {
		t.Fatalf("freed %d, %v", freed, err)
	}
	time.Sleep(max(0, time.Second-time.Since(began)))
	if p := leaders(t, all, "t")[0]; len(p.Replicas) != 2 {
		t.Fatalf("a megabyte was moved in %v at 50 kB/s: %+v", time.Since(began), p)
	}
	setConfigs(t, all, "", []int32{1, 2, 3}, map[string]string{"leader.replication.throttled.rate": "9223372036854775807"})
	lifted := time.Now()
	brokertest.Eventually(t, "it has moved", func() bool {
		p := leaders(t, all, "t")[0]
		return slices.Equal(p.Replicas, []int32{to}) && p.Leader == to
	})
	t.Logf("done %v after the limit was lifted", time.Since(lifted))
	starts, err := all.ListStartOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	start, _ := starts.Lookup("t", 0)
	ends, err := all.ListEndOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("t", 0)
	if start.Offset < 250 || end.Offset != 1000 {
		t.Errorf("it goes from offset %d to %d, want from 250 or above to 1000", start.Offset, end.Offset)
	}
	if r, err := all.DeleteTopic(t.Context(), "t"); err != nil || r.Err != nil {
		t.Errorf("a topic that has moved is not deleted: %v, %v", r.Err, err)
	}
}
