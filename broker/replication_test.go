package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// replicated makes a topic of one partition on three brokers, with 60 messages, and gives its leader.
func replicated(t *testing.T, c *brokertest.Cluster, name string) (leader int32, all *kadm.Client) {
	t.Helper()
	all = admin(t, c.Addrs()...)
	if _, err := all.CreateTopic(t.Context(), 1, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, name); err != nil {
		t.Fatal(err)
	}
	produceInto(t, c, name)
	brokertest.Eventually(t, "all are in sync", func() bool {
		p := leaders(t, all, name)[0]
		leader = p.Leader
		return len(p.ISR) == 3
	})
	return leader, all
}

// logOf gives the bytes of the log of partition 0 of the only topic on one broker; nil while
// its files are set aside or made.
func logOf(t *testing.T, b *brokertest.Broker) (out []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.DataDir(), "*-0", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, content...)
	}
	return out
}

func TestReplicasAreTheSameBytes(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick))
	leader, all := replicated(t, c, "copies")
	first := logOf(t, c.Broker(metadata.BrokerID(leader)))
	if len(first) < 60*61 {
		t.Fatalf("the leader's log has %d bytes", len(first))
	}
	for i, b := range c.Brokers {
		brokertest.Eventually(t, fmt.Sprintf("broker %d has the same bytes", i+1), func() bool {
			return bytes.Equal(logOf(t, b), first)
		})
	}

	// What is deleted is deleted everywhere before the answer.
	o := kadm.Offsets{}
	o.AddOffset("copies", 0, 25, -1)
	deleted, err := all.DeleteRecords(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := deleted.Lookup("copies", 0); d.Err != nil || d.LowWatermark != 25 {
		t.Errorf("low watermark after the deletion is %d, %v", d.LowWatermark, d.Err)
	}
}

// fetchOf asks one broker for a partition as a consumer in a rack does, with Fetch 12.
func fetchOf(t *testing.T, cl *kgo.Client, broker int32, topic, rack string, from int64) kmsg.FetchResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.Rack = 1000, 1, 1<<20, rack
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = from, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(int(broker)).RetriableRequest(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
}

func TestReadFromTheNearestReplica(t *testing.T) {
	settings := brokertest.Set(map[string]string{"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"})
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick), brokertest.Racks(), settings)
	leader, _ := replicated(t, c, "near")
	other := leader%3 + 1
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MaxVersions(upToFetch(12)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).BrokerMetadata(t.Context()); err != nil {
		t.Fatal(err)
	}

	rack := fmt.Sprint("rack-", other)
	if p := fetchOf(t, cl, leader, "near", rack, 0); p.ErrorCode != 0 || p.PreferredReadReplica != other || len(p.RecordBatches) != 0 {
		t.Errorf("the leader sends a consumer in %s to %d with %d bytes (code %d), want broker %d", rack, p.PreferredReadReplica, len(p.RecordBatches), p.ErrorCode, other)
	}
	for _, far := range []string{"", "rack-9", fmt.Sprint("rack-", leader)} {
		if p := fetchOf(t, cl, leader, "near", far, 0); p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 {
			t.Errorf("the leader sends a consumer in %q to %d with %d bytes", far, p.PreferredReadReplica, len(p.RecordBatches))
		}
	}
	brokertest.Eventually(t, "the follower serves everything", func() bool {
		p := fetchOf(t, cl, other, "near", rack, 0)
		return p.ErrorCode == 0 && p.HighWatermark == 60 && len(p.RecordBatches) > 60*61
	})
	if p := fetchOf(t, cl, other, "near", rack, 61); p.ErrorCode != kerr.OffsetNotAvailable.Code {
		t.Errorf("above the follower's end it answers code %d", p.ErrorCode)
	}

	// A real consumer follows the hint.
	consumer, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.Rack(rack), kgo.ConsumeTopics("near"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	n := 0
	brokertest.Eventually(t, "the consumer has everything", func() bool {
		n += consumer.PollRecords(t.Context(), 100).NumRecords()
		return n == 60
	})
}

// upToFetch is what a client knows whose newest Fetch is that: from 13 on topics have IDs.
func upToFetch(version int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.Fetch.Int16(), version)
	return v
}
