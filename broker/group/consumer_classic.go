package group

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Members that speak the classic protocol in a group of the new one: JoinGroup takes the
// place of the heartbeat that reconciles, SyncGroup that of its answer, and Heartbeat tells
// them when to come again. Their generation is the member epoch.
// Source: KIP-848, "Supporting Online Consumer Group Upgrade".

// joinConsumers is JoinGroup.
func (s *shard) joinConsumers(g *group, j *joining) {
	fail := func(c code) { s.refuse(j, j.r.MemberID, written(c)) }
	s.turn(g, fail, func(d *draft) func(code) {
		switch {
		case d.next == nil && !d.over:
			s.joinClassic(j)
			return func(code) {}
		case len(d.next.members) == 0:
			d.dissolve()
			return func(c code) { s.again(c, fail, func() { s.join(j.from, j.r, j.answer) }) }
		}
		resp, c := d.join(j)
		switch {
		case c != none:
			return func(code) { s.refuse(j, resp.MemberID, c) }
		case d.over:
			return func(c code) { s.again(c, fail, func() { s.join(j.from, j.r, j.answer) }) }
		}
		return func(c code) {
			if c != none {
				fail(c)
				return
			}
			s.joinedConsumers(g, resp.MemberID)
			s.later1(j.answer, resp)
		}
	})
}

// again goes on with a request when what stood in its way has been written away.
func (s *shard) again(c code, fail func(code), f func()) {
	if c != none {
		fail(c)
		return
	}
	f()
}

// joinedConsumers has a member that was told its generation ask for its assignment.
func (s *shard) joinedConsumers(g *group, id string) {
	c, p := g.consumers.members[id], g.pulses[id]
	if c == nil || p == nil {
		return
	}
	s.alarms.off(&p.join)
	s.beat(g, c)
	s.alarms.set(&p.sync, s.now.Add(c.rebalance), func() {
		s.fenceLate(g, id, &p.sync, "did not ask for its assignment", func(now *consumer) bool { return now.classic != nil })
	})
}

// join works a JoinGroup out.
func (d *draft) join(j *joining) (*kmsg.JoinGroupResponse, code) {
	r := j.r
	if !d.agrees(r) {
		return joinRefused(r.MemberID, inconsistentProtocol), inconsistentProtocol
	}
	sub, err := readSubscription(r.Protocols[0].Metadata)
	if err != nil {
		return joinRefused(r.MemberID, inconsistentProtocol), inconsistentProtocol
	}
	old, id, c := d.findClassic(j)
	if c != none {
		return joinRefused(id, c), c
	}
	if old != nil && old.id != id {
		if old.classic == nil && d.lastOfNew(old) {
			d.drop(old)
			if d.mayDowngrade() {
				d.downgrade()
			} else {
				d.dissolve()
			}
			return joinRefused(id, none), none
		}
		old = d.replace(old, id)
	}
	if old == nil {
		old = &consumer{id: id, state: reconciled}
	}
	now := d.updateClassic(old, j, sub)
	d.current(!slices.Equal(now.topics, old.topics) || now.regex != old.regex || !old.has[hasMetadata])
	now = d.reconcile(d.next.members[id], d.view.byIDs(sub.owned), true)

	resp := kmsg.NewPtrJoinGroupResponse()
	protocolType, protocol := "consumer", now.classic.protocols[0].name
	resp.Generation, resp.MemberID, resp.ProtocolType, resp.Protocol = now.epoch, id, &protocolType, &protocol
	return resp, none
}

// agrees tells whether the classic members have a protocol in common with one that joins.
func (d *draft) agrees(r *kmsg.JoinGroupRequest) bool {
	if r.ProtocolType != "consumer" {
		return false
	}
	return slices.ContainsFunc(r.Protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		for id, c := range d.next.members {
			same := func(q protocol) bool { return q.name == p.Name }
			if c.classic != nil && id != r.MemberID && !slices.ContainsFunc(c.classic.protocols, same) {
				return false
			}
		}
		return true
	})
}

// findClassic gives the member that joins, nil if it is new, and the ID that it has from
// now on.
func (d *draft) findClassic(j *joining) (*consumer, string, code) {
	r := j.r
	id, unknown := strings.Clone(r.MemberID), r.MemberID == ""
	if unknown && r.InstanceID != nil {
		id = d.s.nameMember(*r.InstanceID)
	} else if unknown {
		id = d.s.nameMember(j.from.ID)
	}
	var old *consumer
	if r.InstanceID != nil {
		old = d.next.static(*r.InstanceID)
	} else {
		old = d.next.members[id]
	}
	switch {
	case old == nil && len(d.next.members) >= d.s.limits().consumer.maxSize:
		return nil, r.MemberID, groupFull
	case unknown && r.InstanceID == nil && r.Version >= 4:
		return nil, id, memberIDRequired
	case r.InstanceID != nil && !unknown && old == nil:
		return nil, id, unknownMember
	case r.InstanceID != nil && !unknown && old.id != id:
		return nil, id, fencedInstance
	}
	return old, id, none
}

// lastOfNew tells whether nobody else speaks the new protocol.
func (d *draft) lastOfNew(c *consumer) bool {
	for _, o := range d.next.members {
		if o != c && o.classic == nil {
			return false
		}
	}
	return d.s.limits().consumer.downgrade && len(d.next.members) <= d.s.limits().maxSize
}

// updateClassic notes what a member says of itself.
func (d *draft) updateClassic(old *consumer, j *joining, sub subscriptionOf) *consumer {
	c := *old
	c.client = Client{ID: strings.Clone(j.from.ID), Host: strings.Clone(j.from.Host)}
	c.classic = &classicLife{session: j.session(), protocols: newProtocols(j.r.Protocols)}
	c.rebalance, c.rack, c.regex, c.topics = j.rebalance(), sub.rack, "", sorted(sub.topics)
	c.has[hasMetadata] = true
	if j.r.InstanceID != nil {
		c.instance = clonedPtr(j.r.InstanceID)
	}
	if c.saysSame(old) && old.has[hasMetadata] {
		return old
	}
	d.put(&c)
	return &c
}

