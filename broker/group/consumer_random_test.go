package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
)

// TestRandomCrowd lets consumers of both protocols come, go, fall silent and change their
// minds in one group, while topics come, go and grow, answers are lost, the journal stalls
// and fails, and the coordinator is killed. After each step no partition has two owners, and
// no member that is not fenced believes that it owns what is not written down as its own.
// When all of that ends, everything is given out, evenly, and stays where it is.
func TestRandomCrowd(t *testing.T) {
	lives, steps := 300, 300
	if testing.Short() {
		lives = 50
	}
	for seed := range uint64(lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newCrowd(t, seed)
			for range steps {
				c.step()
				c.check()
				c.checkOwners()
			}
			c.rest()
		})
	}
}

type crowd struct {
	*stage
	rand    *rand.Rand
	people  []*person
	started int
	era     int // restarts so far
	migrate bool
}

// person is one client.
type person struct {
	id         string
	instance   *string
	classic    bool
	topics     []string
	regex      string
	assignor   string
	epoch      int32 // or generation
	owned      parts // what it believes to own
	owes       bool  // waits for an answer
	synced     bool  // a classic one has its assignment
	leads      []string
	silent     bool // says nothing any more
	generation int  // of the group's life, to tell late answers
}

func newCrowd(t *testing.T, seed uint64) *crowd {
	c := &crowd{stage: newStage(t), rand: rand.New(rand.NewPCG(seed, 848))}
	c.migrate = c.chance(50)
	c.settings.consumer.maxSize = 4 + c.rand.IntN(4)
	return c
}

func (c *crowd) chance(percent int) bool { return c.rand.IntN(100) < percent }

// spawn starts a client.
func (c *crowd) spawn() {
	c.started++
	p := &person{id: fmt.Sprint("m", c.started), owned: make(parts)}
	c.wish(p)
	if c.chance(30) {
		name := fmt.Sprint("i", c.rand.IntN(3))
		p.instance = &name
	}
	if c.migrate && c.chance(40) {
		p.classic, p.id, p.regex = true, "", ""
		if len(p.topics) == 0 {
			p.topics = []string{"t"}
		}
	}
	c.people = append(c.people, p)
}

func (c *crowd) wish(p *person) {
	p.topics, p.regex = [][]string{{"t"}, {"t", "u"}, {"u"}, {"t", "u", "w"}, {}}[c.rand.IntN(5)], ""
	if len(p.topics) == 0 {
		p.regex = []string{".*", "t|w"}[c.rand.IntN(2)]
	}
	p.assignor = []string{"", "", "range", "uniform"}[c.rand.IntN(4)]
}

func (c *crowd) step() {
	if len(c.people) == 0 || len(c.people) < 7 && c.chance(8) {
		c.spawn()
	}
	p := c.people[c.rand.IntN(len(c.people))]
	switch n := c.rand.IntN(100); {
	case n < 60:
		c.beat(p, c.chance(10))
	case n < 64:
		c.quit(p, -1)
	case n < 66 && p.instance != nil:
		c.quit(p, -2)
	case n < 68:
		p.silent = true
	case n < 71 && !p.classic:
		c.wish(p)
		c.beat(p, false)
	case n < 76:
		c.commit(p)
	case n < 88:
		c.advance(time.Duration(c.rand.IntN(9000)) * time.Millisecond)
	case n < 90:
		c.journal([]string{"hold", "go", "go", "fail"}[c.rand.IntN(4)])
	case n < 96:
		c.topic()
	case n < 97:
		c.era++
		for _, p := range c.people {
			p.owes = false
		}
		c.restart()
	default:
		for i, q := range c.people {
			if q.silent {
				c.people = append(c.people[:i], c.people[i+1:]...)
				break
			}
		}
	}
}

func (c *crowd) topic() {
	name := []string{"t", "u", "w"}[c.rand.IntN(3)]
	info, ok := c.topics[name]
	switch {
	case !ok:
		c.makeTopic(name, int32(1+c.rand.IntN(6)))
	case c.chance(50) && info.partitions < 14:
		c.makeTopic(name, info.partitions+1)
	case c.chance(30):
		c.deleteTopic(name)
	}
}

// beat has a client do what it would do next; lost: it does not hear the answer.
func (c *crowd) beat(p *person, lost bool) {
	switch {
	case p.silent || p.owes:
	case p.classic && !p.synced && p.epoch > 0:
		c.syncClassic(p)
	case p.classic && p.epoch > 0:
		c.beatClassic(p)
	case p.classic:
		c.joinClassic(p)
	default:
		c.beatNew(p, lost)
	}
}

func (c *crowd) beatNew(p *person, lost bool) {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch, r.InstanceID = 1, "g", p.id, p.epoch, p.instance
	r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for _, t := range p.owned.byTopic() {
		r.Topics = append(r.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.topic, Partitions: t.ns})
	}
	r.SubscribedTopicNames, r.SubscribedTopicRegex = p.topics, &p.regex
	if p.assignor != "" {
		r.ServerAssignor = &p.assignor
	}
	if p.epoch == 0 {
		r.RebalanceTimeoutMillis = 10_000
	}
	done := c.asks(p)
	c.do(func(s *shard) {
		s.consumerHeartbeat(Client{ID: "c"}, r, func(resp *kmsg.ConsumerGroupHeartbeatResponse) {
			done()
			if !lost {
				c.hear(p, resp)
			}
		})
	})
}

