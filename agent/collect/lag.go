package collect

import (
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
)

// index finds partitions of a state by name.
type index map[string]*cluster.Topic

func newIndex(state *cluster.State) index {
	ix := make(index, len(state.Topics))
	for i := range state.Topics {
		ix[state.Topics[i].Name] = &state.Topics[i]
	}
	return ix
}

// partition gives one partition; false when it is not there (any more).
func (ix index) partition(topic string, id int32) (cluster.Partition, bool) {
	t := ix[topic]
	if t == nil {
		return cluster.Partition{}, false
	}
	if int(id) < len(t.Partitions) && id >= 0 && t.Partitions[id].ID == id {
		return t.Partitions[id], true
	}
	for _, p := range t.Partitions {
		if p.ID == id {
			return p, true
		}
	}
	return cluster.Partition{}, false
}

// remained gives how many messages the group can still consume, whether that is
// known, and whether the commit lies past the end.
//
// What retention deleted before it was consumed cannot be consumed any more and
// is not counted: the consumer goes on at the start offset.
func remained(committed int64, p cluster.Partition) (lag int64, known, past bool) {
	if p.End == cluster.Unknown {
		return 0, false, false
	}
	if committed > p.End {
		return 0, true, true
	}
	return max(p.End-max(committed, p.Start), 0), true, false
}

// sum adds up parts, of which one that is missing makes the whole missing.
type sum struct {
	consumed, remained int64
	parts              int
	incomplete         bool
}

func (s *sum) add(o sum) {
	s.consumed += o.consumed
	s.remained += o.remained
	s.parts += o.parts
	s.incomplete = s.incomplete || o.incomplete
}

type lagResult struct {
	samples []metric.Sample
	pastEnd int
}

// lagSamples gives what every group has consumed and has still to consume.
//
// A group that committed nothing for a partition has no series there: nobody
// knows where it will begin. One that never committed and has no member has none
// at all. What it committed for a topic that is gone is not
// shown either.
func lagSamples(state *cluster.State, ix index, show func(string) bool) lagResult {
	var r lagResult
	s := newSheet(lagSeries(state))
	all := sum{incomplete: !state.GroupsKnown}
	for _, g := range state.Groups {
		shown := show(g.Name)
		labels := metric.Labels(metric.LabelGroup, g.Name)
		exists := g.Members > 0 || len(g.Commits) > 0 || !g.Known
		s.addIf(shown && exists && g.Members >= 0, metric.GroupMembers, float64(g.Members), labels)
		if !g.Known {
			all.incomplete = true
			continue
		}
		var group sum
		for rest := g.Commits; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Topic == rest[0].Topic {
				n++
			}
			topic := topicLag(&s, &r, g.Name, rest[:n], ix, shown && show(rest[0].Topic))
			group.add(topic)
			rest = rest[n:]
		}
		all.add(group)
		if shown && group.parts > 0 {
			s.add(metric.ConsumerMessagesConsumed, float64(group.consumed), labels)
			s.addIf(!group.incomplete, metric.ConsumerMessagesRemained, float64(group.remained), labels)
		}
	}
	s.addIf(!all.incomplete, metric.GroupMsgs, float64(all.remained), nil)
	r.samples = s.samples
	return r
}

// lagSeries is the most that a state's groups have: two of each partition and topic, three
// of each group.
func lagSeries(state *cluster.State) int {
	n := 1
	for i := range state.Groups {
		commits := state.Groups[i].Commits
		n += 3 + 2*len(commits)
		for j := range commits {
			if j == 0 || commits[j].Topic != commits[j-1].Topic {
				n += 2
			}
		}
	}
	return n
}

// topicLag gives the series of one group's commits in one topic.
func topicLag(s *sheet, r *lagResult, group string, commits []cluster.Commit, ix index, shown bool) sum {
	var topic sum
	name := commits[0].Topic
	for _, c := range commits {
		p, ok := ix.partition(name, c.Partition)
		if !ok {
			continue
		}
		lag, known, past := remained(c.Offset, p)
		if past {
			r.pastEnd++
		}
		topic.add(sum{consumed: c.Offset, remained: lag, parts: 1, incomplete: !known})
		if shown {
			labels := metric.Labels(metric.LabelGroup, group, metric.LabelTopic, name, metric.LabelPartition, decimal(c.Partition))
			s.add(metric.MessagesConsumed, float64(c.Offset), labels)
			s.addIf(known, metric.MessagesRemained, float64(lag), labels)
		}
	}
	if shown && topic.parts > 0 {
		labels := metric.Labels(metric.LabelGroup, group, metric.LabelTopic, name)
		s.add(metric.TopicMessagesConsumed, float64(topic.consumed), labels)
		s.addIf(!topic.incomplete, metric.TopicMessagesRemained, float64(topic.remained), labels)
	}
	return topic
}
