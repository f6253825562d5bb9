package group

import (
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// turn is one request or event that may change a group of the new protocol.
type turn struct {
	// run works it out on the draft. What it gives is called once: with none when the
	// draft's changes are committed, else with why they may not be there.
	run    func(d *draft) func(code)
	done   func(code) // what run gave
	over   bool       // answered
	answer func(code) // called when it takes too long; nil: never
	late   alarm
}

// ofConsumers tells whether a request for the group has to wait for its turn: the group is
// one of the new protocol, or becomes one.
func (g *group) ofConsumers() bool { return g.consumers != nil || g.busy || len(g.turns) > 0 }

// turn has run called on a draft of the group, at once or when the group's write in
// progress is committed. late is called instead of what run gives when that takes longer
// than offsets.commit.timeout.ms; nil: never. Why so: the records may still be committed
// later, and then they count; only the client does not wait for it.
func (s *shard) turn(g *group, late func(code), run func(d *draft) func(code)) {
	t := &turn{run: run, answer: late}
	g.turns = append(g.turns, t)
	s.work(g)
	if !t.over && late != nil {
		s.alarms.set(&t.late, s.now.Add(s.limits().commitTimeout), func() {
			t.over = true
			late(timedOut)
		})
	}
}

func (s *shard) finish(t *turn, c code) {
	if t.over {
		return
	}
	t.over = true
	s.alarms.off(&t.late)
	t.done(c)
}

// work lets whoever waits have their turn, together on one draft and in one write, until
// nobody waits or a write goes on.
func (s *shard) work(g *group) {
	for !g.busy && len(g.turns) > 0 {
		d := s.draft(g)
		var batch []*turn
		g.working = true
		for len(g.turns) > 0 && !d.over && (d.base != nil || d.next == nil) { // a change of the protocol stands alone
			t := g.turns[0]
			g.turns = g.turns[1:]
			if t.over {
				continue // nobody waits for it any more, and its request's memory is gone
			}
			t.done = t.run(d)
			if d.own || d.over {
				batch = append(batch, t)
			} else {
				s.finish(t, none) // it changed nothing, nor saw anything that is not committed
			}
		}
		g.working = false
		s.commitDraft(g, d, batch)
	}
	s.forget(g)
}

// commitDraft writes what a draft changed, and then answers.
func (s *shard) commitDraft(g *group, d *draft, batch []*turn) {
	rs := d.records()
	if len(rs) == 0 {
		d.settled(none)
		for _, t := range batch {
			s.finish(t, none)
		}
		return // they undid each other
	}
	var ps []topic.Partition
	if d.dropsOffsets {
		var offsets []record.Record
		ps, offsets = g.withoutOffsets()
		rs = append(offsets, rs...)
	}
	g.busy = true
	s.writeOffsets(g, nil, rs, ps, func(c code) {
		if c == invalidCommitOffsetSize { // that one is for offsets
			c = unknownServerError
		}
		g.busy = false
		d.settled(c)
		for _, t := range batch {
			s.finish(t, c)
		}
		s.work(g)
	})
}

// settled makes what is not stored follow what is, when a draft has been committed or has
// failed.
func (d *draft) settled(c code) {
	s, g := d.s, d.g
	if c == none && d.looked {
		g.seen = d.view.version
	}
	if d.base == nil && d.next != nil || d.over {
		s.converted(d, c)
	}
	if g.consumers != nil && len(g.consumers.members) == 0 && d.base != nil && len(d.base.members) > 0 {
		g.since = s.now.UnixMilli()
	}
	s.tend(g)
}

// failTurns answers whoever waits for a turn.
func (s *shard) failTurns(g *group, c code) {
	turns := g.turns
	g.turns = nil
	for _, t := range turns {
		if !t.over && t.answer != nil {
			t.answer(c)
		}
		t.over = true
	}
}

// pulse is the alarms of one member.
type pulse struct {
	session   alarm
	rebalance alarm // for letting go of partitions
	epoch     int32 // ... in this epoch
	join      alarm // a classic member has to join again
	sync      alarm // a classic member has to ask for its assignment
}

func (s *shard) stop(p *pulse) {
	for _, a := range []*alarm{&p.session, &p.rebalance, &p.join, &p.sync} {
		s.alarms.off(a)
	}
}

// tend gives each member its alarms, and takes those of former members away.
func (s *shard) tend(g *group) {
	for id, p := range g.pulses {
		if g.consumers == nil || g.consumers.members[id] == nil {
			s.stop(p)
			delete(g.pulses, id)
		}
	}
	if g.consumers == nil {
		return
	}
	for id, c := range g.consumers.members {
		p := g.pulses[id]
		if p == nil {
			p = &pulse{}
			g.pulses[id] = p
			s.beat(g, c)
		}
		if c.state != unrevoked || c.classic != nil {
			s.alarms.off(&p.rebalance)
		} else if p.rebalance.at == 0 || p.epoch != c.epoch {
			p.epoch = c.epoch
			s.alarms.set(&p.rebalance, s.now.Add(c.rebalance), func() {
				s.fenceLate(g, id, &p.rebalance, "did not let go of its partitions in time", func(now *consumer) bool {
					return now.state == unrevoked && now.epoch == c.epoch
				})
			})
		}
	}
}

// session is how long a member may be silent.
func (s *shard) session(g *group, c *consumer) time.Duration {
	if c.classic != nil {
		return c.classic.session
	}
	session, _ := s.limits().consumer.of(s.settings(g.id))
	return session
}

// beat begins a member's session anew.
func (s *shard) beat(g *group, c *consumer) {
	p := g.pulses[c.id]
	if p == nil {
		return // it is new; tend comes when it is committed
	}
	s.alarms.set(&p.session, s.now.Add(s.session(g, c)), func() {
		s.fenceLate(g, c.id, &p.session, "session timed out", func(*consumer) bool { return true })
	})
}

// fenceLate takes a member out because an alarm of it rang, unless it came back, or is no
// longer as the alarm thinks (still), before its turn.
func (s *shard) fenceLate(g *group, id string, a *alarm, why string, still func(*consumer) bool) {
	s.turn(g, nil, func(d *draft) func(code) {
		if d.next != nil && a.at == 0 && d.next.members[id] != nil && still(d.next.members[id]) {
			d.fence(why, d.next.members[id])
		}
		return func(code code) {
			// Nothing came of it, nor of what others did to the member: try again.
			if code != none && g.consumers != nil && g.consumers.members[id] != nil && a.at == 0 {
				s.alarms.set(a, s.now.Add(s.session(g, g.consumers.members[id])), a.fire)
			}
		}
	})
}

// fence takes members out: they left, or went silent. Who is left shares their part when
// the next of them is heard of.
func (d *draft) fence(why string, gone ...*consumer) {
	for _, c := range gone {
		d.s.logger.Debug("member is gone", "group", d.g.id, "member", c.id, "why", why)
		d.drop(c)
	}
	if d.mayDowngrade() {
		d.downgrade()
		return
	}
	d.look()
	d.bump()
}
