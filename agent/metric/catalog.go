package metric

import (
	"fmt"
	"slices"
	"sync"
)

// Metric is one row of the catalogue.
type Metric struct {
	ID       ID
	Help     string
	Unit     string // "count", "byte", "byte/s", "count/s", "ms", "s", "%", "ratio", "bool"
	Counter  bool   // else gauge
	Labels   []string
	Min, Max float64 // documented range; Max 0 = unbounded
	Group    string  // "instance", "broker", "topic", "group", "own"

	// Grows tells that Max is the smallest flavor's: a larger one moves it up.
	Grows bool
	// Histogram tells that the ID names a family (_bucket, _sum, _count).
	Histogram bool
	// Open tells that a series may carry kafka_broker, kafka_topics, kafka_partitions
	// and kafka_groups beside Labels.
	Open bool
	// Live tells that the metric is read at scrape time and is in no snapshot,
	// so that no rule can watch it.
	Live bool
}

// Groups of the catalogue.
const (
	GroupInstance = "instance"
	GroupBroker   = "broker"
	GroupTopic    = "topic"
	GroupConsumer = "group"
	GroupOwn      = "own"
)

// Catalog gives every metric that this program emits, documented ones first. Read only.
//
// The slice is the caller's own; what it points to is shared by nobody.
func Catalog() []Metric {
	all := make([]Metric, 0, 128)
	all = append(all, instanceMetrics()...)
	all = append(all, brokerMetrics()...)
	all = append(all, topicMetrics()...)
	all = append(all, groupMetrics()...)
	all = append(all, ownMetrics()...)
	return append(all, liveMetrics()...)
}

// Lookup finds one. It is cheap: rules and receivers ask for every sample.
func Lookup(id ID) (Metric, bool) {
	m, ok := byID()[id]
	return m, ok
}

// ClusterWide tells whether a metric is about the cluster and not about one node: exactly one
// node emits it at a time.
func ClusterWide(id ID) bool {
	switch id {
	case BrokerAlive, Brokers, UnderReplicatedPartitions, OfflinePartitions, OfflineReplicas, SettingsDiffer, ConsumerGroups,
		GroupMembers, GroupTopicLagSeconds, CommittedPastEnd, SeriesLeftOut:
		return true
	}
	m, ok := Lookup(id)
	return ok && (m.Group == GroupInstance || m.Group == GroupTopic || m.Group == GroupConsumer)
}

// Fits tells what is wrong with a sample, or nil: its metric must be in the
// catalogue as one that a snapshot holds, and its labels the ones named there. A
// sidecar that belongs to no broker leaves kafka_broker out of our own metrics.
func Fits(s Sample) error {
	m, ok := Lookup(s.ID)
	if !ok || m.Live {
		return fmt.Errorf("metric %q is not in the catalogue as one of a snapshot", s.ID)
	}
	want := m.Labels
	if m.Group == GroupOwn && s.Label(LabelBroker) == "" {
		want = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name == LabelBroker })
	}
	for i, l := range s.Labels {
		if i > 0 && s.Labels[i-1].Name >= l.Name {
			return fmt.Errorf("labels of metric %q are out of order at %q", s.ID, l.Name)
		}
		switch {
		case len(want) > 0 && want[0] == l.Name:
			want = want[1:]
		case m.Open && isObject(l.Name):
		default:
			return fmt.Errorf("metric %q has label %q, the catalogue wants %q", s.ID, l.Name, m.Labels)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("metric %q lacks label %q", s.ID, want[0])
	}
	return nil
}

func isObject(label string) bool {
	return label == LabelBroker || label == LabelTopic || label == LabelPartition || label == LabelGroup
}

// byID is the catalogue made once; read only.
var byID = sync.OnceValue(func() map[ID]Metric {
	rows := map[ID]Metric{}
	for _, m := range Catalog() {
		rows[m.ID] = m
	}
	return rows
})

func instanceMetrics() []Metric {
	return []Metric{
		{ID: CurrentPartitions, Help: "Partitions in use in the instance.", Unit: "count", Max: 1800, Grows: true, Group: GroupInstance},
		{ID: CurrentTopics, Help: "Topics created.", Unit: "count", Max: 1800, Grows: true, Group: GroupInstance},
		{ID: GroupMsgs, Help: "Messages not yet consumed, summed over all consumer groups.", Unit: "count", Max: 1e9, Group: GroupInstance},
	}
}

