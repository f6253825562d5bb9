package group

import (
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupDescribe, versions 0 to 1. KIP-848; KIP-1099 type of a member (1).

// describeConsumers shows one group of the new protocol.
func (s *shard) describeConsumers(id string) kmsg.ConsumerGroupDescribeResponseGroup {
	out := kmsg.NewConsumerGroupDescribeResponseGroup()
	out.Group, out.AuthorizedOperations = id, math.MinInt32
	g := s.groups[id]
	if g == nil || g.consumers == nil {
		why := "Group " + id + " not found."
		if g != nil {
			why = "Group " + id + " is not a consumer group."
		}
		out.ErrorCode, out.ErrorMessage = groupNotFound, &why
		return out
	}
	c := g.consumers
	out.State, out.Epoch, out.AssignmentEpoch = c.state(), c.epoch, c.targetEpoch
	out.AssignorName = c.assignorName(s.limits().consumer.assignors)
	view := s.topics()
	for _, m := range c.inOrder() {
		om := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		om.MemberID, om.InstanceID, om.RackID, om.MemberEpoch = m.id, m.instance, m.rack, m.epoch
		om.ClientID, om.ClientHost = m.client.ID, m.client.Host
		om.SubscribedTopics, om.SubscribedTopicRegex = m.topics, optional(m.regex)
		om.Assignment.TopicPartitions, om.TargetAssignment.TopicPartitions = view.describe(m.owned), view.describe(m.target)
		om.MemberType = 1
		if m.classic != nil {
			om.MemberType = 0
		}
		out.Members = append(out.Members, om)
	}
	return out
}

// describe names partitions; those of deleted topics are left out.
func (t *topics) describe(ps parts) (out []kmsg.AssignmentTopicPartition) {
	for _, tp := range ps.byTopic() {
		info, ok := t.byID[tp.topic]
		if !ok {
			continue
		}
		at := kmsg.NewAssignmentTopicPartition()
		at.TopicID, at.Topic, at.Partitions = tp.topic, info.name, tp.ns
		out = append(out, at)
	}
	return out
}

// deleteConsumers deletes a group that has no members, with its offsets.
func (s *shard) deleteConsumers(g *group, answer func(code)) {
	say := func(c code) { s.later(func() { answer(c) }) }
	s.turn(g, say, func(d *draft) func(code) {
		switch {
		case d.next == nil && !d.over:
			s.deleteClassic(g.id, answer)
			return func(code) {}
		case d.next != nil && len(d.next.members) > 0:
			return func(code) { say(nonEmptyGroup) }
		}
		d.dissolve()
		d.dropsOffsets, g.lingers = true, false
		return say
	})
}
