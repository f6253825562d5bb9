// Package metric is the vocabulary of the agent: what a sample, a series and a
// snapshot are, and the catalogue of every metric with its name, unit, help,
// labels and range.
//
// It is a leaf and decides nothing: collectors make samples, the sampler joins
// them into a snapshot, everybody else reads.
//
// Invariant: a snapshot never changes once it was handed out, its samples are
// sorted by ID and then by labels, and no two of them are the same series.
package metric

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"time"
)

// ID is a metric's name, as Prometheus sees it.
type ID string

// Names of the labels. The first one belongs to the snapshot, not to a sample.
const (
	LabelInstance  = "kafka_instance_id"
	LabelBroker    = "kafka_broker"
	LabelTopic     = "kafka_topics"
	LabelPartition = "kafka_partitions"
	LabelGroup     = "kafka_groups"
)

// Label is one dimension.
type Label struct{ Name, Value string }

// Sample is one series' value for the period. Labels are sorted by name and hold no kafka_instance_id: the snapshot has it.
type Sample struct {
	ID     ID
	Labels []Label
	Value  float64
}

// Label gives the value of one label, or "" when the sample has none of that name.
func (s Sample) Label(name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// Labels makes a sorted label set of name, value, name, value …. A label without a
// value is none, as in Prometheus.
func Labels(pairs ...string) []Label {
	if len(pairs)%2 != 0 {
		panic("BUG: a label without a value")
	}
	set := make([]Label, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			set = append(set, Label{Name: pairs[i], Value: pairs[i+1]})
		}
	}
	slices.SortFunc(set, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return set
}

// Compare orders samples by ID, then by labels; 0 means the same series.
func Compare(a, b Sample) int {
	if c := strings.Compare(string(a.ID), string(b.ID)); c != 0 {
		return c
	}
	return slices.CompareFunc(a.Labels, b.Labels, func(x, y Label) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Value, y.Value))
	})
}

// Snapshot is everything one period gave; immutable once handed out. Samples are sorted by ID, then labels.
type Snapshot struct {
	InstanceID string
	Start, End time.Time     // wall clock, aligned; the minute that just ended
	Elapsed    time.Duration // true, monotonic
	Missed     int           // ticks lost before this one
	Samples    []Sample
}

// Of gives the samples of one metric (a sub-slice, no copy).
func (s *Snapshot) Of(id ID) []Sample {
	if s == nil {
		return nil
	}
	from := sort.Search(len(s.Samples), func(i int) bool { return s.Samples[i].ID >= id })
	n := sort.Search(len(s.Samples)-from, func(i int) bool { return s.Samples[from+i].ID > id })
	return s.Samples[from : from+n : from+n]
}
