package api_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func askFindCoordinator(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKey, req.CoordinatorKeys = v, "g", []string{"g", "h"}
	resp := w.raw.ask(req).(*kmsg.FindCoordinatorResponse)
	host, port := w.node.Host()
	if v < 4 {
		code(t, resp.ErrorCode, nil)
		if resp.Host != host || fmt.Sprint(resp.Port) != port {
			t.Errorf("coordinator at %s:%d, want %s:%s", resp.Host, resp.Port, host, port)
		}
	} else if len(resp.Coordinators) != 2 || resp.Coordinators[1].Key != "h" || resp.Coordinators[1].Host != host {
		t.Errorf("coordinators %+v, want two at %s", resp.Coordinators, host)
	}
	if v < 1 {
		return
	}
	for _, kind := range []struct {
		kind int8
		key  string
		want *kerr.Error
	}{{1, "tx", nil}, {1, "", kerr.InvalidRequest}, {2, "g", kerr.InvalidRequest}} {
		req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind.kind, kind.key, []string{kind.key}
		resp = w.raw.ask(req).(*kmsg.FindCoordinatorResponse)
		if v < 4 {
			code(t, resp.ErrorCode, kind.want)
		} else {
			code(t, resp.Coordinators[0].ErrorCode, kind.want)
		}
	}
}

// join makes a member of a group of its own, alone and so leader of generation 1.
func (w *world) join(t *testing.T, group string, v int16) *kmsg.JoinGroupResponse {
	t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType = v, group, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte("what I want")
	req.Protocols = append(req.Protocols, p)
	resp := w.raw.ask(req).(*kmsg.JoinGroupResponse)
	if v >= 4 && resp.ErrorCode == kerr.MemberIDRequired.Code { // KIP-394
		req.MemberID = resp.MemberID
		resp = w.raw.ask(req).(*kmsg.JoinGroupResponse)
	}
	code(t, resp.ErrorCode, nil)
	return resp
}

func (w *world) sync(t *testing.T, group string, v int16, j *kmsg.JoinGroupResponse) *kmsg.SyncGroupResponse {
	t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.Generation, req.MemberID = v, group, j.Generation, j.MemberID
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = j.MemberID, []byte("what you get")
	req.GroupAssignment = append(req.GroupAssignment, a)
	resp := w.raw.ask(req).(*kmsg.SyncGroupResponse)
	code(t, resp.ErrorCode, nil)
	return resp
}

func (w *world) leave(t *testing.T, group string, v int16, member string) *kmsg.LeaveGroupResponse {
	t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.MemberID = v, group, member
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	req.Members = append(req.Members, m)
	return w.raw.ask(req).(*kmsg.LeaveGroupResponse)
}

func askJoinGroup(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("join-%d", v)
	j := w.join(t, group, v)
	if j.Generation != 1 || j.LeaderID != j.MemberID || len(j.Members) != 1 || string(j.Members[0].ProtocolMetadata) != "what I want" {
		t.Errorf("joined as %+v, want the leader of generation 1 alone", j)
	}
	w.leave(t, group, 0, j.MemberID)
}

func askSyncGroup(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("sync-%d", v)
	j := w.join(t, group, 5)
	if s := w.sync(t, group, v, j); string(s.MemberAssignment) != "what you get" {
		t.Errorf("assigned %q", s.MemberAssignment)
	}
	w.leave(t, group, 0, j.MemberID)
}

func askHeartbeat(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("heartbeat-%d", v)
	j := w.join(t, group, 5)
	w.sync(t, group, 3, j)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.Generation, req.MemberID = v, group, j.Generation, j.MemberID
	code(t, w.raw.ask(req).(*kmsg.HeartbeatResponse).ErrorCode, nil)
	req.Generation++
	code(t, w.raw.ask(req).(*kmsg.HeartbeatResponse).ErrorCode, kerr.IllegalGeneration)
	req.MemberID = "nobody"
	code(t, w.raw.ask(req).(*kmsg.HeartbeatResponse).ErrorCode, kerr.UnknownMemberID)
	w.leave(t, group, 0, j.MemberID)
}

func askLeaveGroup(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("leave-%d", v)
	j := w.join(t, group, 5)
	resp := w.leave(t, group, v, j.MemberID)
	code(t, resp.ErrorCode, nil)
	if v >= 3 && (len(resp.Members) != 1 || resp.Members[0].ErrorCode != 0) {
		t.Errorf("left: %+v", resp.Members)
	}
	resp = w.leave(t, group, v, j.MemberID)
	if v < 3 {
		code(t, resp.ErrorCode, kerr.UnknownMemberID)
	} else {
		code(t, resp.Members[0].ErrorCode, kerr.UnknownMemberID)
	}
}

