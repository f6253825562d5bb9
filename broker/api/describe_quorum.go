package api

import (
	"net"
	"slices"
	"strconv"

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
	for _, v := range slices.Concat(status.Voters, status.Observers) {
		resp.Nodes = append(resp.Nodes, a.quorumNode(v))
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// showQuorum fills in how the metadata log stands.
func (a *API) showQuorum(rp *kmsg.DescribeQuorumResponseTopicPartition, s quorum.Status) {
	rp.LeaderID, rp.LeaderEpoch, rp.HighWatermark = int32(s.Leader), int32(s.Epoch), int64(s.Committed)
	for _, m := range s.Voters {
		rp.CurrentVoters = append(rp.CurrentVoters, quorumReplica(m))
	}
	for _, m := range s.Observers {
		rp.Observers = append(rp.Observers, quorumReplica(m))
	}
}

// quorumReplica shows one member; what is not known is -1.
func quorumReplica(m quorum.Member) kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
	rs := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	rs.ReplicaID, rs.ReplicaDirectoryID = int32(m.Node), m.Directory
	rs.LogEndOffset, rs.LastFetchTimestamp, rs.LastCaughtUpTimestamp = -1, -1, -1
	if m.End > 0 {
		rs.LogEndOffset = int64(m.End)
	}
	if !m.Heard.IsZero() {
		rs.LastFetchTimestamp = m.Heard.UnixMilli()
	}
	if !m.CaughtUp.IsZero() {
		rs.LastCaughtUpTimestamp = m.CaughtUp.UnixMilli()
	}
	return rs
}

// controllerListener is what the listener of the voters is called.
const controllerListener = "CONTROLLER"

// quorumNode tells where a voter is: its controller listener, or, of a node alone,
// which has none, its listeners for clients.
func (a *API) quorumNode(m quorum.Member) kmsg.DescribeQuorumResponseNode {
	n := kmsg.NewDescribeQuorumResponseNode()
	n.NodeID = int32(m.Node)
	if host, port, err := net.SplitHostPort(m.Address); err == nil {
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		l.Name, l.Host = controllerListener, host
		number, err := strconv.ParseUint(port, 10, 16)
		if l.Port = uint16(number); err == nil {
			n.Listeners = append(n.Listeners, l)
			return n
		}
	}
	if b := a.image().Broker(m.Node); b != nil {
		for _, e := range b.Endpoints {
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			l.Name, l.Host, l.Port = e.Listener, e.Host, uint16(e.Port)
			n.Listeners = append(n.Listeners, l)
		}
	}
	return n
}
