package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// brokerRegistration answers BrokerRegistration 0–4 (KIP-631; the epoch of the
// registration before since 3, KIP-966).
func (a *API) brokerRegistration(r *wire.Request) {
	req := r.Body.(*kmsg.BrokerRegistrationRequest)
	resp := kmsg.NewPtrBrokerRegistrationResponse()
	resp.BrokerEpoch = controller.NoEpoch
	reg := controller.Registration{ClusterID: req.ClusterID, Previous: controller.NoEpoch}
	if r.Version >= 3 {
		reg.Previous = req.PreviousBrokerEpoch
	}
	reg.Broker = metadata.Broker{ID: metadata.BrokerID(req.BrokerID), Incarnation: topic.ID(req.IncarnationID)}
	if req.Rack != nil {
		reg.Broker.Rack = *req.Rack
	}
	for _, l := range req.Listeners {
		reg.Broker.Endpoints = append(reg.Broker.Endpoints, metadata.Endpoint{Listener: l.Name, Host: l.Host, Port: int32(l.Port), Security: l.SecurityProtocol})
	}
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	epoch, err := a.controller.RegisterBroker(ctx, reg)
	if resp.ErrorCode, _ = a.answer("BrokerRegistration", err); err == nil {
		resp.BrokerEpoch = epoch
	} else {
		a.log.Warn("a broker could not be registered", "broker", req.BrokerID, "from", r.Session.Remote, "err", err)
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// brokerHeartbeat answers BrokerHeartbeat 0–2 (KIP-631).
func (a *API) brokerHeartbeat(r *wire.Request) {
	req := r.Body.(*kmsg.BrokerHeartbeatRequest)
	resp := kmsg.NewPtrBrokerHeartbeatResponse()
	h := controller.Heartbeat{
		ID: metadata.BrokerID(req.BrokerID), Epoch: req.BrokerEpoch, Seen: uint64(max(0, req.CurrentMetadataOffset)),
		Fence: req.WantFence, Shutdown: req.WantShutdown, Tie: r.Context(),
	}
	req.UnknownTags.Each(func(tag uint32, v []byte) {
		switch tag {
		case peer.TagOffline:
			h.Offline = peer.ReadOffline(v)
		case peer.TagDamaged:
			h.Damaged = peer.ReadDamaged(v)
		}
	})
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	p, err := a.controller.Heartbeat(ctx, h)
	resp.ErrorCode, _ = a.answer("BrokerHeartbeat", err)
	resp.IsCaughtUp, resp.IsFenced, resp.ShouldShutdown = p.CaughtUp, p.Fenced || err != nil, p.MayStop
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// alterPartition answers AlterPartition 0–3 (KIP-497; topics by ID since 2, the epochs
// of the members since 3, KIP-903).
func (a *API) alterPartition(r *wire.Request) {
	req := r.Body.(*kmsg.AlterPartitionRequest)
	resp := kmsg.NewPtrAlterPartitionResponse()
	var changes []controller.ISRChange
	for _, t := range req.Topics {
		id := topic.ID(t.TopicID)
		if r.Version < 2 {
			if known := a.image().Topic(t.Topic); known != nil {
				id = known.ID
			}
		}
		for _, p := range t.Partitions {
			c := controller.ISRChange{Topic: id, Partition: p.Partition, LeaderEpoch: record.Epoch(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch}
			for _, id := range p.NewISR {
				c.ISR = append(c.ISR, controller.Member{ID: metadata.BrokerID(id), Epoch: controller.NoEpoch})
			}
			for _, m := range p.NewEpochISR {
				c.ISR = append(c.ISR, controller.Member{ID: metadata.BrokerID(m.BrokerID), Epoch: m.BrokerEpoch})
			}
			changes = append(changes, c)
		}
	}
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	done, err := a.controller.AlterISR(ctx, metadata.BrokerID(req.BrokerID), req.BrokerEpoch, changes)
	if err != nil {
		resp.ErrorCode, _ = a.answer("AlterPartition", err)
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	var code first
	for _, t := range req.Topics {
		rt := kmsg.NewAlterPartitionResponseTopic()
		rt.Topic, rt.TopidID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterPartitionResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode, _ = a.answer("AlterPartition", done[0].Err)
			if s := &done[0].State; rp.ErrorCode == 0 {
				rp.LeaderID, rp.LeaderEpoch, rp.PartitionEpoch, rp.ISR = int32(s.Leader), int32(s.LeaderEpoch), s.PartitionEpoch, brokerIDs(s.ISR)
			}
			done = done[1:]
			code.see(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// allocateProducerIDs answers AllocateProducerIds 0 (KIP-730).
func (a *API) allocateProducerIDs(r *wire.Request) {
	req := r.Body.(*kmsg.AllocateProducerIDsRequest)
	resp := kmsg.NewPtrAllocateProducerIDsResponse()
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	var err error
	if leads, _ := a.quorum.Leading(); !leads {
		err = quorum.ErrNoLeader // as far as this node can say; its image may be old
	} else if b := a.image().Broker(metadata.BrokerID(req.BrokerID)); b == nil || b.Epoch != req.BrokerEpoch {
		err = &controller.Refusal{Code: kerr.StaleBrokerEpoch.Code, Message: "the broker is registered with another epoch"}
	}
	var first int64
	var n int
	if err == nil {
		first, n, err = a.controller.ProducerIDs(ctx)
	}
	if resp.ErrorCode, _ = a.answer("AllocateProducerIds", err); err == nil {
		resp.ProducerIDStart, resp.ProducerIDLen = first, int32(n)
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
