package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
)

// ConsumerGroupHeartbeat, versions 0 to 1. KIP-848; KIP-1082 member IDs by the client and
// topic patterns (1).

// consumerLimits are the settings that groups of the new protocol obey.
type consumerLimits struct {
	session, minSession, maxSession    time.Duration
	interval, minInterval, maxInterval time.Duration // of heartbeats
	maxSize                            int
	assignors                          []string // the first one is the default
	upgrade, downgrade                 bool     // whether groups may change their protocol
}

// Settings of one group. Source: Kafka, GroupConfig.
const (
	groupSession  = "consumer.session.timeout.ms"
	groupInterval = "consumer.heartbeat.interval.ms"
)

// of gives the session and the heartbeat interval of a group with these settings of its own.
func (l consumerLimits) of(own map[string]string) (session, interval time.Duration) {
	return within(own[groupSession], l.session, l.minSession, l.maxSession),
		within(own[groupInterval], l.interval, l.minInterval, l.maxInterval)
}

// within reads a number of milliseconds and keeps it in its limits, which may have moved
// since it was set.
func within(text string, otherwise, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(text + "ms")
	if err != nil {
		return otherwise
	}
	return max(low, min(d, high))
}

// refusal is a code with the reason that the client is told.
type refusal struct {
	code code
	why  string
}

func refused(c code, format string, args ...any) *refusal {
	return &refusal{c, fmt.Sprintf(format, args...)}
}

func (r *refusal) heartbeat(id *string) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.ErrorCode, resp.MemberID = r.code, id
	if r.why != "" {
		resp.ErrorMessage = &r.why
	}
	return resp
}

// consumerHeartbeat takes a member in, keeps it alive, takes it out, and tells it what it
// owns. The answer comes when what it changed is committed.
func (s *shard) consumerHeartbeat(from Client, r *kmsg.ConsumerGroupHeartbeatRequest, answer func(*kmsg.ConsumerGroupHeartbeatResponse)) {
	refuse := func(why *refusal) { s.later(func() { answer(why.heartbeat(nil)) }) }
	g := s.groups[r.Group]
	if why := checkHeartbeat(r, s.limits().consumer.assignors); why != nil {
		refuse(why)
		return
	}
	switch {
	case g == nil && r.MemberEpoch != joinEpoch:
		refuse(refused(unknownMember, "There is no group %q.", r.Group))
		return
	case g == nil:
		g = s.group(strings.Clone(r.Group))
	}
	fail := func(c code) { refuse(&refusal{code: written(c)}) }
	s.turn(g, fail, func(d *draft) func(code) {
		resp, why := d.heartbeat(from, r)
		return func(c code) {
			switch {
			case why != nil:
				refuse(why)
			case c != none:
				fail(c)
			default:
				s.later(func() { answer(resp) })
			}
		}
	})
}

// written tells a client why its change may not be there: with what makes it come again.
func written(c code) code {
	if c == timedOut {
		return notAvailable
	}
	return c
}

