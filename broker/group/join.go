package group

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup, versions 0 to 9. KIP-345 static members (5), KIP-394 member ID first (4),
// KIP-559 protocol in the answer (7), KIP-800 reason (8), KIP-814 skipped assignment (9).

// join takes a member into a group, or back into it. The answer comes when the rebalance
// that this starts, or goes on with, has everybody together.
func (s *shard) join(from Client, r *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	j := &joining{from: from, r: r, answer: answer}
	if c := s.sound(j); c != none {
		s.refuse(j, r.MemberID, c)
		if g := s.groups[r.Group]; g != nil && g.promised[r.MemberID] != nil {
			s.breakPromise(g, r.MemberID)
		}
		return
	}
	if g := s.groups[r.Group]; g != nil && g.ofConsumers() {
		s.joinConsumers(g, j)
		return
	}
	s.joinClassic(j)
}

func (s *shard) joinClassic(j *joining) {
	r := j.r
	if c := s.admit(j); c != none {
		s.refuse(j, r.MemberID, c)
		if g := s.groups[r.Group]; g != nil && g.promised[r.MemberID] != nil {
			s.breakPromise(g, r.MemberID)
		}
		return
	}
	g := s.groups[r.Group]
	if g == nil {
		g = s.group(strings.Clone(r.Group))
	}
	switch {
	case r.MemberID != "":
		s.joinKnown(g, j)
	case r.InstanceID != nil:
		s.joinStatic(g, j)
	case r.Version >= 4:
		s.promise(g, j)
	default:
		s.add(g, j, s.nameMember(j.from.ID))
	}
}

// joining is one JoinGroup request on its way.
type joining struct {
	from   Client
	r      *kmsg.JoinGroupRequest
	answer func(*kmsg.JoinGroupResponse)
}

func joinRefused(memberID string, c code) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.Generation, resp.MemberID = c, -1, memberID
	return resp
}

func (s *shard) refuse(j *joining, memberID string, c code) {
	resp := joinRefused(memberID, c)
	s.later(func() { j.answer(resp) })
}

// nameMember makes a member ID. Source: Kafka, client or instance ID, a dash and a UUID.
func (s *shard) nameMember(prefix string) string { return prefix + "-" + s.newID() }

// sound judges what can be judged without the group.
func (s *shard) sound(j *joining) code {
	r, l := j.r, s.limits()
	switch session := j.session(); {
	case r.Group == "":
		return invalidGroupID
	case session < l.minSession || session > l.maxSession:
		return invalidSessionTimeout
	case r.ProtocolType == "" || len(r.Protocols) == 0:
		return inconsistentProtocol
	}
	return none
}

// admit judges what can be judged before the group's state counts.
func (s *shard) admit(j *joining) code {
	r := j.r
	g := s.groups[r.Group]
	switch {
	case g == nil && r.MemberID != "":
		return unknownMember
	case g == nil:
		return none
	case g.state == dead:
		return notAvailable
	case !g.fits(j, s.limits().maxSize):
		return groupFull
	case !g.agrees(j):
		return inconsistentProtocol
	}
	return none
}

// fits tells whether the group may grow by this member, if it is not one already.
func (g *group) fits(j *joining, most int) bool {
	if g.members[j.r.MemberID] != nil || j.r.InstanceID != nil && g.static[*j.r.InstanceID] != nil {
		return true
	}
	return len(g.members) < most
}

// agrees tells whether the member's protocols leave one that everybody knows.
func (g *group) agrees(j *joining) bool {
	others := g.everybody()
	self := g.members[j.r.MemberID]
	if j.r.InstanceID != nil && self == nil {
		self = g.static[*j.r.InstanceID]
	}
	if len(others) == 0 || len(others) == 1 && others[0] == self {
		return true
	}
	if g.protocolType != j.r.ProtocolType {
		return false
	}
	for _, p := range j.r.Protocols {
		everybody := true
		for _, m := range others {
			everybody = everybody && (m == self || m.supports(p.Name))
		}
		if everybody {
			return true
		}
	}
	return false
}

// promise tells a new dynamic member its ID and has it come again (KIP-394), so that a
// client that gives up and retries leaves no dead member behind.
func (s *shard) promise(g *group, j *joining) {
	if s.promises >= mostPromises {
		s.refuse(j, "", notAvailable)
		s.forget(g)
		return
	}
	id := s.nameMember(j.from.ID)
	a := &alarm{}
	g.promised[id] = a
	s.promises++
	s.alarms.set(a, s.now.Add(j.session()), func() { s.breakPromise(g, id) })
	s.refuse(j, id, memberIDRequired)
}

func (j *joining) session() time.Duration {
	return time.Duration(j.r.SessionTimeoutMillis) * time.Millisecond
}

func (j *joining) rebalance() time.Duration {
	if j.r.RebalanceTimeoutMillis < 0 { // version 0 has none
		return j.session()
	}
	return time.Duration(j.r.RebalanceTimeoutMillis) * time.Millisecond
}

// breakPromise lets go of an ID whose client never came again.
func (s *shard) breakPromise(g *group, id string) {
	s.keepPromise(g, id)
	s.tryComplete(g)
	s.forget(g)
}

// keepPromise lets go of an ID because its client did come.
func (s *shard) keepPromise(g *group, id string) {
	s.alarms.off(g.promised[id])
	delete(g.promised, id)
	s.promises--
}

// joinStatic takes in a static member that does not know its ID: it is new, or it started
// again and takes its own place over.
func (s *shard) joinStatic(g *group, j *joining) {
	id := s.nameMember(*j.r.InstanceID)
	old := g.static[*j.r.InstanceID]
	if old == nil {
		s.add(g, j, id)
		return
	}
	s.replace(g, old, j, id)
}

