package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/wire"
)

// describeCluster answers DescribeCluster 0–2 (KIP-700; endpoint types KIP-919,
// fenced brokers KIP-1073). Who asks with a tag hears more of each broker, see
// stats.TagStanding.
func (a *API) describeCluster(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeClusterRequest)
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.EndpointType = req.EndpointType
	if req.EndpointType != 1 {
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		resp.ErrorMessage = text("this listener serves brokers only: ask with endpoint type 1")
		if req.EndpointType != 2 {
			resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		}
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	img := a.image()
	resp.ClusterID, resp.ControllerID = img.ClusterID(), a.controllerID(img, r.Session)
	tagged := false
	req.UnknownTags.Each(func(tag uint32, _ []byte) { tagged = tagged || tag == stats.TagStanding })
	for _, b := range img.Brokers() {
		e, ok := endpoint(b, r)
		if !ok || b.Fenced && !req.IncludeFencedBrokers {
			continue
		}
		m := kmsg.NewDescribeClusterResponseBroker()
		m.NodeID, m.Host, m.Port, m.Rack, m.IsFenced = int32(b.ID), e.Host, e.Port, text(b.Rack), b.Fenced
		if tagged {
			m.UnknownTags.Set(stats.TagStanding, stats.Standing{Epoch: b.Epoch, Leaving: b.Leaving}.Append(nil))
		}
		resp.Brokers = append(resp.Brokers, m)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	r.Answer(wire.Message(resp, 0))
}