// checkHeartbeat judges what can be judged without the group.
func checkHeartbeat(r *kmsg.ConsumerGroupHeartbeatRequest, known []string) *refusal {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	switch {
	case strings.TrimSpace(r.Group) == "":
		return refused(invalidRequest, "GroupId can't be empty.")
	case blank(r.InstanceID):
		return refused(invalidRequest, "InstanceId can't be empty.")
	case blank(r.RackID):
		return refused(invalidRequest, "RackId can't be empty.")
	case r.MemberEpoch < staticLeaveEpoch:
		return refused(invalidRequest, "MemberEpoch is invalid.")
	case (r.MemberEpoch != joinEpoch || r.Version >= 1) && strings.TrimSpace(r.MemberID) == "":
		return refused(invalidRequest, "MemberId can't be empty.")
	case r.MemberEpoch == staticLeaveEpoch && r.InstanceID == nil:
		return refused(invalidRequest, "InstanceId can't be null.")
	case r.ServerAssignor != nil && !slices.Contains(known, *r.ServerAssignor):
		return refused(unsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *r.ServerAssignor, strings.Join(known, ", "))
	case r.SubscribedTopicRegex != nil && *r.SubscribedTopicRegex != "":
		if _, err := pattern(*r.SubscribedTopicRegex); err != nil {
			return refused(invalidRegex, "SubscribedTopicRegex `%s` is not a valid regular expression: %v.", *r.SubscribedTopicRegex, err)
		}
	}
	if r.MemberEpoch != joinEpoch {
		return nil
	}
	switch {
	case r.RebalanceTimeoutMillis < 0:
		return refused(invalidRequest, "RebalanceTimeoutMs must be provided in first request.")
	case r.Topics == nil || len(r.Topics) > 0:
		return refused(invalidRequest, "TopicPartitions must be empty when (re-)joining.")
	case r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil:
		return refused(invalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	}
	return nil
}

// heartbeat works one request out.
func (d *draft) heartbeat(from Client, r *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *refusal) {
	if r.MemberEpoch < joinEpoch {
		return d.leave(r)
	}
	if why := d.admit(r); why != nil {
		return nil, why
	}
	old, why := d.find(r)
	if why != nil {
		return nil, why
	}
	c := d.update(old, from, r)
	d.current(!slices.Equal(c.topics, old.topics) || c.regex != old.regex || !old.has[hasMetadata])
	claims := make(parts)
	for _, t := range r.Topics {
		for _, n := range t.Partitions {
			claims[part{topic.ID(t.TopicID), n}] = 0
		}
	}
	c = d.reconcile(d.next.members[c.id], claims, r.Topics != nil)
	d.s.beat(d.g, c)

	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	id := c.id
	resp.MemberID, resp.MemberEpoch = &id, c.epoch
	_, interval := d.s.limits().consumer.of(d.s.settings(d.g.id))
	resp.HeartbeatIntervalMillis = int32(interval.Milliseconds())
	full := r.MemberEpoch == joinEpoch || r.RebalanceTimeoutMillis >= 0 && r.Topics != nil &&
		(r.SubscribedTopicNames != nil || r.SubscribedTopicRegex != nil)
	if full || !c.owned.same(old.owned) {
		resp.Assignment = c.owned.assignment()
	}
	return resp, nil
}

// assignment tells a member what it owns.
func (p parts) assignment() *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	out := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	for _, t := range p.byTopic() {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID, at.Partitions = t.topic, t.ns
		out.Topics = append(out.Topics, at)
	}
	return &out
}

// admit makes sure that there is a group of the new protocol with room for the member.
func (d *draft) admit(r *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	if d.next == nil {
		switch {
		case r.MemberEpoch != joinEpoch:
			return refused(unknownMember, "Group %q has no member %q.", r.Group, r.MemberID)
		case d.g.state == dead:
			return &refusal{code: notAvailable}
		}
		if len(d.g.members) >= d.s.limits().consumer.maxSize {
			return d.full()
		}
		return d.upgrade()
	}
	if r.MemberEpoch == joinEpoch && len(d.next.members) >= d.s.limits().consumer.maxSize && d.next.members[r.MemberID] == nil &&
		(r.InstanceID == nil || d.next.static(*r.InstanceID) == nil) {
		return d.full()
	}
	return nil
}

func (d *draft) full() *refusal {
	return refused(groupFull, "The consumer group has reached its maximum capacity of %d members.", d.s.limits().consumer.maxSize)
}