// joinKnown takes back a member that brings its ID.
func (s *shard) joinKnown(g *group, j *joining) {
	r := j.r
	if g.promised[r.MemberID] != nil && r.InstanceID == nil {
		s.keepPromise(g, r.MemberID)
		s.add(g, j, strings.Clone(r.MemberID))
		return
	}
	m, c := g.member(r.MemberID, r.InstanceID)
	if c != none {
		s.refuse(j, r.MemberID, c)
		return
	}
	switch {
	case g.state == completingRebalance && m.says(r.Protocols):
		// It did not hear the answer: the same again.
		s.heard(g, m)
		s.later1(j.answer, g.joined(m))
	case g.state == stable && g.leader != m.id && m.says(r.Protocols):
		// A follower that lost its place in the dance may go on; a leader that joins again
		// wants a new assignment (its topics grew).
		s.heard(g, m)
		s.later1(j.answer, g.joined(m))
	default:
		s.update(g, m, j)
		s.await(g, m, j)
	}
}

func (s *shard) later1(answer func(*kmsg.JoinGroupResponse), resp *kmsg.JoinGroupResponse) {
	s.later(func() { answer(resp) })
}

// member finds who a request claims to be (KIP-345).
func (g *group) member(id string, instance *string) (*member, code) {
	if instance != nil {
		m := g.static[*instance]
		switch {
		case m == nil:
			return nil, unknownMember
		case m.id != id:
			return nil, fencedInstance
		}
		return m, none
	}
	m := g.members[id]
	if m == nil {
		return nil, unknownMember
	}
	return m, none
}

// add makes a new member and has the group rebalance.
func (s *shard) add(g *group, j *joining, id string) {
	m := &member{id: id, joined: g.joins, fresh: true}
	g.joins++
	if j.r.InstanceID != nil {
		instance := strings.Clone(*j.r.InstanceID)
		m.instance = &instance
		g.static[instance] = m
	}
	if len(g.members) == 0 {
		g.protocolType = strings.Clone(j.r.ProtocolType)
		g.leader = id
	}
	g.members[id] = m
	g.grew = true
	s.update(g, m, j)
	s.await(g, m, j)
}

// update notes what a member says of itself.
func (s *shard) update(g *group, m *member, j *joining) {
	m.client = Client{ID: strings.Clone(j.from.ID), Host: strings.Clone(j.from.Host)}
	m.session, m.rebalance = j.session(), j.rebalance()
	m.protocols = newProtocols(j.r.Protocols)
	if len(g.members) == 1 {
		g.protocolType = strings.Clone(j.r.ProtocolType)
	}
}

// await parks the member's answer until the rebalance is complete, and starts one if none
// goes on.
func (s *shard) await(g *group, m *member, j *joining) {
	s.answerJoin(m, joinRefused(m.id, rebalanceInProgress)) // an older request of a client that gave up
	m.join = j.answer
	if m.fresh {
		s.alarms.set(&m.expiry, s.now.Add(freshTimeout), func() { s.expireMember(g, m) })
	} else {
		s.alarms.off(&m.expiry)
	}
	if g.state == preparingRebalance {
		s.tryComplete(g)
		return
	}
	s.prepare(g)
}

// replace gives a static member's place to its new incarnation; the old one is fenced.
// While the group is stable and would choose the same protocol, nothing else moves: that is
// what static membership is for.
func (s *shard) replace(g *group, m *member, j *joining, id string) {
	s.answerJoin(m, joinRefused(m.id, fencedInstance))
	s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: fencedInstance})
	leader := g.leader
	if g.leader == m.id {
		g.leader = id
	}
	delete(g.members, m.id)
	m.id, m.owing = id, false
	g.members[id] = m
	s.update(g, m, j)
	if g.state != stable || g.vote() != g.protocol {
		s.await(g, m, j)
		return
	}
	s.heard(g, m)
	generation := g.generation
	s.store(g, func(c code) {
		switch {
		case g.members[id] != m || g.state != stable || g.generation != generation:
			s.refuse(j, id, unknownMember)
		case c != none:
			s.refuse(j, id, c)
			s.prepare(g)
		default:
			s.later1(j.answer, g.replaced(m, leader, j.r.Version))
		}
	})
}

// joined tells a member the generation; the leader hears who takes part.
func (g *group) joined(m *member) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	protocolType, protocol := g.protocolType, g.protocol
	resp.Generation, resp.LeaderID, resp.MemberID = g.generation, g.leader, m.id
	resp.ProtocolType, resp.Protocol = &protocolType, &protocol
	if m.id != g.leader {
		return resp
	}
	for _, each := range g.everybody() {
		jm := kmsg.NewJoinGroupResponseMember()
		jm.MemberID, jm.InstanceID, jm.ProtocolMetadata = each.id, each.instance, each.metadata(g.protocol)
		resp.Members = append(resp.Members, jm)
	}
	return resp
}

// replaced tells a static member that its place is as it was. A leader must not assign
// anew: from version 9 on it is told so, before it is told that its old self leads.
func (g *group) replaced(m *member, formerLeader string, version int16) *kmsg.JoinGroupResponse {
	resp := g.joined(m)
	if version >= 9 {
		resp.SkipAssignment = m.id == g.leader
		return resp
	}
	resp.LeaderID, resp.Members = formerLeader, nil
	return resp
}

// answerJoin ends a member's wait for the rebalance, if it waits.
func (s *shard) answerJoin(m *member, resp *kmsg.JoinGroupResponse) {
	if m.join == nil {
		return
	}
	answer := m.join
	m.join = nil
	s.later(func() { answer(resp) })
}
