package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// prepare begins a rebalance: everybody is to join again. The first one of an empty group
// waits a little for more members, so that ten consumers that start together rebalance once.
func (s *shard) prepare(g *group) {
	s.failSync(g, rebalanceInProgress)
	g.assigning = false
	first := g.state == empty
	g.state = preparingRebalance
	s.logger.Debug("group rebalances", "group", g.id, "generation", g.generation, "members", len(g.members))
	if !first {
		s.alarms.set(&g.deadline, s.now.Add(g.patience()), func() { s.complete(g) })
		s.tryComplete(g)
		return
	}
	delay := s.limits().initialDelay
	if delay <= 0 {
		s.complete(g)
		return
	}
	g.gathering, g.grew = true, false
	g.remaining = max(0, g.patience()-delay)
	s.alarms.set(&g.deadline, s.now.Add(delay), func() { s.gathered(g) })
}

// failSync refuses the assignment to everybody who waits for it.
func (s *shard) failSync(g *group, c code) {
	for _, m := range g.everybody() {
		m.owing = false
		if m.sync != nil {
			s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: c})
			s.heard(g, m)
		}
	}
}

// gathered ends the first wait, or waits on when somebody came and the members' patience
// lasts.
func (s *shard) gathered(g *group) {
	if g.grew && g.remaining > 0 {
		delay := min(s.limits().initialDelay, g.remaining)
		g.grew = false
		g.remaining -= delay
		s.alarms.set(&g.deadline, s.now.Add(delay), func() { s.gathered(g) })
		return
	}
	s.complete(g)
}

// patience is how long the slowest member may take to join again.
func (g *group) patience() time.Duration {
	var longest time.Duration
	for _, m := range g.members {
		longest = max(longest, m.rebalance)
	}
	return longest
}

// tryComplete ends a rebalance when everybody has joined and nobody is promised a place.
func (s *shard) tryComplete(g *group) {
	if g.state != preparingRebalance || g.gathering || len(g.promised) > 0 {
		return
	}
	for _, m := range g.members {
		if m.join == nil {
			return
		}
	}
	s.complete(g)
}

// complete ends a rebalance with those who joined. Dynamic members that did not are gone;
// static ones keep their place until their session ends.
func (s *shard) complete(g *group) {
	s.alarms.off(&g.deadline)
	g.gathering = false
	for _, m := range g.everybody() {
		if m.join == nil && m.instance == nil {
			s.remove(g, m)
		}
	}
	if len(g.members) > 0 && !g.elect() {
		s.alarms.set(&g.deadline, s.now.Add(g.patience()), func() { s.complete(g) })
		return
	}
	g.generation++
	if len(g.members) == 0 {
		s.becomeEmpty(g)
		return
	}
	g.state, g.protocol = completingRebalance, g.vote()
	s.logger.Debug("group has a new generation", "group", g.id, "generation", g.generation, "members", len(g.members), "protocol", g.protocol)
	for _, m := range g.everybody() {
		m.assignment, m.fresh = nil, false
		if m.join == nil {
			continue
		}
		m.owing = true
		s.answerJoin(m, g.joined(m))
		s.heard(g, m)
	}
	s.alarms.set(&g.deadline, s.now.Add(g.patience()), func() { s.expireSync(g) })
}

// elect keeps the leader if it joined, else makes the first who did the leader; false when
// nobody joined.
func (g *group) elect() bool {
	if m := g.members[g.leader]; m != nil && m.join != nil {
		return true
	}
	for _, m := range g.everybody() {
		if m.join != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// vote chooses the protocol: each member names the first one of its list that everybody
// knows; most names win, and among equals the one that the leader prefers.
func (g *group) vote() string {
	votes := make(map[string]int)
	everybody := g.everybody()
	for _, m := range everybody {
		for _, p := range m.protocols {
			if known(everybody, p.name) {
				votes[p.name]++
				break
			}
		}
	}
	voters := everybody
	if leader := g.members[g.leader]; leader != nil {
		voters = append([]*member{leader}, everybody...)
	}
	best := ""
	for _, m := range voters {
		for _, p := range m.protocols {
			if votes[p.name] > votes[best] {
				best = p.name
			}
		}
	}
	return best
}

func known(ms []*member, protocol string) bool {
	for _, m := range ms {
		if !m.supports(protocol) {
			return false
		}
	}
	return true
}

// becomeEmpty ends the last generation; the group's offsets stay.
func (s *shard) becomeEmpty(g *group) {
	g.state, g.protocol, g.leader = empty, "", ""
	g.since = s.now.UnixMilli()
	s.logger.Debug("group is empty", "group", g.id, "generation", g.generation)
	s.store(g, func(c code) {
		if c != none {
			// Nothing is lost: a replay finds the members of before, and their sessions end again.
			s.logger.Debug("cannot store that a group is empty", "group", g.id, "code", c)
		}
	})
}

// remove takes a member out and answers what it waits for.
func (s *shard) remove(g *group, m *member) {
	s.answerJoin(m, joinRefused(m.id, unknownMember))
	s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: unknownMember})
	s.alarms.off(&m.expiry)
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
		if rest := g.everybody(); len(rest) > 0 {
			g.leader = rest[0].id
		}
	}
}

// lost removes a member that left or went silent, and has the others share its part.
func (s *shard) lost(g *group, m *member, why string) {
	s.logger.Debug("member is gone", "group", g.id, "member", m.id, "why", why)
	s.remove(g, m)
	switch g.state {
	case stable, completingRebalance:
		s.prepare(g)
	case preparingRebalance:
		s.tryComplete(g)
	}
}

// expireMember ends a session.
func (s *shard) expireMember(g *group, m *member) {
	switch {
	case g.members[m.id] != m:
	case m.sync != nil, m.join != nil && !m.fresh:
		s.heard(g, m) // who waits for an answer is not silent
	default:
		s.lost(g, m, "session timed out")
		s.forget(g)
	}
}

// expireSync loses the members that joined and never asked for their assignment.
func (s *shard) expireSync(g *group) {
	late := false
	for _, m := range g.everybody() {
		if m.owing {
			late = true
			s.logger.Debug("member is gone", "group", g.id, "member", m.id, "why", "did not ask for its assignment")
			s.remove(g, m)
		}
	}
	if late && (g.state == completingRebalance || g.state == stable) {
		s.prepare(g)
	}
}

// heard begins a member's session anew.
func (s *shard) heard(g *group, m *member) {
	s.alarms.set(&m.expiry, s.now.Add(m.session), func() { s.expireMember(g, m) })
}
