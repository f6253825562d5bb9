package peer

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// laneQuorum is for questions about the metadata log, which are short.
const laneQuorum = "quorum"

// Leads asks a broker whether it leads the metadata log, as far as it knows itself.
//
// Errors: as Do.
func (c *Client) Leads(ctx context.Context, to metadata.BrokerID) (bool, error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic, t.Partitions = "__cluster_metadata", append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	got, err := c.Do(ctx, to, laneQuorum, req)
	if err != nil {
		return false, err
	}
	for _, t := range got.(*kmsg.DescribeQuorumResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.LeaderID == int32(to) {
				return true, nil
			}
		}
	}
	return false, nil
}