// find gives the member that a request is from, or a new one.
func (d *draft) find(r *kmsg.ConsumerGroupHeartbeatRequest) (*consumer, *refusal) {
	if r.InstanceID == nil {
		c := d.next.members[r.MemberID]
		switch {
		case c != nil:
			return c, c.knows(r)
		case r.MemberEpoch != joinEpoch:
			return nil, refused(unknownMember, "Group %q has no member %q.", r.Group, r.MemberID)
		}
		return d.fresh(r.MemberID), nil
	}
	c := d.next.static(*r.InstanceID)
	switch {
	case c == nil && r.MemberEpoch == joinEpoch:
		return d.fresh(r.MemberID), nil
	case c == nil:
		return nil, refused(unknownMember, "Instance id %s is unknown.", *r.InstanceID)
	case c.id == r.MemberID:
		return c, c.knows(r)
	case r.MemberEpoch != joinEpoch:
		return nil, refused(fencedInstance, "Static member %s with instance id %s was fenced by member %s.", r.MemberID, *r.InstanceID, c.id)
	case c.classic == nil && c.epoch != staticLeaveEpoch:
		return nil, refused(unreleasedInstance, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", r.MemberID, *r.InstanceID, c.id)
	}
	return d.replace(c, d.fresh(r.MemberID).id), nil
}

// fresh is a member that nobody knows yet.
func (d *draft) fresh(id string) *consumer {
	if id == "" {
		id = d.s.newID()
	}
	return &consumer{id: strings.Clone(id), state: reconciled}
}

// replace gives a static member's place to its new incarnation: what it has to own and what
// it owns.
func (d *draft) replace(old *consumer, id string) *consumer {
	c := *old
	c.id, c.epoch, c.previous, c.has = id, joinEpoch, joinEpoch, [3]bool{true, old.has[hasTarget], true}
	// What the old one had not let go of yet died with it.
	c.revoking = nil
	if c.state == unrevoked {
		c.state = reconciled
	}
	d.drop(old)
	d.put(&c)
	return &c
}

// knows judges the epoch that a member claims. The one before will do if the answer with
// the present one may have been lost: then it owns nothing that it should not.
func (c *consumer) knows(r *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	const rejoin = "The member must abandon all its partitions and rejoin."
	switch {
	case r.MemberEpoch == joinEpoch, r.MemberEpoch == c.epoch:
		return nil
	case r.MemberEpoch > c.epoch:
		return refused(fencedEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). %s", r.MemberEpoch, c.epoch, rejoin)
	}
	subset := r.Topics != nil
	for _, t := range r.Topics {
		for _, n := range t.Partitions {
			_, ok := c.owned[part{topic.ID(t.TopicID), n}]
			subset = subset && ok
		}
	}
	if r.MemberEpoch == c.previous && subset {
		return nil
	}
	return refused(fencedEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). %s", r.MemberEpoch, c.epoch, rejoin)
}

// update notes what a member says of itself; what it does not say stays.
func (d *draft) update(old *consumer, from Client, r *kmsg.ConsumerGroupHeartbeatRequest) *consumer {
	c := *old
	c.client, c.classic = Client{ID: strings.Clone(from.ID), Host: strings.Clone(from.Host)}, nil
	c.has[hasMetadata] = true
	if r.InstanceID != nil {
		c.instance = clonedPtr(r.InstanceID)
	}
	if r.RackID != nil {
		c.rack = clonedPtr(r.RackID)
	}
	if r.RebalanceTimeoutMillis >= 0 {
		c.rebalance = time.Duration(r.RebalanceTimeoutMillis) * time.Millisecond
	}
	if r.ServerAssignor != nil {
		c.assignor = cloned(r.ServerAssignor)
	}
	if r.SubscribedTopicRegex != nil {
		c.regex = cloned(r.SubscribedTopicRegex)
	}
	if r.SubscribedTopicNames != nil {
		c.topics = nil
		for _, name := range r.SubscribedTopicNames {
			c.topics = append(c.topics, strings.Clone(name))
		}
		slices.Sort(c.topics)
		c.topics = slices.Compact(c.topics)
	}
	if c.saysSame(old) && old.has[hasMetadata] {
		return old
	}
	d.put(&c)
	return &c
}

func clonedPtr(s *string) *string {
	c := strings.Clone(*s)
	return &c
}

// leave takes a member out; a static one may only go away for a while.
func (d *draft) leave(r *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *refusal) {
	if d.next == nil {
		return nil, refused(unknownMember, "Group %q has no member %q.", r.Group, r.MemberID)
	}
	c := d.next.members[r.MemberID]
	if r.InstanceID != nil {
		c = d.next.static(*r.InstanceID)
	}
	switch {
	case c == nil:
		return nil, refused(unknownMember, "Group %q has no member %q.", r.Group, r.MemberID)
	case c.id != r.MemberID:
		return nil, refused(fencedInstance, "Static member %s with instance id %s was fenced by member %s.", r.MemberID, *r.InstanceID, c.id)
	}
	if r.MemberEpoch == staticLeaveEpoch {
		away := *c
		away.epoch, away.revoking, away.has[hasCurrent] = staticLeaveEpoch, make(parts), true
		if away.state == unrevoked {
			away.state = reconciled
		}
		d.put(&away)
	} else {
		d.fence("left", c)
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	id := c.id
	resp.MemberID, resp.MemberEpoch = &id, r.MemberEpoch
	return resp, nil
}
