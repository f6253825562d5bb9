// Package metric is the vocabulary of the agent.
package metric

import "time"

// ID is a metric's name, as Prometheus sees it.
type ID string

// Label is one dimension.
type Label struct{ Name, Value string }

// Sample is one series' value for the period. Labels are sorted by name and hold no kafka_instance_id: the snapshot has it.
type Sample struct {
	ID     ID
	Labels []Label
	Value  float64
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
func (s *Snapshot) Of(id ID) []Sample { panic("BUG: unbuilt") }

// Metric is one row of the catalogue.
type Metric struct {
	ID       ID
	Help     string
	Unit     string // "count", "byte", "byte/s", "count/s", "ms", "%", "ratio", "bool"
	Counter  bool   // else gauge
	Labels   []string
	Min, Max float64 // documented range; Max 0 = unbounded
	Group    string  // "instance", "broker", "topic", "group", "own"
}

// Catalog gives every metric that this program emits, documented ones first. Read only.
func Catalog() []Metric { panic("BUG: unbuilt") }

// Lookup finds one.
func Lookup(id ID) (Metric, bool) { panic("BUG: unbuilt") }
