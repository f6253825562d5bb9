package api_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/record"
)

// The time of the request is for other replicas: without any, what this broker did itself is told all the same.
func TestDeleteRecordsWithoutTimeToWait(t *testing.T) {
	c := dialRaw(t, brokertest.Start(t).Addr())
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 0
	for i := range 8 {
		name := fmt.Sprintf("short-%d", i)
		makeTopic(c, name, nil)
		if p := try(c, name, batch(t, record.None, nil, nil, "x", "y")); p.ErrorCode != 0 {
			t.Fatalf("produced with error %d", p.ErrorCode)
		}
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic, rt.Partitions = name, []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 1}}
		req.Topics = append(req.Topics, rt)
	}
	for _, rt := range c.ask(req).(*kmsg.DeleteRecordsResponse).Topics {
		code(t, rt.Partitions[0].ErrorCode, nil)
		if low := rt.Partitions[0].LowWatermark; low != 1 {
			t.Errorf("%s begins at %d, want 1", rt.Topic, low)
		}
	}
}
