package api_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// BenchmarkProduce sends batches of 16 KiB one after the other on one connection,
// each on disk before it is answered.
func BenchmarkProduce(b *testing.B) {
	node := brokertest.Start(b)
	c := dialRaw(b, node.Addr())
	makeTopic(c, "bench", nil)
	value := make([]byte, 16<<10)
	req := produceRequest(9, "bench", batchOf(string(value), 1000))
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		c.send(req)
		if _, _, err := c.frame(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetch reads the same megabyte again and again.
func BenchmarkFetch(b *testing.B) {
	for _, sessions := range []bool{false, true} {
		b.Run(fmt.Sprintf("session=%v", sessions), func(b *testing.B) {
			node := brokertest.Start(b)
			c := dialRaw(b, node.Addr())
			makeTopic(c, "bench", nil)
			batch := batchOf(string(make([]byte, 64<<10)), 1000)
			for range 16 {
				try(c, "bench", batch)
			}
			req := fetchOf(11, 0, 1, 0, "bench")
			if sessions {
				req.SessionEpoch = 0
				req.SessionID = c.ask(req).(*kmsg.FetchResponse).SessionID
			}
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				if sessions {
					req.SessionEpoch++
				}
				c.send(req)
				if _, _, err := c.frame(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirstGroup is the first question for a coordinator, which makes
// __consumer_offsets with its 50 partitions.
func BenchmarkFirstGroup(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		node := brokertest.Start(b, brokertest.Set(map[string]string{"offsets.topic.num.partitions": "50"}))
		c := dialRaw(b, node.Addr())
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey = "g"
		b.StartTimer()
		if resp := c.ask(req).(*kmsg.FindCoordinatorResponse); resp.ErrorCode != 0 {
			b.Fatalf("%+v", resp)
		}
		b.StopTimer()
		node.Stop()
		b.StartTimer()
	}
}
