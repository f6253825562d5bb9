// Package alarm decides, once a period, which alarm rules hold: it moves one
// state a rule and label set, remembers it across restarts, and tells the
// notification and the audit log about every change.
//
// It does not send anything (agent/notify does) and reads nothing but snapshots.
// The deciding is pure (core): no goroutine, clock or disk; Evaluator is the
// shell around it that loads rules, keeps the state file and hands changes on.
//
// Invariant: a change is on the disk before it is handed on, unless the disk
// refuses or hangs; then the road goes on from memory and the state is written
// as soon as the disk takes it. So a restart neither repeats nor loses a change.
//
// In a cluster, rules about the cluster are evaluated by the one node that speaks for
// it; the others hear what it knows and go on with that when they speak, see Peers.
//
// Road in: Receive, one snapshot a period. Road out: Notifier and Recorder.
package alarm

import (
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// State is what is known about one rule and label set.
type State string

// The states.
const (
	OK     State = "ok"
	Firing State = "alarm"
	NoData State = "no-data" // the series was absent for 3 periods
)

// noDataAfter is the number of absent periods after which a series has no data.
// Source: specification of the alarm rules.
const noDataAfter = 3

// Alarm is one rule applied to one label set, with everything that a message
// about it has to say. It is a value: nobody changes it later.
type Alarm struct {
	Instance  string         `json:"instance"` // instance ID
	Rule      string         `json:"rule"`
	Version   string         `json:"version"` // of the rule that gave this state
	Severity  rules.Severity `json:"severity"`
	Summary   string         `json:"summary,omitempty"`
	Advice    string         `json:"advice,omitempty"`
	Metric    string         `json:"metric,omitempty"`
	Condition string         `json:"condition"`        // in words
	Threshold float64        `json:"threshold"`        // in Unit
	Unit      string         `json:"unit,omitempty"`   // of the metric
	Labels    []metric.Label `json:"labels,omitempty"` // sorted by name

	State    State     `json:"state"`
	Since    time.Time `json:"since"`            // when it came into this state
	Value    float64   `json:"value"`            // last value seen
	IsFiring bool      `json:"firing,omitempty"` // in alarm, or without data after having been in alarm
	Fired    time.Time `json:"fired,omitzero"`   // begin of the present or last alarm
	Ended    time.Time `json:"ended,omitzero"`   // its end; zero while it fires
	Reason   string    `json:"reason,omitempty"` // why it ended, if not by a good value
	Moved    bool      `json:"moved,omitempty"`  // it did not end: another node watches it now, and nobody is told by this one

	Repeat    time.Duration  `json:"repeat"` // as in the rule; 0 = once
	NotifyOn  []rules.Change `json:"notify_on"`
	Receivers []string       `json:"receivers,omitempty"`
	Watchdog  bool           `json:"watchdog,omitempty"`
	Wide      bool           `json:"wide,omitempty"` // it is about the cluster, not about one node of it
}

// Key identifies the alarm: rule and labels.
func (a *Alarm) Key() string { return key(a.Rule, a.Labels) }

// Object names what the alarm is about, e.g. "broker 0" or "group billing, topic orders".
func (a *Alarm) Object() string {
	if len(a.Labels) == 0 {
		return "instance"
	}
	parts := make([]string, len(a.Labels))
	for i, l := range a.Labels {
		name := strings.TrimPrefix(l.Name, "kafka_")
		switch name {
		case "topics", "groups", "partitions":
			name = strings.TrimSuffix(name, "s")
		}
		parts[i] = name + " " + l.Value
	}
	return strings.Join(parts, ", ")
}

// Event is one change of state.
type Event struct {
	Time     time.Time
	From, To State
	Alarm    Alarm // after the change
}

func key(rule string, labels []metric.Label) string {
	var b strings.Builder
	b.WriteString(rule)
	for _, l := range labels {
		b.WriteByte(0)
		b.WriteString(l.Name)
		b.WriteByte(0)
		b.WriteString(l.Value)
	}
	return b.String()
}

// matches says whether a rule takes a label set.
func matches(r *rules.Rule, labels []metric.Label) bool {
	for i := range r.Match {
		m := &r.Match[i]
		at := slices.IndexFunc(labels, func(l metric.Label) bool { return l.Name == m.Label })
		value := ""
		if at >= 0 {
			value = labels[at].Value
		}
		if !m.Matches(value) {
			return false
		}
	}
	return true
}
