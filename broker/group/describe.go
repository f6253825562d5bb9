package group

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// DescribeGroups, versions 0 to 6. KIP-430 operations (3), KIP-345 instance (4), KIP-1043
// an unknown group is an error (6).

// allOperations is what may be done to a group by somebody who may do everything: read,
// delete, describe. Source: Kafka, AclOperation codes 3, 6, 8 as bits.
const allOperations = 1<<3 | 1<<6 | 1<<8

// describe shows one group.
func (s *shard) describe(id string, version int16, operations bool) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group, out.AuthorizedOperations = id, math.MinInt32
	g := s.groups[id]
	if g == nil || g.consumers != nil { // who asks here falls back from, or to, ConsumerGroupDescribe
		return undescribed(id, groupNotFound, version)
	}
	if operations {
		out.AuthorizedOperations = allOperations
	}
	out.State, out.ProtocolType = g.state.String(), g.protocolType
	if g.state == stable {
		out.Protocol = g.protocol
	}
	for _, m := range g.everybody() {
		om := kmsg.NewDescribeGroupsResponseGroupMember()
		om.MemberID, om.InstanceID, om.ClientID, om.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		om.ProtocolMetadata, om.MemberAssignment = []byte{}, []byte{}
		if g.state == stable {
			om.ProtocolMetadata, om.MemberAssignment = m.metadata(g.protocol), m.assignment
		}
		out.Members = append(out.Members, om)
	}
	return out
}

// undescribed stands for a group that cannot be shown. Before version 6 an unknown group
// is a dead one and no error.
func undescribed(id string, c code, version int16) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group, out.ErrorCode, out.AuthorizedOperations = id, c, math.MinInt32
	if c != groupNotFound {
		return out
	}
	out.State = dead.String()
	if version < 6 {
		out.ErrorCode = none
		return out
	}
	why := "Group " + id + " not found."
	out.ErrorMessage = &why
	return out
}

// ListGroups, versions 0 to 5. KIP-518 states (4), KIP-848 types (5).

// Types of groups, as Kafka's tools show them.
const (
	classicType  = "classic"
	consumerType = "consumer"
)

// list gives the groups in these states and of these types; an empty filter lets all pass.
func (s *shard) list(states, types []string) (out []kmsg.ListGroupsResponseGroup) {
	passes := func(filter []string, text string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, text) })
	}
	for _, g := range s.inOrder() {
		lg := kmsg.NewListGroupsResponseGroup()
		lg.Group, lg.ProtocolType, lg.GroupState, lg.GroupType = g.id, g.protocolType, g.state.String(), classicType
		if g.consumers != nil {
			lg.ProtocolType, lg.GroupState, lg.GroupType = "consumer", g.consumers.state(), consumerType
		}
		if passes(types, lg.GroupType) && passes(states, lg.GroupState) {
			out = append(out, lg)
		}
	}
	return out
}

// DeleteGroups, versions 0 to 3.

// deleteGroup deletes a group that has no members, with its offsets, and answers when that
// is committed.
func (s *shard) deleteGroup(id string, answer func(code)) {
	g := s.groups[id]
	if g != nil && g.ofConsumers() {
		s.deleteConsumers(g, answer)
		return
	}
	s.deleteClassic(id, answer)
}

func (s *shard) deleteClassic(id string, answer func(code)) {
	g := s.groups[id]
	c := none
	switch {
	case id == "":
		c = invalidGroupID
	case g == nil:
		c = groupNotFound
	case g.state == dead:
		c = notAvailable
	case g.state != empty || len(g.promised) > 0:
		c = nonEmptyGroup
	}
	if c != none {
		s.later(func() { answer(c) })
		return
	}
	ps, rs := g.withoutOffsets()
	rs = append(rs, record.Record{Key: groupKey(id)})
	g.state, g.lingers = dead, false
	once := s.answerOnce(func(c code) { s.later(func() { answer(c) }) })
	s.writeOffsets(g, nil, rs, ps, func(c code) {
		if c != none {
			g.state = empty
		}
		once(c)
	})
}

// withoutOffsets gives the deletion of all offsets, and which they are. Those on their way
// come before this in the log and go with the others.
func (g *group) withoutOffsets() ([]topic.Partition, []record.Record) {
	all := make(map[topic.Partition]bool, len(g.offsets))
	for p := range g.offsets {
		all[p] = true
	}
	for p := range g.committing {
		all[p] = true
	}
	for p := range g.inTransactions() {
		all[p] = true
	}
	ps := slices.SortedFunc(maps.Keys(all), comparePartitions)
	rs := make([]record.Record, 0, len(ps)+1)
	for _, p := range ps {
		rs = append(rs, record.Record{Key: offsetKey(g.id, p)})
	}
	return ps, rs
}
