package collect

import (
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
)

// partitionSamples gives what is in each partition and what was ever put there.
func partitionSamples(state *cluster.State, show func(string) bool) []metric.Sample {
	n := 0
	for i := range state.Topics {
		n += 2 * len(state.Topics[i].Partitions)
	}
	s := newSheet(n)
	for _, t := range state.Topics {
		if !show(t.Name) {
			continue
		}
		for _, p := range t.Partitions {
			labels := metric.Labels(metric.LabelTopic, t.Name, metric.LabelPartition, decimal(p.ID))
			messages, ok := held(p)
			s.addIf(ok, metric.PartitionMessages, float64(messages), labels)
			s.addIf(p.End != cluster.Unknown, metric.ProducedMessages, float64(p.End), labels)
		}
	}
	return s.samples
}
