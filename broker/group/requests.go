package group

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup takes a member in; the reply comes when the group's rebalance is complete, at
// most the group's rebalance time-out later. r must stay as it is until then.
func (c *Coordinator) JoinGroup(from Client, r *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.join(from, r, reply) }); why != none {
		reply(joinRefused(r.MemberID, why))
	}
}

// SyncGroup hands a member its assignment; the reply comes when the leader's is committed.
func (c *Coordinator) SyncGroup(_ Client, r *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.sync(r, reply) }); why != none {
		reply(&kmsg.SyncGroupResponse{ErrorCode: why})
	}
}

// Heartbeat keeps a member alive.
func (c *Coordinator) Heartbeat(r *kmsg.HeartbeatRequest, reply func(*kmsg.HeartbeatResponse)) {
	resp := kmsg.NewPtrHeartbeatResponse()
	why := c.do(r.Group, func(s *shard) {
		s.heartbeat(r, func(c code) { resp.ErrorCode = c; reply(resp) })
	})
	switch why {
	case none:
		return
	case loadInProgress:
		// Source: Kafka. A member that hears "loading" would join again; while its
		// group is being read its session does not run, so it is fine as it is.
	default:
		resp.ErrorCode = why
	}
	reply(resp)
}

// ConsumerGroupHeartbeat takes a member of the new protocol in, keeps it alive, takes it
// out, and tells it what it owns; the reply comes when what that changes is committed. r
// must stay as it is until then.
func (c *Coordinator) ConsumerGroupHeartbeat(from Client, r *kmsg.ConsumerGroupHeartbeatRequest, reply func(*kmsg.ConsumerGroupHeartbeatResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.consumerHeartbeat(from, r, reply) }); why != none {
		reply((&refusal{code: why}).heartbeat(nil))
	}
}

// LeaveGroup takes members out.
func (c *Coordinator) LeaveGroup(r *kmsg.LeaveGroupRequest, reply func(*kmsg.LeaveGroupResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.leave(r, reply) }); why != none {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = why
		reply(resp)
	}
}

// OffsetCommit writes offsets down; the reply comes after the high watermark has passed
// them (R31), or after offsets.commit.timeout.ms with REQUEST_TIMED_OUT.
func (c *Coordinator) OffsetCommit(r *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.commit(r, reply) }); why != none {
		resp := kmsg.NewPtrOffsetCommitResponse()
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, why
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		reply(resp)
	}
}

// OffsetFetch gives committed offsets, of one group or (from version 8 on) of several.
func (c *Coordinator) OffsetFetch(r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if r.Version >= 8 {
		for _, g := range r.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group = g.Group
			who := fetcher{id: g.MemberID, epoch: g.MemberEpoch}
			rg.Topics, rg.ErrorCode = c.fetchGroup(g.Group, who, g.Topics, r.RequireStable)
			resp.Groups = append(resp.Groups, rg)
		}
		return resp
	}
	var topics []kmsg.OffsetFetchRequestGroupTopic
	if r.Topics != nil || r.Version < 2 {
		topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range r.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		topics = append(topics, gt)
	}
	found, why := c.fetchGroup(r.Group, fetcher{epoch: -1}, topics, r.RequireStable)
	resp.ErrorCode = why
	if why != none && r.Version < 2 {
		found = refusedFetch(topics, why)
	}
	for _, t := range found {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p.Partition, p.Offset, p.LeaderEpoch
			rp.Metadata, rp.ErrorCode = p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (c *Coordinator) fetchGroup(id string, who fetcher, topics []kmsg.OffsetFetchRequestGroupTopic, stable bool) (out []kmsg.OffsetFetchResponseGroupTopic, why code) {
	refused := none
	why = c.do(id, func(s *shard) {
		if refused = s.mayFetch(id, who); refused == none {
			out = s.fetch(id, topics, stable)
		}
	})
	return out, max(why, refused)
}

// refusedFetch says for each partition what the versions 0 and 1 have no other place for.
func refusedFetch(topics []kmsg.OffsetFetchRequestGroupTopic, why code) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(topics))
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := fetched(n, offset{}, false)
			rp.ErrorCode = why
			rt.Partitions = append(rt.Partitions, rp)
		}
		out = append(out, rt)
	}
	return out
}

// OffsetDelete forgets offsets; the reply comes when that is committed.
func (c *Coordinator) OffsetDelete(r *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse)) {
	if why := c.do(r.Group, func(s *shard) { s.deleteOffsets(r, reply) }); why != none {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = why
		reply(resp)
	}
}

// DeleteGroups deletes groups without members; the reply comes when all of it is committed.
func (c *Coordinator) DeleteGroups(r *kmsg.DeleteGroupsRequest, reply func(*kmsg.DeleteGroupsResponse)) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(r.Groups))
	if len(r.Groups) == 0 {
		reply(resp)
		return
	}
	var mu sync.Mutex
	left := len(r.Groups)
	for i, id := range r.Groups {
		one := func(why code) {
			mu.Lock()
			resp.Groups[i].Group, resp.Groups[i].ErrorCode = id, why
			left--
			last := left == 0
			mu.Unlock()
			if last {
				reply(resp)
			}
		}
		if why := c.do(id, func(s *shard) { s.deleteGroup(id, one) }); why != none {
			one(why)
		}
	}
}

// DescribeGroups shows groups and their members.
func (c *Coordinator) DescribeGroups(r *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range r.Groups {
		var g kmsg.DescribeGroupsResponseGroup
		why := c.do(id, func(s *shard) { g = s.describe(id, r.Version, r.IncludeAuthorizedOperations) })
		if why != none {
			g = undescribed(id, why, r.Version)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// ConsumerGroupDescribe shows groups of the new protocol and their members.
func (c *Coordinator) ConsumerGroupDescribe(r *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, id := range r.Groups {
		var g kmsg.ConsumerGroupDescribeResponseGroup
		if why := c.do(id, func(s *shard) { g = s.describeConsumers(id) }); why != none {
			g = kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode = id, why
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// ListGroups gives the groups that this broker coordinates. While some are still being
// loaded the answer says so, beside those that are there.
func (c *Coordinator) ListGroups(r *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	resp := kmsg.NewPtrListGroupsResponse()
	for _, h := range c.hosts.All() {
		why := on(h, func(s *shard) { resp.Groups = append(resp.Groups, s.list(r.StatesFilter, r.TypesFilter)...) })
		if why == loadInProgress {
			resp.ErrorCode = why
		}
	}
	return resp
}
