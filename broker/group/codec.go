package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Versions of the records that are written.
// Source: Kafka 2.3 to 3.9; all its tools from 2.3 on read them.
const (
	offsetKeyVersion = 1
	offsetVersion    = 3 // with leader epoch; the latest that is known
	expiringVersion  = 1 // the only one that carries a time of expiry
	groupKeyVersion  = 2
	groupVersion     = 3 // with instance IDs; the latest that is known
)

func offsetKey(groupID string, p topic.Partition) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: groupID, Topic: p.Topic, Partition: p.Partition}
	return k.AppendTo(nil)
}

func offsetRecord(groupID string, p topic.Partition, o offset) record.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.Metadata = offsetVersion, o.at, o.epoch, o.metadata
	v.CommitTimestamp, v.ExpireTimestamp = o.committed, o.expires
	if o.expires >= 0 {
		v.Version = expiringVersion
	}
	return record.Record{Key: offsetKey(groupID, p), Value: v.AppendTo(nil)}
}

func groupKey(groupID string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: groupID}
	return k.AppendTo(nil)
}

// store writes the group as it is: members with what they say under the chosen protocol and
// with their assignment.
func (s *shard) store(g *group, done func(code)) {
	v := g.value()
	rec := record.Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
	s.write(g, nil, []record.Record{rec}, func(c code) {
		if c == invalidCommitOffsetSize { // that one is for offsets
			c = unknownServerError
		}
		done(c)
	})
}

// value is the group as it is stored.
func (g *group) value() *kmsg.GroupMetadataValue {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.CurrentStateTimestamp = groupVersion, g.protocolType, g.generation, g.since
	if g.protocol != "" {
		protocol := g.protocol
		v.Protocol = &protocol
	}
	if g.leader != "" {
		leader := g.leader
		v.Leader = &leader
	}
	for _, m := range g.everybody() {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID, vm.ClientID, vm.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		vm.RebalanceTimeoutMillis = int32(m.rebalance.Milliseconds())
		vm.SessionTimeoutMillis = int32(m.session.Milliseconds())
		vm.Subscription, vm.Assignment = m.metadata(g.protocol), m.assignment
		v.Members = append(v.Members, vm)
	}
	return &v
}

// Replay takes one committed record in, while loading and while running.
func (s *shard) Replay(batch record.Header, r record.Record) error {
	if len(r.Key) < 2 {
		return errors.New("record without a key")
	}
	switch version := int16(binary.BigEndian.Uint16(r.Key)); version {
	case 0, offsetKeyVersion:
		return s.replayOffset(batch, r)
	case groupKeyVersion:
		return s.replayGroup(r)
	case keyGroup, keyTopics, keyMember, keyTargetEpoch, keyTarget, keyCurrent, keyRegex:
		return s.replayConsumer(r)
	}
	return nil // a later version's kind of record
}

func (s *shard) replayOffset(batch record.Header, r record.Record) error {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("cannot read the key of an offset: %w", err)
	}
	p := topic.Partition{Topic: k.Topic, Partition: k.Partition}
	if r.Value == nil {
		if g := s.groups[k.Group]; g != nil {
			delete(g.offsets, p)
			g.dropPending(p)
			s.forget(g)
		}
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := known16(r.Value, offsetVersion); err != nil {
		return fmt.Errorf("cannot read an offset of group %q: %w", k.Group, err)
	}
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("cannot read an offset of group %q: %w", k.Group, err)
	}
	o := offset{at: v.Offset, epoch: v.LeaderEpoch, metadata: v.Metadata, committed: v.CommitTimestamp, expires: -1, record: r.Offset}
	if v.Version == expiringVersion {
		o.expires = v.ExpireTimestamp
	}
	if v.Version < 3 {
		o.epoch = -1
	}
	g := s.group(k.Group)
	if batch.Transactional() {
		s.replayPending(g, batch, p, o)
	} else {
		g.offsets[p] = o
	}
	return nil
}

func (s *shard) replayGroup(r record.Record) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("cannot read the key of a group: %w", err)
	}
	if r.Value == nil {
		if g := s.groups[k.Group]; g != nil {
			g.stored = nil
			s.forget(g)
		}
		return nil
	}
	if err := known16(r.Value, groupVersion); err != nil {
		return fmt.Errorf("cannot read group %q: %w", k.Group, err)
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(bytes.Clone(r.Value)); err != nil {
		return fmt.Errorf("cannot read group %q: %w", k.Group, err)
	}
	s.group(k.Group).stored = &v
	return nil
}

// known16 refuses what a later version wrote, rather than reading it wrongly.
func known16(b []byte, latest int16) error {
	if len(b) < 2 {
		return errors.New("value is cut off")
	}
	if v := int16(binary.BigEndian.Uint16(b)); v < 0 || v > latest {
		return fmt.Errorf("version %d is not known, the latest is %d", v, latest)
	}
	return nil
}

// revive makes a group live again from what is stored of it. Its members have one session
// from now on to be heard of.
func (s *shard) revive(g *group) {
	v := g.stored
	if v == nil {
		return
	}
	g.protocolType, g.generation, g.since = v.ProtocolType, v.Generation, v.CurrentStateTimestamp
	if len(v.Members) == 0 {
		return
	}
	g.state = stable
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	for _, vm := range v.Members {
		m := &member{
			id: vm.MemberID, instance: vm.InstanceID, joined: g.joins,
			client:     Client{ID: vm.ClientID, Host: vm.ClientHost},
			session:    time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalance:  time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			protocols:  []protocol{{g.protocol, vm.Subscription}},
			assignment: vm.Assignment,
		}
		if vm.RebalanceTimeoutMillis < 0 {
			m.rebalance = m.session
		}
		g.joins++
		g.members[m.id] = m
		if m.instance != nil {
			g.static[*m.instance] = m
		}
		s.heard(g, m)
	}
}

// Loaded makes the shard live after everything was replayed.
func (s *shard) Loaded() {
	for _, g := range s.groups {
		s.revive(g)
		s.reviveConsumers(g)
	}
	s.dropUnknown()
	s.expireLater()
}

// codeOf tells a client why its records may not be there.
func codeOf(err error) code {
	switch {
	case err == nil:
		return none
	case errors.Is(err, journal.ErrTooLarge):
		return invalidCommitOffsetSize
	case errors.Is(err, replica.ErrTimeout):
		return timedOut
	case errors.Is(err, storage.ErrInvalidProducerEpoch):
		return invalidProducerEpoch
	case errors.Is(err, replica.ErrNotEnoughReplicas), errors.Is(err, replica.ErrNotEnoughAfterAppend),
		errors.Is(err, storage.ErrFull), errors.Is(err, journal.ErrBusy):
		return notAvailable
	}
	return notCoordinator
}

func cloned(s *string) string {
	if s == nil {
		return ""
	}
	return strings.Clone(*s)
}