func sorted(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

// classicMember finds the member that a classic request is from.
func (d *draft) classicMember(id string, instance *string) (*consumer, code) {
	if d.over || d.next == nil {
		return nil, unknownMember
	}
	c := d.next.members[id]
	if instance != nil {
		c = d.next.static(*instance)
	}
	switch {
	case c == nil:
		return nil, unknownMember
	case c.id != id:
		return nil, fencedInstance
	case c.classic == nil:
		return nil, unknownMember
	}
	return c, none
}

// comeAgain has a member join again within its rebalance time-out.
func (s *shard) comeAgain(g *group, c *consumer) {
	p := g.pulses[c.id]
	if p == nil || p.join.at > 0 {
		return
	}
	s.alarms.set(&p.join, s.now.Add(c.rebalance), func() {
		s.fenceLate(g, c.id, &p.join, "did not join again in time", func(now *consumer) bool { return now.classic != nil })
	})
}

// syncConsumers is SyncGroup.
func (s *shard) syncConsumers(g *group, r *kmsg.SyncGroupRequest, answer func(*kmsg.SyncGroupResponse)) {
	fail := func(c code) { s.later(func() { answer(&kmsg.SyncGroupResponse{ErrorCode: written(c)}) }) }
	s.turn(g, fail, func(d *draft) func(code) {
		if d.next == nil && !d.over {
			s.syncClassic(r, answer)
			return func(code) {}
		}
		resp, why := d.sync(r)
		return func(c code) {
			switch {
			case why != none:
				fail(why)
			case c != none:
				fail(c)
			default:
				s.later(func() { answer(resp) })
			}
		}
	})
}

func (d *draft) sync(r *kmsg.SyncGroupRequest) (*kmsg.SyncGroupResponse, code) {
	m, c := d.classicMember(r.MemberID, r.InstanceID)
	if c != none {
		return nil, c
	}
	protocolType, protocol := "consumer", m.classic.protocols[0].name
	switch {
	case m.epoch != r.Generation:
		return nil, illegalGeneration
	case r.ProtocolType != nil && *r.ProtocolType != protocolType, r.Protocol != nil && *r.Protocol != protocol:
		return nil, inconsistentProtocol
	case d.next.epoch > m.epoch && m.state != unrevoked:
		// A member that has to let go of partitions has joined already; it is sent for again
		// when it has.
		d.s.comeAgain(d.g, m)
		return nil, rebalanceInProgress
	}
	if p := d.g.pulses[m.id]; p != nil {
		d.s.alarms.off(&p.sync)
	}
	d.s.beat(d.g, m)
	sub, err := readSubscription(m.classic.protocols[0].metadata)
	if err != nil {
		return nil, inconsistentProtocol
	}
	return &kmsg.SyncGroupResponse{ProtocolType: &protocolType, Protocol: &protocol, MemberAssignment: d.view.embed(m.owned, sub.version)}, none
}

// heartbeatConsumers is Heartbeat.
func (s *shard) heartbeatConsumers(g *group, r *kmsg.HeartbeatRequest, answer func(code)) {
	fail := func(c code) { s.later(func() { answer(written(c)) }) }
	s.turn(g, fail, func(d *draft) func(code) {
		why := none
		if d.next == nil && !d.over {
			why = s.heartbeatClassic(r)
		} else {
			why = d.classicHeartbeat(r)
		}
		return func(c code) {
			if why != none {
				c = why
			}
			fail(c)
		}
	})
}

func (d *draft) classicHeartbeat(r *kmsg.HeartbeatRequest) code {
	m, c := d.classicMember(r.MemberID, r.InstanceID)
	switch {
	case c != none:
		return c
	case m.epoch != r.Generation:
		return illegalGeneration
	}
	d.s.beat(d.g, m)
	if m.epoch < d.next.epoch || m.state == unrevoked || m.state == unreleased && !d.waits(m) {
		d.s.comeAgain(d.g, m)
		return rebalanceInProgress
	}
	return none
}

// waits tells whether a member's target has partitions that others still hold.
func (d *draft) waits(m *consumer) bool {
	for at := range m.target {
		if _, ok := m.owned[at]; !ok && d.owner(at) != "" {
			return true
		}
	}
	return false
}

// leaveConsumers is LeaveGroup for these members; each gets its code.
func (s *shard) leaveConsumers(g *group, who []kmsg.LeaveGroupRequestMember, answer func([]code)) {
	codes := make([]code, len(who))
	fail := func(c code) {
		for i := range codes {
			if codes[i] == none {
				codes[i] = written(c)
			}
		}
		s.later(func() { answer(codes) })
	}
	s.turn(g, fail, func(d *draft) func(code) {
		if d.next == nil && !d.over {
			for i, m := range who {
				codes[i] = s.leaveOne(g.id, m.MemberID, m.InstanceID, reason(m))
			}
			return fail
		}
		var gone []*consumer
		for i, m := range who {
			id := m.MemberID
			if m.InstanceID != nil && id == "" && d.next != nil { // an administrator takes a static member out by name
				if c := d.next.static(*m.InstanceID); c != nil {
					id = c.id
				}
			}
			c, why := d.classicMember(id, m.InstanceID)
			codes[i] = why
			if why == none && !slices.Contains(gone, c) {
				gone = append(gone, c)
			}
		}
		if len(gone) > 0 {
			d.fence("left", gone...)
		}
		return fail
	})
}
