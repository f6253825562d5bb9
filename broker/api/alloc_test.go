package api_test

import (
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// allocations gives what the process allocates for one request: number and bytes. The client itself allocates nothing.
func allocations(t *testing.T, c *rawClient, req kmsg.Request) (n, size float64) {
	t.Helper()
	frame := c.format.AppendRequest(nil, req, 1)
	answer := make([]byte, 8<<20)
	if err := c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if _, err := c.conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.conn, answer[:4]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.conn, answer[4:4+binary.BigEndian.Uint32(answer)]); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		ask()
	}
	const runs = 300
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		ask()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / runs, float64(after.TotalAlloc-before.TotalAlloc) / runs
}

// TestRoadsAllocateLittle bounds what a request leaves to the garbage collector, and that it is no more with many
// batches than with one: each batch costs nothing.
func TestRoadsAllocateLittle(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	const partitions = 24
	for name, flush := range map[string]string{"fast": "9223372036854775807", "safe": "1"} {
		makeTopicOf(c, name, partitions, map[string]string{"flush.messages": flush})
	}
	batch := batchOf(string(make([]byte, 1000)), 1000)
	produce := func(topic string, batches int) kmsg.Request {
		req := produceRequest(9, topic, batch)
		for n := 1; n < batches; n++ {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = int32(n), batch
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		}
		return req
	}
	tests := []struct {
		name string
		req  kmsg.Request
		most float64 // why so many
	}{
		{"produce to the page cache, 1 batch", produce("fast", 1), 2},             // the request itself
		{"produce to the page cache, 24 batches", produce("fast", partitions), 2}, // the same
		{"produce to disk, 1 batch", produce("safe", 1), 6},                       // and whoever syncs and sends
		{"produce to disk, 24 batches", produce("safe", partitions), 10},          // there are more of them
	}
	for _, tt := range tests {
		n, size := allocations(t, c, tt.req)
		t.Logf("%s: %.1f allocations, %.0f bytes", tt.name, n, size)
		if raced {
			tt.most = 10*tt.most + 20
		}
		if n > tt.most {
			t.Errorf("%s: %.1f allocations a request, want at most %.0f", tt.name, n, tt.most)
		}
	}
}