// asks notes that a client waits; the func it gives, that it was answered.
func (c *crowd) asks(p *person) func() {
	p.owes = true
	era, answered := c.era, false
	return func() {
		if answered || era != c.era {
			c.t.Fatal("a request was answered twice, or by a dead coordinator")
		}
		answered, p.owes = true, false
	}
}

func (c *crowd) hear(p *person, resp *kmsg.ConsumerGroupHeartbeatResponse) {
	switch resp.ErrorCode {
	case none:
		p.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			p.owned = make(parts)
			for _, t := range resp.Assignment.Topics {
				for _, n := range t.Partitions {
					p.owned[part{topic.ID(t.TopicID), n}] = 0
				}
			}
		}
	case fencedEpoch, unknownMember:
		p.epoch, p.owned = 0, make(parts)
	case fencedInstance:
		p.silent, p.owned = true, make(parts)
	case notAvailable, notCoordinator, groupFull, unreleasedInstance, groupNotFound:
	default:
		c.t.Fatalf("heartbeat gives %s", named(resp.ErrorCode))
	}
}

func (c *crowd) joinClassic(p *person) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.ProtocolType = 9, "g", p.id, p.instance, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 30_000, 20_000
	r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(p.topics...)}}
	p.owned, p.synced = make(parts), false // it is eager: it lets go of everything first
	done := c.asks(p)
	c.do(func(s *shard) {
		s.join(Client{ID: "c"}, r, func(resp *kmsg.JoinGroupResponse) {
			done()
			switch resp.ErrorCode {
			case none:
				p.id, p.epoch, p.leads = resp.MemberID, resp.Generation, nil
				for _, m := range resp.Members {
					p.leads = append(p.leads, m.MemberID)
				}
			case memberIDRequired:
				p.id = resp.MemberID
			case fencedInstance:
				p.silent = true
			case unknownMember, inconsistentProtocol:
				p.id = ""
			}
		})
	})
}

func (c *crowd) syncClassic(p *person) {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = 5, "g", p.id, p.instance, p.epoch
	for i, id := range p.leads {
		mine := make(parts)
		for _, name := range []string{"t", "u", "w"} {
			for n := int32(i); n < c.topics[name].partitions; n += int32(len(p.leads)) {
				mine[part{c.topics[name].id, n}] = 0
			}
		}
		r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: c.view.embed(mine, 1)})
	}
	done := c.asks(p)
	c.do(func(s *shard) {
		s.sync(r, func(resp *kmsg.SyncGroupResponse) {
			done()
			if resp.ErrorCode != none {
				c.again(p, resp.ErrorCode)
				return
			}
			named, err := readAssignment(resp.MemberAssignment)
			if err != nil {
				c.t.Fatal(err)
			}
			p.owned, p.synced = c.view.byIDs(named), true
		})
	})
}

func (c *crowd) beatClassic(p *person) {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = "g", p.id, p.instance, p.epoch
	done := c.asks(p)
	c.do(func(s *shard) {
		s.heartbeat(r, func(code code) {
			done()
			if code != none {
				c.again(p, code)
			}
		})
	})
}

// again has a classic client join again, as whom the code says.
func (c *crowd) again(p *person, code code) {
	p.epoch, p.synced, p.owned = 0, false, make(parts)
	p.silent = p.silent || code == fencedInstance
	if code == unknownMember {
		p.id = ""
	}
}

func (c *crowd) quit(p *person, epoch int32) {
	if p.silent || p.owes || p.id == "" {
		return
	}
	p.silent, p.owned = true, make(parts)
	if p.classic {
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Version, r.Group = 5, "g"
		r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: p.id, InstanceID: p.instance}}
		c.do(func(s *shard) { s.leave(r, func(*kmsg.LeaveGroupResponse) {}) })
		return
	}
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch, r.InstanceID = 1, "g", p.id, epoch, p.instance
	c.do(func(s *shard) {
		s.consumerHeartbeat(Client{ID: "c"}, r, func(*kmsg.ConsumerGroupHeartbeatResponse) {})
	})
}

func (c *crowd) commit(p *person) {
	for at := range p.owned {
		name := c.view.byID[at.topic].name
		if name == "" || p.silent {
			return
		}
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = 9, "g", p.id, p.instance, p.epoch
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: at.n, Offset: 7}}}}
		owns := c.owns(p, at)
		c.do(func(s *shard) {
			s.commit(r, func(resp *kmsg.OffsetCommitResponse) {
				if resp.Topics[0].Partitions[0].ErrorCode == staleEpoch && owns && !c.held {
					c.t.Fatalf("member %s may not commit what it owns", p.id)
				}
			})
		})
		return
	}
}

