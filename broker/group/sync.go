package group

import "github.com/twmb/franz-go/pkg/kmsg"

// SyncGroup, versions 0 to 5. KIP-345 instance (3), KIP-559 protocol named (5).

// sync hands a member its assignment; the leader brings everybody's. The answer comes when
// the assignment is committed.
func (s *shard) sync(r *kmsg.SyncGroupRequest, answer func(*kmsg.SyncGroupResponse)) {
	if g := s.groups[r.Group]; g != nil && g.ofConsumers() {
		s.syncConsumers(g, r, answer)
		return
	}
	s.syncClassic(r, answer)
}

func (s *shard) syncClassic(r *kmsg.SyncGroupRequest, answer func(*kmsg.SyncGroupResponse)) {
	g, m, c := s.current(r.Group, r.MemberID, r.InstanceID, r.Generation)
	switch {
	case c != none:
	case r.ProtocolType != nil && *r.ProtocolType != g.protocolType, r.Protocol != nil && *r.Protocol != g.protocol:
		c = inconsistentProtocol
	case g.state == preparingRebalance:
		c = rebalanceInProgress
	}
	if c != none {
		s.later(func() { answer(&kmsg.SyncGroupResponse{ErrorCode: c}) })
		return
	}
	m.owing = false
	if g.state == stable {
		s.heard(g, m)
		resp := g.synced(m)
		s.later(func() { answer(resp) })
		return
	}
	s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: rebalanceInProgress}) // an older request of a client that gave up
	m.sync = answer
	s.alarms.off(&m.expiry) // who waits here is not silent
	if m.id == g.leader && !g.assigning {
		s.assign(g, r.GroupAssignment)
	}
}

// current finds a member in the generation it claims to be of.
func (s *shard) current(groupID, memberID string, instance *string, generation int32) (*group, *member, code) {
	g := s.groups[groupID]
	switch {
	case groupID == "":
		return nil, nil, invalidGroupID
	case g == nil:
		return nil, nil, unknownMember
	case g.state == dead:
		return nil, nil, notAvailable
	}
	m, c := g.member(memberID, instance)
	if c == none && generation != g.generation {
		c = illegalGeneration
	}
	return g, m, c
}

// assign takes the leader's assignment in and writes it down.
func (s *shard) assign(g *group, as []kmsg.SyncGroupRequestGroupAssignment) {
	for _, m := range g.members {
		m.assignment = []byte{}
	}
	for _, a := range as {
		if m := g.members[a.MemberID]; m != nil {
			m.assignment = append([]byte{}, a.MemberAssignment...)
		}
	}
	g.assigning = true
	g.since = s.now.UnixMilli()
	generation := g.generation
	s.store(g, func(c code) {
		if g.state != completingRebalance || g.generation != generation || !g.assigning {
			return // another rebalance has answered everybody
		}
		g.assigning = false
		if c != none {
			s.failSync(g, c)
			s.prepare(g)
			return
		}
		s.settle(g)
	})
}

// settle makes a group stable and answers whoever has asked.
func (s *shard) settle(g *group) {
	g.state = stable
	for _, m := range g.everybody() {
		if m.sync != nil {
			s.answerSync(m, g.synced(m))
			s.heard(g, m)
		}
	}
}

func (g *group) synced(m *member) *kmsg.SyncGroupResponse {
	protocolType, protocol := g.protocolType, g.protocol
	return &kmsg.SyncGroupResponse{ProtocolType: &protocolType, Protocol: &protocol, MemberAssignment: m.assignment}
}

// answerSync ends a member's wait for its assignment, if it waits.
func (s *shard) answerSync(m *member, resp *kmsg.SyncGroupResponse) {
	if m.sync == nil {
		return
	}
	answer := m.sync
	m.sync = nil
	s.later(func() { answer(resp) })
}
