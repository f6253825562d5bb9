package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

const coordinatorOfGroup = 0

// findCoordinator answers FindCoordinator 0–6 (batched since 4, KIP-699). The
// first question creates __consumer_offsets.
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

// coordinator finds the leader of the partition that a group lives in.
func (a *API) coordinator(ctx context.Context, kind int8, key string, r *wire.Request) (metadata.BrokerID, metadata.Endpoint, error) {
	none := metadata.Endpoint{}
	if kind != coordinatorOfGroup {
		return metadata.NoBroker, none, refuse(kerr.InvalidRequest, fmt.Sprintf("no coordinator of type %d is served for %q: only consumer groups (type 0); for a producer, leave transactional.id out", kind, key))
	}
	t := a.image().Topic(topic.ConsumerOffsets)
	if t == nil {
		if err := a.create(ctx, topic.ConsumerOffsets); err != nil {
			a.log.Warn("cannot create internal topic", "topic", topic.ConsumerOffsets, "err", err)
			return metadata.NoBroker, none, refuse(kerr.CoordinatorNotAvailable, fmt.Sprintf("cannot create %s: %v", topic.ConsumerOffsets, err))
		}
		if t = a.image().Topic(topic.ConsumerOffsets); t == nil {
			return metadata.NoBroker, none, refuse(kerr.CoordinatorNotAvailable, topic.ConsumerOffsets+" was deleted just now: ask again")
		}
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
