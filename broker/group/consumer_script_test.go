package group

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
)

// The commands of the new protocol. Topics are named; owns= and answers show partitions as
// t/0;1+u/0.

// chb is a ConsumerGroupHeartbeat: chb LABEL MEMBER EPOCH [topics=t+u] [regex=..] [owns=..]
// [instance=..] [assignor=..] [rack=..] [rebalance=..]. Epoch 0 is a full request.
func (s *script) consumerHeartbeat() {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID = s.version(1), s.group(), s.word(2), s.optional("instance")
	if r.MemberID == "-" {
		r.MemberID = ""
	}
	r.MemberEpoch = int32(s.number(s.word(3)))
	r.ServerAssignor, r.SubscribedTopicRegex, r.RackID = s.optional("assignor"), s.optional("regex"), s.optional("rack")
	if text, ok := s.options["rebalance"]; ok || r.MemberEpoch == 0 {
		if !ok {
			text = "10s"
		}
		r.RebalanceTimeoutMillis = int32(s.duration(text).Milliseconds())
	}
	if text, ok := s.options["topics"]; ok {
		r.SubscribedTopicNames = strings.FieldsFunc(text, func(c rune) bool { return c == '+' })
	}
	if text, ok := s.options["owns"]; ok || r.MemberEpoch == 0 {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, tp := range s.parts(text).byTopic() {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID, t.Partitions = tp.topic, tp.ns
			r.Topics = append(r.Topics, t)
		}
	}
	label := s.word(1)
	s.do(func(sh *shard) {
		sh.consumerHeartbeat(Client{ID: s.option("client", "c"), Host: "/127.0.0.1"}, r, func(resp *kmsg.ConsumerGroupHeartbeatResponse) {
			if resp.ErrorCode != none {
				why := ""
				if resp.ErrorMessage != nil {
					why = " " + *resp.ErrorMessage
				}
				s.print("%s: %s%s", label, named(resp.ErrorCode), why)
				return
			}
			text := ""
			if *resp.MemberID != r.MemberID {
				text = " id=" + *resp.MemberID
			}
			if resp.Assignment != nil {
				owned := make(parts)
				for _, t := range resp.Assignment.Topics {
					for _, n := range t.Partitions {
						owned[part{topic.ID(t.TopicID), n}] = 0
					}
				}
				text += " owns " + s.text(owned)
			}
			s.print("%s: epoch %d%s", label, resp.MemberEpoch, text)
			if resp.HeartbeatIntervalMillis != 5000 && resp.MemberEpoch >= 0 {
				s.print("  every %d ms", resp.HeartbeatIntervalMillis)
			}
		})
	})
}

// parts reads what text shows.
func (s *script) parts(text string) parts {
	out := make(parts)
	for _, w := range strings.FieldsFunc(text, func(c rune) bool { return c == '+' }) {
		name, ns, _ := strings.Cut(w, "/")
		for _, n := range strings.Split(ns, ";") {
			out[part{s.topics[name].id, int32(s.number(n))}] = 0
		}
	}
	return out
}

// assigned shows what a member of the classic protocol is given.
func (s *script) assigned(b []byte) string {
	if named, err := readAssignment(b); err == nil && len(b) > 0 {
		return s.text(s.view.byIDs(named))
	}
	return fmt.Sprintf("%q", b)
}

// text shows partitions.
func (s *script) text(ps parts) string {
	var out []string
	for _, t := range ps.byTopic() {
		name := s.view.byID[t.topic].name
		if name == "" {
			name = "gone"
		}
		out = append(out, name+"/"+strings.Trim(strings.ReplaceAll(fmt.Sprint(t.ns), " ", ";"), "[]"))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, "+")
}

// cgroup shows the group as its own members see it.
func (s *script) consumerGroup() {
	g := s.shard.groups[s.group()]
	if g == nil || g.consumers == nil {
		s.print("%s: no consumer group", s.group())
		return
	}
	c := g.consumers
	s.print("%s: %s epoch %d target %d", s.group(), c.state(), c.epoch, c.targetEpoch)
	for _, m := range c.inOrder() {
		state := [...]string{"?", "stable", "unrevoked", "unreleased"}[m.state]
		text := fmt.Sprintf("  %s epoch %d %s owns %s", m.id, m.epoch, state, s.text(m.owned))
		if len(m.revoking) > 0 {
			text += " revokes " + s.text(m.revoking)
		}
		if !m.target.same(m.owned) {
			text += " target " + s.text(m.target)
		}
		if m.instance != nil {
			text += " instance=" + *m.instance
		}
		if m.classic != nil {
			text += " classic"
		}
		s.print("%s", text)
	}
}

// cdescribe is ConsumerGroupDescribe.
func (s *script) consumerDescribe() {
	s.do(func(sh *shard) {
		g := sh.describeConsumers(s.group())
		if g.ErrorCode != none {
			s.print("%s: %s %s", g.Group, named(g.ErrorCode), *g.ErrorMessage)
			return
		}
		s.print("%s: %s epoch %d target %d %s", g.Group, g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName)
		show := func(ts []kmsg.AssignmentTopicPartition) (text string) {
			for _, t := range ts {
				text += fmt.Sprint(" ", t.Topic, t.Partitions)
			}
			return text
		}
		for _, m := range g.Members {
			s.print("  %s %s%s epoch %d topics %v regex %q type %d:%s ->%s", m.MemberID, m.ClientID, m.ClientHost, m.MemberEpoch,
				m.SubscribedTopics, cloned(m.SubscribedTopicRegex), m.MemberType, show(m.Assignment.TopicPartitions), show(m.TargetAssignment.TopicPartitions))
		}
	})
}
