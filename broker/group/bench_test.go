package group

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/storage/disk"
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
