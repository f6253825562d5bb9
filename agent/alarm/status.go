package alarm

import (
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// Stats are the evaluator's own numbers.
type Stats struct {
	Firing         map[rules.Severity]int // every severity is there, also with 0; without the watchdog
	States         map[State]int          // every state is there, also with 0
	Evaluations    uint64                 // snapshots evaluated
	Missed         uint64                 // snapshots that never came
	ReloadFailures uint64                 // changed rule files that were refused
	SaveFailures   uint64                 // writes of the state that failed or hung
	Refused        uint64                 // samples without an alarm: too many label sets
	Last           time.Time              // end of the last snapshot; zero before the first
}

// Stats gives the numbers. It does not wait for the disk.
func (e *Evaluator) Stats() Stats {
	s := Stats{Firing: map[rules.Severity]int{}, States: map[State]int{OK: 0, Firing: 0, NoData: 0}, SaveFailures: e.saver.failures()}
	for _, severity := range rules.Severities() {
		s.Firing[severity] = 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.mu.core.tracks {
		s.States[t.State]++
		if r, ok := e.mu.core.set.Find(t.Rule); ok && t.Firing && !r.Watchdog {
			s.Firing[r.Severity]++
		}
	}
	s.Evaluations, s.Missed, s.ReloadFailures = e.mu.evaluated, e.mu.missed, e.mu.failures
	s.Refused, s.Last = e.mu.core.refused, e.mu.last
	return s
}

// Samples gives the numbers as series of the catalogue, for the next snapshot.
// Broker is the node's ID. It does not wait for the disk.
func (e *Evaluator) Samples(broker string) []metric.Sample {
	stats := e.Stats()
	var out []metric.Sample
	for severity, n := range stats.Firing {
		out = append(out, metric.Sample{ID: metric.Alarms, Labels: metric.Labels(metric.LabelSeverity, string(severity)), Value: float64(n)})
	}
	for _, a := range e.Firing() {
		if a.Watchdog {
			continue // it proves the road, it reports nothing
		}
		labels := append(metric.Labels(metric.LabelRule, a.Rule, metric.LabelSeverity, string(a.Severity)), a.Labels...)
		slices.SortFunc(labels, func(x, y metric.Label) int { return strings.Compare(x.Name, y.Name) })
		out = append(out, metric.Sample{ID: metric.AlarmState, Labels: labels, Value: 1})
	}
	out = append(out, metric.Sample{ID: metric.RuleReloadFailures, Labels: metric.Labels(metric.LabelBroker, broker), Value: float64(stats.ReloadFailures)})
	out, _ = metric.Arrange(out)
	return out
}

// Firing gives the alarms that fire, sorted by rule and labels.
func (e *Evaluator) Firing() []Alarm {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.core.firing()
}

// Alarms gives every rule and label set with its state, sorted by rule and labels.
func (e *Evaluator) Alarms() []Alarm {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.core.alarms()
}

// Ended gives the alarms that ended within the last day, the last to end last.
func (e *Evaluator) Ended() []Alarm {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.mu.core.ended)
}

// Rules gives the rules in force.
func (e *Evaluator) Rules() *rules.Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.core.set
}

// Silent names the active rules that watch nothing at the moment: the metric has
// no series that they take. That is right for a rule about topics where there are
// none; a rule that is always here watches something that does not exist.
func (e *Evaluator) Silent() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	watching := map[string]bool{}
	for _, t := range e.mu.core.tracks {
		watching[t.Rule] = watching[t.Rule] || t.State != NoData
	}
	var silent []string
	for _, r := range e.mu.core.set.All() {
		if r.Active() && !watching[r.Name] {
			silent = append(silent, r.Name)
		}
	}
	return silent
}

// RuleError says why the rule files on the disk are not in force; empty = they are.
func (e *Evaluator) RuleError() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.rulesErr
}

// Environment gives what rules are checked against: the catalogue of this
// program. Limit says what the user set (0 = not set), setting names the setting.
func Environment(limit func(rules.Limit) float64, setting func(rules.Limit) string, receiver func(string) bool, period time.Duration) rules.Env {
	catalogue := map[string]rules.Metric{}
	for _, m := range metric.Catalog() {
		r := rules.Metric{Unit: m.Unit, Counter: m.Counter, Sampled: !m.Live, Labels: m.Labels, Min: m.Min, Max: m.Max}
		if m.Grows {
			r.Max = 0 // the bound is the flavor's, not the catalogue's
		}
		catalogue[string(m.ID)] = r
	}
	return rules.Env{
		Metric: func(id string) (rules.Metric, bool) { m, ok := catalogue[id]; return m, ok },
		Limit:  limit, Setting: setting, Receiver: receiver, Period: period,
	}
}

// Units gives the unit of a metric of the catalogue; empty for an unknown one.
func Units() func(metricID string) string {
	units := map[string]string{}
	for _, m := range metric.Catalog() {
		units[string(m.ID)] = m.Unit
	}
	return func(id string) string { return units[id] }
}
