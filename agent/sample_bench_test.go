package agent_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/collect"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/broker/brokertest"
)

// BenchmarkSample is what the cluster costs the node in a tick, the broker's answers included:
// 200 topics of five partitions, 200 groups with offsets of five topics each.
func BenchmarkSample(b *testing.B) {
	node := brokertest.Start(b)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(node.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer kafka.Close()
	admin := kadm.NewClient(kafka)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("topic-%d", i))
	}
	if _, err := admin.CreateTopics(b.Context(), 5, 1, nil, names...); err != nil {
		b.Fatal(err)
	}
	for g := range names {
		at := kadm.Offsets{}
		for i := range 5 {
			for p := range int32(5) {
				at.Add(kadm.Offset{Topic: names[(g+i)%len(names)], Partition: p, LeaderEpoch: -1})
			}
		}
		if err := admin.CommitAllOffsets(b.Context(), fmt.Sprintf("group-%d", g), at); err != nil {
			b.Fatal(err)
		}
	}
	client, err := cluster.Open(cluster.Options{Seeds: []string{node.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	source := collect.NewCluster(collect.ClusterOptions{Passer: client})
	var order metric.Order
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		samples, err := source.Collect(b.Context(), sampler.Period{Elapsed: time.Minute})
		if err != nil {
			b.Fatal(err)
		}
		if samples, _ = order.Arrange(samples); len(samples) < 10_000 {
			b.Fatalf("%d samples", len(samples))
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
