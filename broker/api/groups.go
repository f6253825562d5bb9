package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// The group APIs say in Kafka's words what the coordinator already speaks, so
// they share this file: JoinGroup 0–9, SyncGroup 0–5, Heartbeat 0–4, LeaveGroup
// 0–5, OffsetDelete 0, DeleteGroups 0–2, DescribeGroups 0–6,
// ListGroups 0–5, ConsumerGroupHeartbeat 0–1, ConsumerGroupDescribe 0–1. What may have to wait for members or the log is answered later.

func (a *API) joinGroup(r *wire.Request) {
	a.groups.JoinGroup(client(r), r.Body.(*kmsg.JoinGroupRequest), func(resp *kmsg.JoinGroupResponse) {
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

func (a *API) syncGroup(r *wire.Request) {
	a.groups.SyncGroup(client(r), r.Body.(*kmsg.SyncGroupRequest), func(resp *kmsg.SyncGroupResponse) {
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

func (a *API) heartbeat(r *wire.Request) {
	a.groups.Heartbeat(r.Body.(*kmsg.HeartbeatRequest), func(resp *kmsg.HeartbeatResponse) {
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

func (a *API) consumerGroupHeartbeat(r *wire.Request) {
	if a.image().Features()[metadata.FeatureGroupVersion] < 1 {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		resp.ErrorMessage = text("the feature group.version is at level 0; raise it to 1")
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	a.groups.ConsumerGroupHeartbeat(client(r), r.Body.(*kmsg.ConsumerGroupHeartbeatRequest), func(resp *kmsg.ConsumerGroupHeartbeatResponse) {
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

func (a *API) leaveGroup(r *wire.Request) {
	a.groups.LeaveGroup(r.Body.(*kmsg.LeaveGroupRequest), func(resp *kmsg.LeaveGroupResponse) {
		code := first(resp.ErrorCode)
		for _, m := range resp.Members {
			code.see(m.ErrorCode)
		}
		r.Answer(wire.Message(resp, int16(code)))
	})
}

func (a *API) offsetDelete(r *wire.Request) {
	a.groups.OffsetDelete(r.Body.(*kmsg.OffsetDeleteRequest), func(resp *kmsg.OffsetDeleteResponse) {
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

func (a *API) deleteGroups(r *wire.Request) {
	a.groups.DeleteGroups(r.Body.(*kmsg.DeleteGroupsRequest), func(resp *kmsg.DeleteGroupsResponse) {
		var code first
		for _, g := range resp.Groups {
			code.see(g.ErrorCode)
		}
		r.Answer(wire.Message(resp, int16(code)))
	})
}

func (a *API) describeGroups(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeGroupsRequest)
	req.Groups = unique(req.Groups, same[string])
	resp := a.groups.DescribeGroups(req)
	var code first
	for i := range resp.Groups {
		g := &resp.Groups[i]
		code.see(g.ErrorCode)
		if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
			g.AuthorizedOperations = groupOperations
		}
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func (a *API) consumerGroupDescribe(r *wire.Request) {
	req := r.Body.(*kmsg.ConsumerGroupDescribeRequest)
	req.Groups = unique(req.Groups, same[string])
	resp := a.groups.ConsumerGroupDescribe(req)
	var code first
	for i := range resp.Groups {
		g := &resp.Groups[i]
		code.see(g.ErrorCode)
		if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
			g.AuthorizedOperations = groupOperations
		}
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func (a *API) listGroups(r *wire.Request) {
	resp := a.groups.ListGroups(r.Body.(*kmsg.ListGroupsRequest))
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