func askOffsetCommit(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("commit-%d", v)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Topics = v, group, commitTopics(1)
	req.Topics[0].TopicID = w.id
	bad, why := kmsg.NewOffsetCommitRequestTopic(), kerr.UnknownTopicOrPartition
	if v >= 10 {
		why = kerr.UnknownTopicID
	}
	bad.Topic, bad.TopicID, bad.Partitions = "nowhere", [16]byte{1}, req.Topics[0].Partitions
	req.Topics = append(req.Topics, bad)
	resp := w.raw.ask(req).(*kmsg.OffsetCommitResponse)
	for _, rt := range resp.Topics {
		if v < 10 && rt.Topic == "t" || v >= 10 && rt.TopicID == w.id {
			code(t, rt.Partitions[0].ErrorCode, nil)
		} else {
			code(t, rt.Partitions[0].ErrorCode, why)
		}
	}
	if v >= 1 {
		req.Topics, req.Generation, req.MemberID = req.Topics[:1], 5, "nobody"
		if got := w.raw.ask(req).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; got == 0 {
			t.Error("a commit of an unknown member is taken")
		}
	}
}

func askOffsetFetch(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = v, "g"
	topic := kmsg.NewOffsetFetchRequestTopic()
	topic.Topic, topic.Partitions = "t", []int32{0, 1}
	req.Topics = append(req.Topics, topic)
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = "g"
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = "t", w.id, []int32{0, 1}
	group.Topics = append(group.Topics, gt)
	other := kmsg.NewOffsetFetchRequestGroup()
	other.Group = "unknown"
	req.Groups = append(req.Groups, group, other)
	resp := w.raw.ask(req).(*kmsg.OffsetFetchResponse)
	type offset struct {
		at   int64
		meta string
	}
	var got []offset
	if v < 8 {
		code(t, resp.ErrorCode, nil)
		for _, p := range resp.Topics[0].Partitions {
			got = append(got, offset{p.Offset, *p.Metadata})
		}
	} else {
		if len(resp.Groups) != 2 || resp.Groups[1].Group != "unknown" {
			t.Fatalf("groups %+v, want both", resp.Groups)
		}
		code(t, resp.Groups[0].ErrorCode, nil)
		for _, p := range resp.Groups[0].Topics[0].Partitions {
			got = append(got, offset{p.Offset, *p.Metadata})
		}
	}
	if want := []offset{{2, "meta"}, {-1, ""}}; !slices.Equal(got, want) {
		t.Errorf("offsets %v, want %v", got, want)
	}
	if v >= 2 {
		req.Topics, req.Groups = nil, req.Groups[:1]
		req.Groups[0].Topics = nil
		resp = w.raw.ask(req).(*kmsg.OffsetFetchResponse)
		if n := len(resp.Topics); v < 8 && n != 1 {
			t.Errorf("all topics of the group are %d, want 1", n)
		}
		if v >= 8 && len(resp.Groups[0].Topics) != 1 {
			t.Errorf("all topics of the group are %+v, want 1", resp.Groups[0].Topics)
		}
		if v >= 10 && resp.Groups[0].Topics[0].TopicID != w.id {
			t.Errorf("the topic's ID is %x, want %x", resp.Groups[0].Topics[0].TopicID, w.id)
		}
	}
	if v >= 10 {
		gt.TopicID = [16]byte{1}
		req.Groups[0].Topics = []kmsg.OffsetFetchRequestGroupTopic{gt}
		resp = w.raw.ask(req).(*kmsg.OffsetFetchResponse)
		code(t, resp.Groups[0].Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
	}
}

func askDescribeGroups(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("describe-%d", v)
	j := w.join(t, group, 5)
	w.sync(t, group, 3, j)
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups, req.IncludeAuthorizedOperations = v, []string{group, "unknown"}, true
	resp := w.raw.ask(req).(*kmsg.DescribeGroupsResponse)
	g := resp.Groups[0]
	code(t, g.ErrorCode, nil)
	if g.State != "Stable" || g.ProtocolType != "consumer" || g.Protocol != "range" || len(g.Members) != 1 {
		t.Fatalf("group %+v, want it stable with one member", g)
	}
	if m := g.Members[0]; m.ClientID != "raw" || m.ClientHost != "/127.0.0.1" || string(m.MemberAssignment) != "what you get" {
		t.Errorf("member %+v", m)
	}
	if v >= 3 && g.AuthorizedOperations <= 0 {
		t.Errorf("authorized operations %d", g.AuthorizedOperations)
	}
	if u := resp.Groups[1]; v < 6 && (u.ErrorCode != 0 || u.State != "Dead") || v >= 6 && u.ErrorCode != kerr.GroupIDNotFound.Code {
		t.Errorf("unknown group %+v", u)
	}
	w.leave(t, group, 0, j.MemberID)
}

func askListGroups(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("list-%d", v)
	j := w.join(t, group, 5)
	w.sync(t, group, 3, j)
	req := kmsg.NewPtrListGroupsRequest()
	req.Version = v
	has := func() bool {
		resp := w.raw.ask(req).(*kmsg.ListGroupsResponse)
		code(t, resp.ErrorCode, nil)
		return slices.ContainsFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool {
			return g.Group == group && g.ProtocolType == "consumer" && (v < 4 || g.GroupState == "Stable") && (v < 5 || g.GroupType == "classic")
		})
	}
	if !has() {
		t.Error("the group is not listed")
	}
	if v >= 4 {
		if req.StatesFilter = []string{"Empty"}; has() {
			t.Error("a stable group is listed as empty")
		}
		if req.StatesFilter = []string{"Stable"}; !has() {
			t.Error("the stable group is not listed")
		}
	}
	w.leave(t, group, 0, j.MemberID)
}

