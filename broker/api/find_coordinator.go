package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Kinds of keys.
const (
	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
)

// findCoordinator answers FindCoordinator 0–6 (batched since 4, KIP-699). The
// first question of a kind creates __consumer_offsets or __transaction_state.
func (a *API) findCoordinator(r *wire.Request) {
	req := r.Body.(*kmsg.FindCoordinatorRequest)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	var code first
	for _, key := range keys {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.NodeID, c.Port = key, -1, -1
		id, e, err := a.coordinator(r.Context(), req.CoordinatorType, key, r)
		c.ErrorCode, c.ErrorMessage = a.answer("FindCoordinator", err)
		if err == nil {
			c.NodeID, c.Host, c.Port = int32(id), e.Host, e.Port
		}
		code.see(c.ErrorCode)
		resp.Coordinators = append(resp.Coordinators, c)
	}
	if req.Version < 4 {
		c := resp.Coordinators[0]
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		resp.Coordinators = nil
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// coordinator finds the leader of the partition that a group or a transactional ID lives in.
func (a *API) coordinator(ctx context.Context, kind int8, key string, r *wire.Request) (metadata.BrokerID, metadata.Endpoint, error) {
	none := metadata.Endpoint{}
	name := topic.ConsumerOffsets
	switch kind {
	case coordinatorOfGroup:
	case coordinatorOfTransaction:
		name = topic.TransactionState
		if key == "" || len(key) > txn.MaxID {
			return metadata.NoBroker, none, refuse(kerr.InvalidRequest, fmt.Sprintf("a transactional.id of %d bytes: 1 to %d are allowed", len(key), txn.MaxID))
		}
	default:
		return metadata.NoBroker, none, refuse(kerr.InvalidRequest, fmt.Sprintf("no coordinator of type %d is served for %q: only consumer groups (type 0) and transactions (type 1)", kind, key))
	}
	t, err := a.internal(ctx, name)
	if err != nil {
		return metadata.NoBroker, none, err
	}
	p := journal.PartitionOf(key, len(t.Partitions))
	leader := t.Partitions[p].Leader
	b := a.image().Broker(leader)
	if b == nil {
		return metadata.NoBroker, none, refuse(kerr.CoordinatorNotAvailable, fmt.Sprintf("%s-%d has no leader now: ask again", t.Name, p))
	}
	e, ok := endpoint(b, r)
	if !ok {
		return metadata.NoBroker, none, refuse(kerr.CoordinatorNotAvailable, fmt.Sprintf("broker %d has no listener %q", leader, r.Session.Listener))
	}
	return leader, e, nil
}

// internal gives an internal topic, which is created when it is asked for first.
//
// Errors: refusals with COORDINATOR_NOT_AVAILABLE, after which asking again helps.
func (a *API) internal(ctx context.Context, name string) (*metadata.Topic, error) {
	if t := a.image().Topic(name); t != nil {
		return t, nil
	}
	if err := a.create(ctx, name); err != nil {
		a.log.Warn("cannot create internal topic", "topic", name, "err", err)
		return nil, refuse(kerr.CoordinatorNotAvailable, fmt.Sprintf("cannot create %s: %v", name, err))
	}
	if t := a.image().Topic(name); t != nil {
		return t, nil
	}
	return nil, refuse(kerr.CoordinatorNotAvailable, name+" was deleted just now: ask again")
}
