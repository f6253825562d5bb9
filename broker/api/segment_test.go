package api_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// A batch that is larger than a segment may be gets a segment of its own.
func TestBatchLargerThanSegment(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "tiny", map[string]string{"segment.bytes": "1024"})
	for range 3 {
		code(t, try(c, "tiny", batchOf(strings.Repeat("x", 5000), 1000)).ErrorCode, nil)
	}
	node.Restart(node.ForgetCleanShutdown, nil)
	c = dialRaw(t, node.Addr())
	for i := range int64(3) {
		p := c.ask(fetchOf(11, 0, 1, i, "tiny")).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if got := valuesOf(t, p.RecordBatches); len(got) == 0 || len(got[0]) != 5000 {
			t.Errorf("%d records from offset %d on", len(got), i)
		}
	}
}
