package group

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
)

// What consumers of the classic protocol say inside of JoinGroup and SyncGroup.
// Source: Kafka, ConsumerProtocolSubscription and ConsumerProtocolAssignment, 0 to 3.

// subscriptionOf is what a consumer says when it joins.
type subscriptionOf struct {
	version int16
	topics  []string
	owned   []topic.Partition
	rack    *string
}

var errEmbedded = errors.New("cannot read what the consumer says under its protocol")

// readSubscription reads a consumer's metadata; what a later version adds is left aside.
func readSubscription(b []byte) (out subscriptionOf, err error) {
	r := &kbin.Reader{Src: b}
	out.version = r.Int16()
	for range r.ArrayLen() {
		if !r.Ok() {
			return out, errEmbedded
		}
		out.topics = append(out.topics, r.String())
	}
	r.NullableBytes() // the assignor's own
	if out.version >= 1 {
		out.owned = readNamed(r)
	}
	if out.version >= 2 {
		r.Int32() // generation of what it owns
	}
	if out.version >= 3 {
		out.rack = r.NullableString()
	}
	if !r.Ok() || out.version < 0 {
		return out, errEmbedded
	}
	return out, nil
}

// readAssignment reads what a leader gave a consumer; nothing is no partitions.
func readAssignment(b []byte) ([]topic.Partition, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := &kbin.Reader{Src: b}
	version := r.Int16()
	out := readNamed(r)
	if !r.Ok() || version < 0 {
		return nil, errEmbedded
	}
	return out, nil
}

func readNamed(r *kbin.Reader) (out []topic.Partition) {
	for range r.ArrayLen() {
		name := r.String()
		for range r.ArrayLen() {
			if !r.Ok() {
				return nil
			}
			out = append(out, topic.Partition{Topic: name, Partition: r.Int32()})
		}
	}
	return out
}

// byID gives partitions by their topics' IDs; those that do not exist are left out.
func (t *topics) byIDs(named []topic.Partition) parts {
	out := make(parts)
	for _, p := range named {
		if t.has(p) {
			out[part{t.byName[p.Topic].id, p.Partition}] = 0
		}
	}
	return out
}

// embed writes partitions as a leader would assign them.
func (t *topics) embed(ps parts, version int16) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Version = version
	for _, tp := range ps.byTopic() {
		if info, ok := t.byID[tp.topic]; ok {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: info.name, Partitions: tp.ns})
		}
	}
	return a.AppendTo(nil)
}
