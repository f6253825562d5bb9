package alarm

import (
	"math"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// verdict is what one period said.
type verdict int

const (
	absent verdict = iota // no sample in the whole period
	good
	bad
)

// track is the memory of one rule and label set.
type track struct {
	Rule    string         `json:"rule"`
	Version string         `json:"version"`
	Labels  []metric.Label `json:"labels,omitempty"`

	State  State     `json:"state"`
	Since  time.Time `json:"since"`
	Value  float64   `json:"value"`
	Firing bool      `json:"firing,omitempty"`
	Fired  time.Time `json:"fired,omitzero"`

	// Consecutive periods, including the last one.
	Bad    int `json:"bad,omitempty"`
	Good   int `json:"good,omitempty"`
	Absent int `json:"absent,omitempty"`

	Window  window  `json:"window,omitzero"`
	Counter float64 `json:"counter,omitempty"` // last value, for increase
	Counted bool    `json:"counted,omitempty"` // Counter is set
}

// step takes one period's verdict and moves the state.
//
// Missing data is neither good nor bad: it ends no alarm and starts none, and
// consecutive periods go on after a gap shorter than noDataAfter. An alarm that
// loses its data stays firing, so that nobody is told that all is well.
func (t *track) step(r *rules.Rule, v verdict, now time.Time) (changed bool) {
	before := t.State
	switch v {
	case absent:
		t.Absent++
		if t.Absent >= noDataAfter {
			t.State, t.Bad, t.Good = NoData, 0, 0
		}
	case bad:
		t.Absent, t.Good = 0, 0
		t.Bad++
		if !t.Firing && t.Bad >= r.For {
			t.Firing, t.Fired = true, now
		}
		t.State = t.shown()
	case good:
		t.Absent, t.Bad = 0, 0
		t.Good++
		if t.Good >= r.ForOK {
			t.Firing = false
		}
		t.State = t.shown()
	}
	if t.State == before {
		return false
	}
	t.Since = now
	return true
}

func (t *track) shown() State {
	if t.Firing {
		return Firing
	}
	return OK
}

// window is what was seen of the running period, for rules whose period is
// longer than the sampling period.
type window struct {
	Count int     `json:"n,omitempty"`
	Sum   float64 `json:"sum,omitempty"`
	Min   float64 `json:"min,omitempty"`
	Max   float64 `json:"max,omitempty"`
	Last  float64 `json:"last,omitempty"`
}

func (w *window) add(v float64) {
	v = finite(v)
	if w.Count == 0 {
		w.Min, w.Max = v, v
	}
	w.Count++
	w.Sum = finite(w.Sum + v)
	w.Min, w.Max, w.Last = min(w.Min, v), max(w.Max, v), v
}

// value gives the period's one value; false when there was no sample.
func (w *window) value(a rules.Aggregation) (float64, bool) {
	if w.Count == 0 {
		return 0, false
	}
	switch a {
	case rules.Avg:
		return w.Sum / float64(w.Count), true
	case rules.Max:
		return w.Max, true
	case rules.Min:
		return w.Min, true
	case rules.Sum, rules.Increase:
		return w.Sum, true
	}
	return w.Last, true
}

// grown gives how much a counter grew since the last sample; false when there is
// nothing to compare with. A smaller value is a counter that began anew.
func (t *track) grown(v float64) (float64, bool) {
	last, counted := t.Counter, t.Counted
	t.Counter, t.Counted = v, true
	switch {
	case !counted:
		return 0, false
	case v < last:
		return v, true
	}
	return v - last, true
}

// series is what tracks of one rule are ordered by.
func (t *track) series() metric.Sample { return metric.Sample{Labels: t.Labels} }

// finite keeps infinities out of the state: they compare the same, and JSON has none.
func finite(v float64) float64 { return min(max(v, -math.MaxFloat64), math.MaxFloat64) }
