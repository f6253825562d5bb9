package group

import "github.com/twmb/franz-go/pkg/kmsg"

// Heartbeat, versions 0 to 4. KIP-345 instance (3).

// heartbeat keeps a member alive and tells it of a rebalance.
func (s *shard) heartbeat(r *kmsg.HeartbeatRequest) code {
	g, m, c := s.current(r.Group, r.MemberID, r.InstanceID, r.Generation)
	if c != none {
		return c
	}
	if m.join == nil && m.sync == nil {
		s.heard(g, m)
	}
	if g.state == preparingRebalance {
		return rebalanceInProgress
	}
	return none
}

// LeaveGroup, versions 0 to 5. KIP-345 several members at once (3), KIP-800 reason (5).

// leave takes members out. Offsets stay.
func (s *shard) leave(r *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	if r.Version < 3 {
		resp.ErrorCode = s.leaveOne(r.Group, r.MemberID, nil, "left")
		return resp
	}
	if r.Group == "" {
		resp.ErrorCode = invalidGroupID
		return resp
	}
	for _, who := range r.Members {
		why := "left"
		if who.Reason != nil && *who.Reason != "" {
			why = *who.Reason
		}
		m := kmsg.NewLeaveGroupResponseMember()
		m.MemberID, m.InstanceID = who.MemberID, who.InstanceID
		m.ErrorCode = s.leaveOne(r.Group, who.MemberID, who.InstanceID, why)
		resp.Members = append(resp.Members, m)
	}
	return resp
}

func (s *shard) leaveOne(groupID, memberID string, instance *string, why string) code {
	g := s.groups[groupID]
	switch {
	case groupID == "":
		return invalidGroupID
	case g == nil:
		return unknownMember
	case g.state == dead:
		return notAvailable
	case instance == nil && g.promised[memberID] != nil:
		s.breakPromise(g, memberID)
		return none
	}
	if instance != nil && memberID == "" { // an administrator takes a static member out by name
		if m := g.static[*instance]; m != nil {
			memberID = m.id
		}
	}
	m, c := g.member(memberID, instance)
	if c != none {
		return c
	}
	s.lost(g, m, why)
	s.forget(g)
	return none
}