func askDeleteGroups(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("gone-%d", v)
	j := w.join(t, group, 5)
	w.sync(t, group, 3, j)
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = v, []string{group, "unknown"}
	codes := map[string]int16{}
	ask := func() {
		for _, g := range w.raw.ask(req).(*kmsg.DeleteGroupsResponse).Groups {
			codes[g.Group] = g.ErrorCode
		}
	}
	ask()
	code(t, codes[group], kerr.NonEmptyGroup)
	code(t, codes["unknown"], kerr.GroupIDNotFound)
	w.leave(t, group, 0, j.MemberID)
	ask()
	code(t, codes[group], nil)
	ask()
	code(t, codes[group], kerr.GroupIDNotFound)
}

func askOffsetDelete(t *testing.T, w *world, v int16) {
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Topics = 2, "forget", commitTopics(1)
	code(t, w.raw.ask(commit).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode, nil)
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Version, req.Group = v, "forget"
	topic := kmsg.NewOffsetDeleteRequestTopic()
	topic.Topic = "t"
	topic.Partitions = append(topic.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
	req.Topics = append(req.Topics, topic)
	resp := w.raw.ask(req).(*kmsg.OffsetDeleteResponse)
	code(t, resp.ErrorCode, nil)
	code(t, resp.Topics[0].Partitions[0].ErrorCode, nil)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version, fetch.Group = 2, "forget"
	ft := kmsg.NewOffsetFetchRequestTopic()
	ft.Topic, ft.Partitions = "t", []int32{0}
	fetch.Topics = append(fetch.Topics, ft)
	if got := w.raw.ask(fetch).(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0].Offset; got != -1 {
		t.Errorf("the deleted offset is %d, want -1", got)
	}
	req.Group = "unknown"
	code(t, w.raw.ask(req).(*kmsg.OffsetDeleteResponse).ErrorCode, kerr.GroupIDNotFound)
}

// beat is a heartbeat of the new protocol.
func (w *world) beat(t *testing.T, group string, v int16, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
	t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = v, group, "member", epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 1000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return w.raw.ask(req).(*kmsg.ConsumerGroupHeartbeatResponse)
}

func askConsumerGroupHeartbeat(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("beat-%d", v)
	resp := w.beat(t, group, v, 0)
	code(t, resp.ErrorCode, nil)
	if resp.MemberID == nil || *resp.MemberID != "member" || resp.MemberEpoch < 1 || resp.HeartbeatIntervalMillis != 5000 {
		t.Fatalf("joined: %+v", resp)
	}
	if a := resp.Assignment; a == nil || len(a.Topics) != 1 || !slices.Equal(a.Topics[0].Partitions, []int32{0, 1}) {
		t.Errorf("assigned: %+v", a)
	}
	code(t, w.beat(t, group, v, resp.MemberEpoch).ErrorCode, nil)
	code(t, w.beat(t, group, v, resp.MemberEpoch+1).ErrorCode, kerr.FencedMemberEpoch)
	code(t, w.beat(t, group, v, -1).ErrorCode, nil)
	code(t, w.beat(t, group, v, resp.MemberEpoch).ErrorCode, kerr.UnknownMemberID)
}

func askConsumerGroupDescribe(t *testing.T, w *world, v int16) {
	group := fmt.Sprintf("show-%d", v)
	code(t, w.beat(t, group, 1, 0).ErrorCode, nil)
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Version, req.Groups, req.IncludeAuthorizedOperations = v, []string{group, "unknown"}, true
	resp := w.raw.ask(req).(*kmsg.ConsumerGroupDescribeResponse)
	g := resp.Groups[0]
	code(t, g.ErrorCode, nil)
	if g.State != "Stable" || g.AssignorName != "uniform" || g.AuthorizedOperations <= 0 || len(g.Members) != 1 {
		t.Fatalf("group %+v, want it stable with one member", g)
	}
	m := g.Members[0]
	if m.MemberID != "member" || m.ClientID != "raw" || m.ClientHost != "/127.0.0.1" || !slices.Equal(m.SubscribedTopics, []string{"t"}) || v >= 1 && m.MemberType != 1 {
		t.Errorf("member %+v", m)
	}
	for _, a := range []kmsg.Assignment{m.Assignment, m.TargetAssignment} {
		if len(a.TopicPartitions) != 1 || a.TopicPartitions[0].Topic != "t" || len(a.TopicPartitions[0].Partitions) != 2 {
			t.Errorf("assignment %+v", a)
		}
	}
	code(t, resp.Groups[1].ErrorCode, kerr.GroupIDNotFound)
	old := kmsg.NewPtrDescribeGroupsRequest()
	old.Version, old.Groups = 6, []string{group}
	code(t, w.raw.ask(old).(*kmsg.DescribeGroupsResponse).Groups[0].ErrorCode, kerr.GroupIDNotFound)
	code(t, w.beat(t, group, 1, -1).ErrorCode, nil)
}
