package group

import (
	"maps"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/topic"
)

// The new consumer protocol (KIP-848): the coordinator itself decides who consumes what.
//
// Such a group is what its committed records say, and nothing else: it never runs ahead of
// the log. A request is worked out on a draft of the group; the difference between the two
// is written; when it is committed, replaying it makes the draft's state the group's, and
// the request is answered. Meanwhile whatever else would change the group waits in its
// queue, and then shares the next draft and the next write.

// part is one partition of one topic, by the topic's ID: a topic made again is another one.
type part struct {
	topic topic.ID
	n     int32
}

// parts is a set of partitions; each has the epoch in which the member got it, 0 where that
// has no meaning.
type parts map[part]int32

// same tells whether two sets hold the same partitions.
func (p parts) same(q parts) bool {
	if len(p) != len(q) {
		return false
	}
	for at := range p {
		if _, ok := q[at]; !ok {
			return false
		}
	}
	return true
}

// byTopic gives the partitions of each topic, in order.
func (p parts) byTopic() []topicParts {
	grouped := make(map[topic.ID][]int32)
	for at := range p {
		grouped[at.topic] = append(grouped[at.topic], at.n)
	}
	out := make([]topicParts, 0, len(grouped))
	for _, id := range slices.SortedFunc(maps.Keys(grouped), compareIDs) {
		slices.Sort(grouped[id])
		out = append(out, topicParts{id, grouped[id]})
	}
	return out
}

// topicParts is some partitions of one topic.
type topicParts struct {
	topic topic.ID
	ns    []int32
}

func compareIDs(a, b topic.ID) int { return slices.Compare(a[:], b[:]) }

func compareParts(a, b part) int {
	if c := compareIDs(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.n) - int(b.n)
}

// memberState is how far a member is on its way to its target. The numbers are Kafka's, as
// stored.
type memberState int8

const (
	reconciled memberState = 1 // Kafka: STABLE
	unrevoked  memberState = 2 // it has to let go of partitions first
	unreleased memberState = 3 // others have not let go of its partitions yet
)

// Epochs that are none.
const (
	joinEpoch        = 0  // the member joins, or joins again
	leaveEpoch       = -1 // the member leaves
	staticLeaveEpoch = -2 // the static member goes away for a while and keeps its place
)

// consumer is a member of a group of the new protocol; it is never changed, only replaced.
type consumer struct {
	id             string
	instance, rack *string
	client         Client
	topics         []string // sorted, each once
	regex          string   // "": none
	rebalance      time.Duration
	assignor       string       // the server-side assignor that it wishes; "": any
	classic        *classicLife // not nil: it speaks the classic protocol
	target         parts        // what it shall own in the end
	owned          parts        // what it owns
	revoking       parts        // what it owned and has to let go of
	state          memberState  // of owned on the way to target
	epoch          int32        // member epoch
	previous       int32        // the one before, if the answer with epoch was lost
	has            [3]bool      // which of its records there are: metadata, target, current
}

// The records that a consumer is made of.
const (
	hasMetadata = iota
	hasTarget
	hasCurrent
)

// classicLife is what is known of a member that speaks the classic protocol.
type classicLife struct {
	session   time.Duration
	protocols []protocol
}

// done tells whether the member is where the target of an epoch wants it.
func (c *consumer) done(targetEpoch int32) bool {
	return c.state == reconciled && c.epoch == targetEpoch
}

// resolved is a regular expression with the topics that it matched.
type resolved struct {
	topics  []string // sorted
	version int64    // of the metadata
	at      int64    // ms
}

// consumerGroup is a group of the new protocol, as committed.
type consumerGroup struct {
	stored      bool  // there is a record of the group itself
	epoch       int32 // group epoch: +1 whenever the target has to be worked out again
	hash        int64 // of the subscribed topics
	hasTarget   bool  // there is a record of the target's epoch
	targetEpoch int32
	targetTime  int64 // ms; when the target was worked out
	members     map[string]*consumer
	regexes     map[string]*resolved
}

func newConsumerGroup() *consumerGroup {
	return &consumerGroup{members: make(map[string]*consumer), regexes: make(map[string]*resolved)}
}

// gone tells whether nothing of the group is left.
func (g *consumerGroup) gone() bool {
	return !g.stored && !g.hasTarget && len(g.members) == 0 && len(g.regexes) == 0
}

// state gives the group's state as Kafka's tools show it.
func (g *consumerGroup) state() string {
	if len(g.members) == 0 {
		return "Empty"
	}
	if g.epoch > g.targetEpoch {
		return "Assigning"
	}
	for _, m := range g.members {
		if !m.done(g.targetEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

// inOrder gives the members in the order of their IDs.
func (g *consumerGroup) inOrder() []*consumer {
	out := make([]*consumer, 0, len(g.members))
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		out = append(out, g.members[id])
	}
	return out
}

// static finds a static member by its name.
func (g *consumerGroup) static(instance string) *consumer {
	for _, m := range g.members {
		if m.instance != nil && *m.instance == instance {
			return m
		}
	}
	return nil
}

// subscribes gives the topics that a member wants, by name or by pattern, each once.
func (g *consumerGroup) subscribes(m *consumer) []string {
	if m.regex == "" || g.regexes[m.regex] == nil {
		return m.topics
	}
	if len(m.topics) == 0 {
		return g.regexes[m.regex].topics
	}
	both := slices.Concat(m.topics, g.regexes[m.regex].topics)
	slices.Sort(both)
	return slices.Compact(both)
}

// subscribed gives the topics that some member wants.
func (g *consumerGroup) subscribed() map[string]bool {
	out := make(map[string]bool)
	for _, m := range g.members {
		for _, name := range m.topics {
			out[name] = true
		}
		if r := g.regexes[m.regex]; r != nil {
			for _, name := range r.topics {
				out[name] = true
			}
		}
	}
	return out
}

// assignorName gives the assignor that most members wish; among equals, and when nobody
// wishes, the first one that is configured.
func (g *consumerGroup) assignorName(configured []string) string {
	votes := make(map[string]int)
	for _, m := range g.members {
		votes[m.assignor]++
	}
	best := configured[0]
	for _, name := range configured {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}
