package group

import "github.com/twmb/franz-go/pkg/kmsg"

// Heartbeat, versions 0 to 4. KIP-345 instance (3).

// heartbeat keeps a member alive and tells it of a rebalance.
func (s *shard) heartbeat(r *kmsg.HeartbeatRequest, answer func(code)) {
	if g := s.groups[r.Group]; g != nil && g.ofConsumers() {
		s.heartbeatConsumers(g, r, answer)
		return
	}
	c := s.heartbeatClassic(r)
	s.later(func() { answer(c) })
}

func (s *shard) heartbeatClassic(r *kmsg.HeartbeatRequest) code {
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
func (s *shard) leave(r *kmsg.LeaveGroupRequest, answer func(*kmsg.LeaveGroupResponse)) {
	resp := kmsg.NewPtrLeaveGroupResponse()
	if r.Group == "" {
		resp.ErrorCode = invalidGroupID
		s.later(func() { answer(resp) })
		return
	}
	who := r.Members
	if r.Version < 3 {
		who = []kmsg.LeaveGroupRequestMember{{MemberID: r.MemberID}}
	}
	s.leaveAll(r.Group, who, func(codes []code) {
		if r.Version < 3 {
			resp.ErrorCode = codes[0]
			answer(resp)
			return
		}
		for i, w := range who {
			m := kmsg.NewLeaveGroupResponseMember()
			m.MemberID, m.InstanceID, m.ErrorCode = w.MemberID, w.InstanceID, codes[i]
			resp.Members = append(resp.Members, m)
		}
		answer(resp)
	})
}

func (s *shard) leaveAll(groupID string, who []kmsg.LeaveGroupRequestMember, answer func([]code)) {
	if g := s.groups[groupID]; g != nil && g.ofConsumers() {
		s.leaveConsumers(g, who, answer)
		return
	}
	codes := make([]code, len(who))
	for i, m := range who {
		codes[i] = s.leaveOne(groupID, m.MemberID, m.InstanceID, reason(m))
	}
	s.later(func() { answer(codes) })
}

// reason is why a member says it leaves.
func reason(m kmsg.LeaveGroupRequestMember) string {
	if m.Reason != nil && *m.Reason != "" {
		return *m.Reason
	}
	return "left"
}

func (s *shard) leaveOne(groupID, memberID string, instance *string, why string) code {
	g := s.groups[groupID]
	switch {
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
