package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/wire"
)

// metadataTopic is the name under which Kafka's tools know the metadata log.
const metadataTopic = "__cluster_metadata"

// describeQuorum answers DescribeQuorum 0–2 (KIP-595; times KIP-836; nodes KIP-853):
// who leads the metadata log, how far it is, who votes. The log is no partition here;
// its entries are counted like offsets.
func (a *API) describeQuorum(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeQuorumRequest)
	resp := kmsg.NewPtrDescribeQuorumResponse()
	status, running := a.quorum.Status()
	var code first
	for _, t := range unique(req.Topics, func(t *kmsg.DescribeQuorumRequestTopic) string { return t.Topic }) {
		rt := kmsg.NewDescribeQuorumResponseTopic()
		rt.Topic = t.Topic
		for _, p := range unique(t.Partitions, func(p *kmsg.DescribeQuorumRequestTopicPartition) int32 { return p.Partition }) {
			rp := kmsg.NewDescribeQuorumResponseTopicPartition()
			rp.Partition, rp.LeaderID = p.Partition, int32(metadata.NoBroker)
			switch {
			case t.Topic != metadataTopic || p.Partition != 0:
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				rp.ErrorMessage = text("the one quorum is that of partition 0 of " + metadataTopic)
			case !running || status.Leader != a.node:
				rp.ErrorCode, rp.ErrorMessage = kerr.NotLeaderForPartition.Code, text("this node does not lead the metadata log now")
			default:
				a.showQuorum(&rp, status)
			}
			code.see(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if running {
		for _, v := range status.Voters {
			resp.Nodes = append(resp.Nodes, a.quorumNode(v.Node))
		}
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// showQuorum fills in how the metadata log stands. What other voters have written
// is theirs to know: -1.
func (a *API) showQuorum(rp *kmsg.DescribeQuorumResponseTopicPartition, s quorum.Status) {
	rp.LeaderID, rp.LeaderEpoch, rp.HighWatermark = int32(s.Leader), int32(s.Epoch), int64(s.Committed)
	for _, v := range s.Voters {
		rv := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		rv.ReplicaID, rv.LogEndOffset, rv.LastFetchTimestamp, rv.LastCaughtUpTimestamp = int32(v.Node), -1, -1, -1
		if v.Node == a.node {
			now := a.now().UnixMilli() // the leader is as far as itself
			rv.LogEndOffset, rv.LastFetchTimestamp, rv.LastCaughtUpTimestamp = int64(s.End), now, now
		}
		rp.CurrentVoters = append(rp.CurrentVoters, rv)
	}
}

func (a *API) quorumNode(id metadata.BrokerID) kmsg.DescribeQuorumResponseNode {
	n := kmsg.NewDescribeQuorumResponseNode()
	n.NodeID = int32(id)
	if b := a.image().Broker(id); b != nil {
		for _, e := range b.Endpoints {
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			l.Name, l.Host, l.Port = e.Listener, e.Host, uint16(e.Port)
			n.Listeners = append(n.Listeners, l)
		}
	}
	return n
}
