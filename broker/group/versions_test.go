package group

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request gives a request as it comes in by the wire in a version: what the version does
// not carry is as its reader fills it in.
func request[R kmsg.Request](t *testing.T, version int16, r R, empty R) R {
	t.Helper()
	version = min(version, r.MaxVersion())
	r.SetVersion(version)
	empty.SetVersion(version)
	if err := empty.ReadFrom(r.AppendTo(nil)); err != nil {
		t.Fatalf("%T version %d: %v", r, version, err)
	}
	return empty
}

// response gives a response as it arrives by the wire in a version.
func response[R kmsg.Response](t *testing.T, version int16, r R, empty R) R {
	t.Helper()
	version = min(version, r.MaxVersion())
	r.SetVersion(version)
	empty.SetVersion(version)
	if err := empty.ReadFrom(r.AppendTo(nil)); err != nil {
		t.Fatalf("%T version %d: %v", r, version, err)
	}
	return empty
}

// TestEveryVersion lives a member's whole life in each version that is served, with
// requests and responses through their bytes.
func TestEveryVersion(t *testing.T) {
	for version := range int16(10) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.publish(nil)
			l := &versionLife{t: t, w: w, v: version}
			l.join()
			l.sync()
			l.commit()
			l.fetch()
			l.describe()
			l.leave()
			l.delete()
			w.stop()
		})
	}
}

type versionLife struct {
	t      *testing.T
	w      *world
	v      int16
	member string
}

func (l *versionLife) join() {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = "g", 10_000, 20_000, "consumer"
	r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription("t")}}
	var resp *kmsg.JoinGroupResponse
	join := func() {
		l.w.JoinGroup(Client{ID: "c", Host: "/h"}, request(l.t, l.v, r, kmsg.NewPtrJoinGroupRequest()), func(got *kmsg.JoinGroupResponse) {
			resp = response(l.t, l.v, got, kmsg.NewPtrJoinGroupResponse())
		})
		synctest.Wait()
	}
	join()
	if l.v >= 4 {
		if resp.ErrorCode != memberIDRequired {
			l.t.Fatalf("version %d: first join gives %s", l.v, named(resp.ErrorCode))
		}
		r.MemberID = resp.MemberID
		join()
	}
	if resp.ErrorCode != none || resp.Generation != 1 || *resp.Protocol != "range" || resp.LeaderID != resp.MemberID || len(resp.Members) != 1 {
		l.t.Fatalf("version %d: join gives %+v", l.v, resp)
	}
	if l.v >= 7 && *resp.ProtocolType != "consumer" {
		l.t.Errorf("version %d: protocol type is %q", l.v, *resp.ProtocolType)
	}
	l.member = resp.MemberID
}

func (l *versionLife) sync() {
	r := kmsg.NewPtrSyncGroupRequest()
	kind, protocol := "consumer", "range"
	r.Group, r.MemberID, r.Generation, r.ProtocolType, r.Protocol = "g", l.member, 1, &kind, &protocol
	r.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: l.member, MemberAssignment: []byte("all")}}
	var resp *kmsg.SyncGroupResponse
	l.w.SyncGroup(Client{}, request(l.t, l.v, r, kmsg.NewPtrSyncGroupRequest()), func(got *kmsg.SyncGroupResponse) {
		resp = response(l.t, l.v, got, kmsg.NewPtrSyncGroupResponse())
	})
	synctest.Wait()
	if resp == nil || resp.ErrorCode != none || string(resp.MemberAssignment) != "all" {
		l.t.Fatalf("version %d: sync gives %+v", l.v, resp)
	}
	h := kmsg.NewPtrHeartbeatRequest()
	h.Group, h.MemberID, h.Generation = "g", l.member, 1
	beat := response(l.t, l.v, l.w.heartbeat(request(l.t, l.v, h, kmsg.NewPtrHeartbeatRequest())), kmsg.NewPtrHeartbeatResponse())
	if beat.ErrorCode != none {
		l.t.Errorf("version %d: heartbeat gives %s", l.v, named(beat.ErrorCode))
	}
}

func (l *versionLife) commit() {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.MemberID, r.Generation = "g", l.member, 1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch = 42, 3
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	var resp *kmsg.OffsetCommitResponse
	version := min(l.v, 9)
	l.w.OffsetCommit(request(l.t, version, r, kmsg.NewPtrOffsetCommitRequest()), func(got *kmsg.OffsetCommitResponse) {
		resp = response(l.t, version, got, kmsg.NewPtrOffsetCommitResponse())
	})
	synctest.Wait()
	want := none
	if l.v == 0 { // carries no member: nobody commits from outside while there is one
		want = unknownMember
	}
	if c := resp.Topics[0].Partitions[0].ErrorCode; c != want {
		l.t.Errorf("version %d: commit gives %s, want %s", l.v, named(c), named(want))
	}
}

