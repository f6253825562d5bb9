package group

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// BenchmarkOffsetCommit is many groups that commit at once, over the real rooms below, on
// a disk in memory.
func BenchmarkOffsetCommit(b *testing.B) {
	n := startNode(b, disk.NewMemory(0))
	defer n.stop()
	n.loaded(b, "a")
	n.loaded(b, "b")
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Version, r.Group, r.Generation = 9, "a", -1
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
		answered := make(chan code)
		for pb.Next() {
			r.Topics[0].Partitions[0].Offset++
			n.OffsetCommit(r, func(resp *kmsg.OffsetCommitResponse) { answered <- resp.Topics[0].Partitions[0].ErrorCode })
			if c := <-answered; c != none {
				b.Fatalf("commit gives %s", named(c))
			}
		}
	})
}

// BenchmarkReplay is loading: one committed offset read back from its record.
func BenchmarkReplay(b *testing.B) {
	s := newShard()
	r := offsetRecord("a-consumer-group", topic.Partition{Topic: "orders", Partition: 7}, offset{at: 1, epoch: 3, committed: 1, expires: -1})
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Replay(record.Header{}, r); err != nil {
			b.Fatal(err)
		}
	}
}