// owns tells whether the group has a member down as the owner of a partition.
func (c *crowd) owns(p *person, at part) bool {
	g := c.shard.groups["g"]
	if g == nil || g.consumers == nil || g.consumers.members[p.id] == nil {
		return false
	}
	m := g.consumers.members[p.id]
	_, ok := m.owned[at]
	_, still := m.revoking[at]
	return ok || still && m.epoch == p.epoch
}

// checkOwners holds the invariants of ownership.
func (c *crowd) checkOwners() {
	c.t.Helper()
	g := c.shard.groups["g"]
	if g == nil || g.consumers == nil {
		return
	}
	owners := make(map[part]string)
	statics := make(map[string]string)
	for id, m := range g.consumers.members {
		for _, ps := range []parts{m.owned, m.revoking} {
			for at := range ps {
				if other, twice := owners[at]; twice {
					c.t.Fatalf("%v is owned by %s and %s", at, id, other)
				}
				owners[at] = id
			}
		}
		if m.instance != nil {
			if other, twice := statics[*m.instance]; twice {
				c.t.Fatalf("instance %s is %s and %s", *m.instance, id, other)
			}
			statics[*m.instance] = id
		}
		if p := g.pulses[id]; p == nil || p.session.at == 0 && !g.busy && len(g.turns) == 0 {
			c.t.Fatalf("member %s can never expire", id)
		}
	}
	for _, p := range c.people {
		if g.consumers.members[p.id] == nil || p.epoch == 0 {
			continue // it is fenced and will hear of it, or begins
		}
		for at := range p.owned {
			if _, exists := c.view.byID[at.topic]; exists && owners[at] != p.id {
				c.t.Fatalf("member %s believes to own %v, which is %q's", p.id, at, owners[at])
			}
		}
	}
}

// rest ends all trouble and waits until the group is at rest.
func (c *crowd) rest() {
	c.t.Helper()
	c.journal("go")
	c.advance(10 * time.Minute) // who is silent is forgotten
	before := ""
	for still, round := 0, 0; still < 40; round++ {
		for _, p := range c.people {
			c.beat(p, false)
		}
		c.advance(time.Second)
		c.check()
		c.checkOwners()
		now := c.describe()
		if still++; now != before {
			before, still = now, 0
		}
		if round > 1000 {
			c.t.Fatalf("the group is not at rest: %s", now)
		}
	}
	c.settled()
	c.restart()
	c.check()
	c.checkOwners()
	if after := c.describe(); after != before {
		c.t.Fatalf("the group is another after a restart: from\n%s\nto\n%s", before, after)
	}
}

// settled checks that everything that somebody wants is given out.
func (c *crowd) settled() {
	c.t.Helper()
	alive := 0
	for _, p := range c.people {
		if !p.silent {
			alive++
		}
	}
	g := c.shard.groups["g"]
	switch {
	case g == nil || g.consumers == nil && g.state == empty || g.consumers != nil && g.consumers.state() == "Empty":
		if alive > 0 {
			c.t.Fatalf("none of %d clients got in", alive)
		}
		return
	case g.consumers == nil && g.state != stable, g.consumers != nil && (g.consumers.state() != "Stable" || g.seen != c.view.version):
		c.t.Fatalf("the group is not stable: %s", c.describe())
	case g.consumers == nil:
		return
	}
	counts := make(map[string]int)
	owned := make(map[part]bool)
	alike := true
	var first []string
	for _, m := range g.consumers.inOrder() {
		counts[m.id] = len(m.owned)
		for at := range m.owned {
			owned[at] = true
		}
		wants := g.consumers.subscribes(m)
		if first == nil {
			first = wants
		}
		alike = alike && fmt.Sprint(first) == fmt.Sprint(wants)
	}
	total := 0
	for name := range g.consumers.subscribed() {
		total += int(c.topics[name].partitions)
	}
	if len(owned) != total {
		c.t.Fatalf("%d of %d partitions are given out in a stable group", len(owned), total)
	}
	low, high := 1<<30, 0
	for _, n := range counts {
		low, high = min(low, n), max(high, n)
	}
	if alike && g.consumers.assignorName(c.settings.consumer.assignors) == "uniform" && high-low > 1 {
		c.t.Fatalf("the group is not balanced: %v", counts)
	}
}

func (c *crowd) describe() (text string) {
	g := c.shard.groups["g"]
	if g == nil {
		return "none"
	}
	if g.consumers == nil {
		return fmt.Sprintf("classic %s with %d members", g.state, len(g.members))
	}
	text = fmt.Sprintf("%s epoch %d target %d", g.consumers.state(), g.consumers.epoch, g.consumers.targetEpoch)
	for _, m := range g.consumers.inOrder() {
		text += fmt.Sprintf("\n%s epoch %d state %d classic %v owns %v revokes %v target %v", m.id, m.epoch, m.state, m.classic != nil, m.owned.byTopic(), m.revoking.byTopic(), m.target.byTopic())
	}
	return text
}