func brokerMetrics() []Metric {
	rows := []Metric{
		{ID: BrokerDataSize, Help: "Bytes of message data on this broker.", Unit: "byte", Max: 5e12},
		{ID: BrokerMessagesInRate, Help: "Messages produced a second.", Unit: "count/s", Max: 500000},
		{ID: BrokerBytesInRate, Help: "Bytes produced a second, without replication.", Unit: "byte/s", Max: 5e8},
		{ID: BrokerBytesOutRate, Help: "Bytes consumed a second, without replication.", Unit: "byte/s", Max: 5e8},
		{ID: BrokerPublicBytesInRate, Help: "Bytes received a second on the public listeners.", Unit: "byte/s", Max: 5e8},
		{ID: BrokerPublicBytesOutRate, Help: "Bytes sent a second on the public listeners.", Unit: "byte/s", Max: 5e8},
		{ID: BrokerTotalBytesInRate, Help: "All network bytes received a second by the node.", Unit: "byte/s", Max: 1e9},
		{ID: BrokerTotalBytesOutRate, Help: "All network bytes sent a second by the node.", Unit: "byte/s", Max: 1e9},
		{ID: BrokerProduceMean, Help: "Mean time to serve a produce request, the wait for replicas included.", Unit: "ms", Max: 10000},
		{ID: BrokerFetchMean, Help: "Mean time to serve a fetch request, the wait for data included.", Unit: "ms", Max: 10000},
		{ID: BrokerCPUCoreLoad, Help: "Load average of one minute divided by the number of cores.", Unit: "ratio", Max: 20},
		{ID: BrokerCPUUsage, Help: "CPU used on the node.", Unit: "%", Max: 100},
		{ID: BrokerMemoryUsage, Help: "Memory used on the node.", Unit: "%", Max: 100},
		{ID: BrokerHeapUsage, Help: "Heap in use of the broker process against its memory limit.", Unit: "%", Max: 100},
		{ID: BrokerDiskUsage, Help: "Used share of the file system that holds the data directory.", Unit: "%", Max: 100},
		{ID: BrokerDiskReadAwait, Help: "Mean time of a read I/O on the data disk in the period.", Unit: "ms"},
		{ID: BrokerDiskWriteAwait, Help: "Mean time of a write I/O on the data disk in the period.", Unit: "ms"},
		{ID: BrokerConnections, Help: "Open TCP connections of clients.", Unit: "count", Max: 65535},
		{ID: BrokerAlive, Help: "1 when the broker is alive, 0 when it is offline.", Unit: "bool", Max: 1},
	}
	return in(GroupBroker, rows, LabelBroker)
}

func topicMetrics() []Metric {
	rows := in(GroupTopic, []Metric{
		{ID: TopicBytesInRate, Help: "Bytes produced to the topic a second.", Unit: "byte/s"},
		{ID: TopicBytesOutRate, Help: "Bytes consumed from the topic a second.", Unit: "byte/s"},
		{ID: TopicDataSize, Help: "Bytes of message data in the topic, all replicas counted once each, as stored.", Unit: "byte"},
		{ID: TopicMessages, Help: "Messages in the topic now.", Unit: "count"},
		{ID: TopicMessagesInRate, Help: "Messages produced to the topic a second.", Unit: "count/s"},
	}, LabelTopic)
	return append(rows, in(GroupTopic, []Metric{
		{ID: PartitionMessages, Help: "Messages in the partition now.", Unit: "count"},
		{ID: ProducedMessages, Help: "Messages produced into the partition so far (its end offset).", Unit: "count"},
	}, LabelPartition, LabelTopic)...)
}

func groupMetrics() []Metric {
	rows := in(GroupConsumer, []Metric{
		{ID: MessagesConsumed, Help: "Messages of the partition that the group has consumed (its committed offset).", Unit: "count"},
		{ID: MessagesRemained, Help: "Messages of the partition that the group can still consume (lag).", Unit: "count"},
	}, LabelGroup, LabelPartition, LabelTopic)
	rows = append(rows, in(GroupConsumer, []Metric{
		{ID: TopicMessagesConsumed, Help: "Messages of the topic that the group has consumed.", Unit: "count"},
		{ID: TopicMessagesRemained, Help: "Messages of the topic that the group can still consume.", Unit: "count"},
	}, LabelGroup, LabelTopic)...)
	return append(rows, in(GroupConsumer, []Metric{
		{ID: ConsumerMessagesConsumed, Help: "Messages that the group has consumed over all its topics.", Unit: "count"},
		{ID: ConsumerMessagesRemained, Help: "Messages that the group can still consume over all its topics.", Unit: "count"},
	}, LabelGroup)...)
}

// in gives rows their group and, where they name none, their labels.
func in(group string, rows []Metric, labels ...string) []Metric {
	for i := range rows {
		rows[i].Group = group
		if rows[i].Labels == nil {
			rows[i].Labels = labels
		}
	}
	return rows
}
