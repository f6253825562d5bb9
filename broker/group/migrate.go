package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Groups change their protocol while they live: the first member of the new protocol makes
// a classic group of consumers one of the new protocol, in which the classic members stay;
// when the last member of the new protocol leaves classic ones behind, the group is classic
// again. A group without members becomes what the next member needs.
// Source: KIP-848, group.consumer.migration.policy.

// upgrade makes the classic group one of the new protocol. Its generation goes on as the
// group's epoch.
func (d *draft) upgrade() *refusal {
	g, l := d.g, d.s.limits().consumer
	no := refused(groupNotFound, "Group %s is not a consumer group.", g.id)
	if len(g.members) > 0 && (!l.upgrade || g.protocolType != "consumer" || len(g.members) > l.maxSize) {
		return no
	}
	next := newConsumerGroup()
	next.stored, next.hasTarget, next.epoch, next.targetEpoch = true, true, g.generation, g.generation
	taken := make(parts)
	for _, m := range g.everybody() {
		c, err := d.ofClassic(m, taken)
		if err != nil {
			d.s.logger.Info("cannot upgrade group", "group", g.id, "member", m.id, "error", err)
			return no
		}
		next.members[c.id] = c
	}
	d.next, d.own, d.owners = next, true, nil

	// Its members are to come again, and find the new group.
	for _, m := range g.everybody() {
		d.s.answerJoin(m, joinRefused(m.id, rebalanceInProgress))
		d.s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: rebalanceInProgress})
		d.s.alarms.off(&m.expiry)
	}
	d.s.alarms.off(&g.deadline)
	for id := range g.promised {
		d.s.keepPromise(g, id) // any ID may join the new group
	}
	return nil
}

// ofClassic makes a member of the new group of a classic one. It owns what the last
// rebalance gave it; in the middle of one, what it said it owns.
func (d *draft) ofClassic(m *member, taken parts) (*consumer, error) {
	g := d.g
	said := m.metadata(g.protocol)
	if said == nil && len(m.protocols) > 0 {
		said = m.protocols[0].metadata
	}
	sub, err := readSubscription(said)
	if err != nil {
		return nil, err
	}
	named, err := readAssignment(m.assignment)
	if err != nil {
		return nil, err
	}
	if len(m.assignment) == 0 {
		named = sub.owned
	}
	c := &consumer{
		id: m.id, instance: m.instance, rack: sub.rack, client: m.client, rebalance: m.rebalance,
		topics:  sorted(sub.topics),
		classic: &classicLife{session: m.session, protocols: m.protocols},
		owned:   make(parts), revoking: make(parts), target: make(parts),
		state: reconciled, epoch: g.generation, previous: g.generation, has: [3]bool{true, true, true},
	}
	for at := range d.view.byIDs(named) {
		if _, twice := taken[at]; !twice {
			taken[at], c.owned[at], c.target[at] = 0, g.generation, 0
		}
	}
	return c, nil
}

// mayDowngrade tells whether only classic members are left, and the group may be theirs.
func (d *draft) mayDowngrade() bool {
	l := d.s.limits()
	if len(d.next.members) == 0 || len(d.next.members) > l.maxSize || !l.consumer.downgrade {
		return false
	}
	for _, c := range d.next.members {
		if c.classic == nil {
			return false
		}
	}
	return true
}

// downgrade makes the group a classic one of the members that are left; they rebalance when
// that is committed.
func (d *draft) downgrade() {
	was := &group{id: d.g.id, state: stable, protocolType: "consumer", generation: d.next.epoch, since: d.s.now.UnixMilli(),
		members: make(map[string]*member), static: make(map[string]*member)}
	for _, c := range d.next.inOrder() {
		m := &member{
			id: c.id, instance: c.instance, client: c.client, joined: was.joins,
			session: c.classic.session, rebalance: c.rebalance, protocols: c.classic.protocols,
		}
		if sub, err := readSubscription(m.protocols[0].metadata); err == nil {
			m.assignment = d.view.embed(c.owned, sub.version)
		}
		was.joins++
		was.members[m.id] = m
		if was.leader == "" {
			was.leader = m.id
		}
	}
	was.protocol = was.vote()
	d.classic, d.over = was, true
}

// dissolve lets go of a group without members, for one of another protocol to take its place.
func (d *draft) dissolve() { d.over = true }

// converted makes what is alive follow a change of the protocol that has been committed, or
// has failed.
func (s *shard) converted(d *draft, c code) {
	g := d.g
	switch {
	case !d.over && c == none: // upgraded
		for _, m := range g.members {
			s.alarms.off(&m.expiry)
		}
		s.alarms.off(&g.deadline)
		if len(g.members) > 0 {
			s.logger.Info("group uses the consumer protocol", "group", g.id, "members", len(g.consumers.members))
		}
		clear(g.members)
		clear(g.static)
		g.state, g.generation, g.leader, g.protocol, g.protocolType = empty, 0, "", "", ""
		g.gathering, g.assigning = false, false
	case !d.over: // still classic, and its members were sent away
		for _, m := range g.everybody() {
			s.heard(g, m)
		}
		if len(g.members) > 0 {
			s.prepare(g)
		}
	case c == none && d.classic != nil:
		s.revive(g)
		for id, m := range d.classic.members {
			g.members[id].protocols = m.protocols
		}
		s.logger.Info("group uses the classic protocol", "group", g.id, "members", len(g.members))
		s.prepare(g)
	case c == none:
		g.generation = d.base.epoch
	}
}
