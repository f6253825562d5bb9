package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// addRaftVoter answers AddRaftVoter 0–1 (KIP-853, answers when committed KIP-1186): a
// member that follows the metadata log gets a vote. Its listeners are known already,
// from when it joined. A zero directory stands for whichever incarnation is there.
func (a *API) addRaftVoter(r *wire.Request) {
	req := r.Body.(*kmsg.AddRaftVoterRequest)
	resp := kmsg.NewPtrAddRaftVoterResponse()
	ctx, cancel := within(r, req.TimeoutMillis)
	defer cancel()
	err := a.ofThisCluster(req.ClusterID)
	if err == nil {
		err = a.quorum.AddVoter(ctx, metadata.BrokerID(req.VoterID), topic.ID(req.VoterDirectoryID))
	}
	resp.ErrorCode, resp.ErrorMessage = a.answer("AddRaftVoter", err)
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// removeRaftVoter answers RemoveRaftVoter 0 (KIP-853): a voter loses its vote and goes
// on following the metadata log.
func (a *API) removeRaftVoter(r *wire.Request) {
	req := r.Body.(*kmsg.RemoveRaftVoterRequest)
	resp := kmsg.NewPtrRemoveRaftVoterResponse()
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	err := a.ofThisCluster(req.ClusterID)
	if err == nil {
		err = a.quorum.RemoveVoter(ctx, metadata.BrokerID(req.VoterID), topic.ID(req.VoterDirectoryID))
	}
	resp.ErrorCode, resp.ErrorMessage = a.answer("RemoveRaftVoter", err)
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// ofThisCluster refuses a request that names another cluster.
func (a *API) ofThisCluster(id *string) error {
	if mine := a.image().ClusterID(); id != nil && *id != "" && *id != mine {
		return refuse(kerr.InconsistentClusterID, "this is cluster "+mine+", not "+*id)
	}
	return nil
}

// Members changes who has the metadata log and who votes on it.
type Members interface {
	AddVoter(ctx context.Context, node metadata.BrokerID, dir topic.ID) error
	RemoveVoter(ctx context.Context, node metadata.BrokerID, dir topic.ID) error
	// Forget takes a node out that does not vote.
	Forget(ctx context.Context, node metadata.BrokerID) error
}