func (l *versionLife) fetch() {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Group = "g"
	r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "g"
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}
	r.Groups = []kmsg.OffsetFetchRequestGroup{g}
	version := min(l.v, 9)
	resp := response(l.t, version, l.w.OffsetFetch(request(l.t, version, r, kmsg.NewPtrOffsetFetchRequest())), kmsg.NewPtrOffsetFetchResponse())
	var at int64
	epoch := int32(-1)
	if version < 8 {
		at, epoch = resp.Topics[0].Partitions[0].Offset, resp.Topics[0].Partitions[0].LeaderEpoch
	} else {
		at, epoch = resp.Groups[0].Topics[0].Partitions[0].Offset, resp.Groups[0].Topics[0].Partitions[0].LeaderEpoch
	}
	wantAt, wantEpoch := int64(42), int32(-1)
	if l.v == 0 {
		wantAt = -1
	}
	if l.v >= 6 {
		wantEpoch = 3
	}
	if at != wantAt || epoch != wantEpoch {
		l.t.Errorf("version %d: fetch gives %d epoch %d, want %d epoch %d", l.v, at, epoch, wantAt, wantEpoch)
	}
}

func (l *versionLife) describe() {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = []string{"g", "nobody"}
	resp := response(l.t, l.v, l.w.DescribeGroups(request(l.t, l.v, r, kmsg.NewPtrDescribeGroupsRequest())), kmsg.NewPtrDescribeGroupsResponse())
	g, nobody := resp.Groups[0], resp.Groups[1]
	if g.State != "Stable" || g.Protocol != "range" || len(g.Members) != 1 || string(g.Members[0].MemberAssignment) != "all" || g.Members[0].ClientHost != "/h" {
		l.t.Errorf("version %d: group is described as %+v", l.v, g)
	}
	want := none
	if l.v >= 6 {
		want = groupNotFound
	}
	if nobody.State != "Dead" || nobody.ErrorCode != want {
		l.t.Errorf("version %d: an unknown group is described as %+v", l.v, nobody)
	}
	list := response(l.t, l.v, l.w.ListGroups(request(l.t, l.v, kmsg.NewPtrListGroupsRequest(), kmsg.NewPtrListGroupsRequest())), kmsg.NewPtrListGroupsResponse())
	if len(list.Groups) != 1 || list.Groups[0].Group != "g" || list.Groups[0].ProtocolType != "consumer" {
		l.t.Errorf("version %d: list is %+v", l.v, list.Groups)
	}
}

func (l *versionLife) leave() {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group, r.MemberID = "g", l.member
	r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: l.member}, {MemberID: "nobody"}}
	var resp *kmsg.LeaveGroupResponse
	l.w.LeaveGroup(request(l.t, l.v, r, kmsg.NewPtrLeaveGroupRequest()), func(got *kmsg.LeaveGroupResponse) {
		resp = response(l.t, l.v, got, kmsg.NewPtrLeaveGroupResponse())
	})
	synctest.Wait()
	var codes []code
	for _, m := range resp.Members {
		codes = append(codes, m.ErrorCode)
	}
	if resp.ErrorCode != none || l.v >= 3 && !slices.Equal(codes, []code{none, unknownMember}) {
		l.t.Errorf("version %d: leave gives %s, %v", l.v, named(resp.ErrorCode), codes)
	}
}

func (l *versionLife) delete() {
	od := kmsg.NewPtrOffsetDeleteRequest()
	od.Group = "g"
	od.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
	l.w.OffsetDelete(request(l.t, 0, od, kmsg.NewPtrOffsetDeleteRequest()), func(got *kmsg.OffsetDeleteResponse) {
		resp := response(l.t, 0, got, kmsg.NewPtrOffsetDeleteResponse())
		if resp.ErrorCode != none || resp.Topics[0].Partitions[0].ErrorCode != none {
			l.t.Errorf("version %d: offset delete gives %+v", l.v, resp)
		}
	})
	synctest.Wait()
	dg := kmsg.NewPtrDeleteGroupsRequest()
	dg.Groups = []string{"g", "nobody"}
	answered := false
	l.w.DeleteGroups(request(l.t, l.v, dg, kmsg.NewPtrDeleteGroupsRequest()), func(got *kmsg.DeleteGroupsResponse) {
		answered = true
		resp := response(l.t, l.v, got, kmsg.NewPtrDeleteGroupsResponse())
		if resp.Groups[0].ErrorCode != none || resp.Groups[1].ErrorCode != groupNotFound {
			l.t.Errorf("version %d: delete gives %+v", l.v, resp.Groups)
		}
	})
	synctest.Wait()
	if !answered {
		l.t.Errorf("version %d: the deletion was not answered", l.v)
	}
}
