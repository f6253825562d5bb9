package peer

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// laneDelete is its own because a leader waits for its followers before it answers.
const laneDelete = "delete"

// waitForFollowers is how long a leader waits for its followers to have deleted, too.
const waitForFollowers = 2 * time.Second

// DeleteBefore has a leader delete what is below an offset of a partition. That some other
// replica has not yet is no error.
//
// Errors: as Do; the leader's refusal.
func (c *Client) DeleteBefore(ctx context.Context, to metadata.BrokerID, p topic.Partition, below record.Offset) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = int32(waitForFollowers.Milliseconds())
	t, q := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
	q.Partition, q.Offset = p.Partition, int64(below)
	t.Topic, t.Partitions = p.Topic, append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	got, err := c.Do(ctx, to, laneDelete, req)
	if err != nil {
		return err
	}
	for _, t := range got.(*kmsg.DeleteRecordsResponse).Topics {
		for _, q := range t.Partitions {
			if q.ErrorCode != kerr.RequestTimedOut.Code {
				return kerr.ErrorForCode(q.ErrorCode)
			}
		}
	}
	return nil
}
