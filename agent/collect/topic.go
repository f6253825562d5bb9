package collect

import (
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
)

// instanceSamples counts topics and partitions. The broker's own topics were not
// created by anybody and do not count against any limit.
func instanceSamples(state *cluster.State) []metric.Sample {
	var s sheet
	topics, partitions, under, offline, lost := 0, 0, 0, 0, 0
	for _, t := range state.Topics {
		if !t.Internal {
			topics++
			partitions += len(t.Partitions)
		}
		for _, p := range t.Partitions {
			if p.Leader < 0 {
				offline++
			}
			lost += len(p.Offline)
			if len(p.ISR) < len(p.Replicas) {
				under++
			}
		}
	}
	s.add(metric.CurrentTopics, float64(topics), nil)
	s.add(metric.CurrentPartitions, float64(partitions), nil)
	s.add(metric.UnderReplicatedPartitions, float64(under), nil)
	s.add(metric.OfflinePartitions, float64(offline), nil)
	s.add(metric.OfflineReplicas, float64(lost), nil)
	s.addIf(state.GroupsKnown, metric.ConsumerGroups, float64(len(state.Groups)), nil)
	return s.samples
}

// topicSamples gives messages and bytes of each topic.
func topicSamples(state *cluster.State, show func(string) bool) []metric.Sample {
	var s sheet
	sizes := topicSizes(state)
	for _, t := range state.Topics {
		if !show(t.Name) {
			continue
		}
		labels := metric.Labels(metric.LabelTopic, t.Name)
		var messages int64
		complete := true
		for _, p := range t.Partitions {
			n, ok := held(p)
			messages += n
			complete = complete && ok
		}
		s.addIf(complete, metric.TopicMessages, float64(messages), labels)
		s.addIf(sizes.whole(t), metric.TopicDataSize, float64(sizes.bytes[t.Name]), labels)
	}
	return s.samples
}

// held gives the messages in a partition. The start offset was read before the
// end offset; a log cut in between may put it past.
func held(p cluster.Partition) (int64, bool) {
	if p.Start == cluster.Unknown || p.End == cluster.Unknown {
		return 0, false
	}
	return max(p.End-p.Start, 0), true
}

// sizes are the bytes of all replicas, by topic.
type sizes struct {
	bytes map[string]int64
	told  map[int32]bool // brokers that did
	all   bool           // every broker that is alive told
}

// whole tells whether a topic's size is known: every broker that is alive told, because each
// might have a replica that is on its way, and so did every one that is to have one. A broker
// that is down makes it unknown, not smaller.
func (s *sizes) whole(t cluster.Topic) bool {
	for _, p := range t.Partitions {
		for _, id := range p.Replicas {
			if !s.told[id] {
				return false
			}
		}
	}
	return s.all
}

// topicSizes sums what brokers told. A copy that is on its way to another directory is not a
// replica yet.
func topicSizes(state *cluster.State) sizes {
	out := sizes{bytes: map[string]int64{}, told: map[int32]bool{}, all: true}
	for _, dirs := range state.LogDirs {
		out.told[dirs.Broker] = true
		for _, d := range dirs.Dirs {
			for _, r := range d.Replicas {
				if !r.Future {
					out.bytes[r.Topic] += r.Bytes
				}
			}
		}
	}
	for _, b := range state.Brokers {
		out.all = out.all && out.told[b.ID]
	}
	return out
}

// producedRates reckons messages produced a second from how the end offsets
// grew: true for the whole cluster, whichever broker leads.
func producedRates(before, now *cluster.State, show func(string) bool) []metric.Sample {
	if before == nil {
		return nil
	}
	elapsed := now.Ended.Sub(before.Ended)
	if elapsed <= 0 {
		return nil
	}
	earlier := map[string]cluster.Topic{}
	for _, t := range before.Topics {
		earlier[t.Name] = t
	}
	var s sheet
	for _, t := range now.Topics {
		if !show(t.Name) {
			continue
		}
		produced, ok := producedIn(earlier[t.Name], t)
		s.addIf(ok, metric.TopicMessagesInRate, float64(produced)/elapsed.Seconds(), metric.Labels(metric.LabelTopic, t.Name))
	}
	return s.samples
}

// producedIn sums the growth of a topic's partitions. A topic that was not there
// before, or under the same name another one, began at 0. A log that was cut
// shrinks: what was produced meanwhile cannot be known.
func producedIn(before, now cluster.Topic) (int64, bool) {
	ends := map[int32]int64{}
	if before.ID == now.ID {
		for _, p := range before.Partitions {
			ends[p.ID] = p.End
		}
	}
	var sum int64
	for _, p := range now.Partitions {
		from := ends[p.ID]
		if p.End == cluster.Unknown || from == cluster.Unknown || p.End < from {
			return 0, false
		}
		sum += p.End - from
	}
	return sum, true
}
