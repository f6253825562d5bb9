package rules

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Metric is what a rule has to know about a metric.
type Metric struct {
	Unit     string   // "count", "byte", "byte/s", "count/s", "ms", "s", "%", "ratio", "bool"
	Counter  bool     // it only grows
	Sampled  bool     // it is in every snapshot; rules see no other
	Labels   []string // besides kafka_instance_id
	Min, Max float64  // range of its values; Max 0 = unbounded
}

// Env is the outside that rules are checked against.
type Env struct {
	Metric   func(id string) (Metric, bool) // the catalogue
	Limit    func(l Limit) float64          // what the user set; 0 = not set
	Setting  func(l Limit) string           // name of the setting, for texts
	Receiver func(name string) bool         // nil = receivers are not checked
	Period   time.Duration                  // sampling period; 0 = one minute
}

// Load reads the built-in rules and the user's files, in this order, checks all
// of them and gives the set. A file that is not right is refused as a whole.
// Errors: all that were found, joined.
func Load(files []string, env Env) (*Set, error) {
	all, err := Builtin()
	if err != nil {
		return nil, err
	}
	var errs []error
	from := map[string]string{}
	for _, file := range files {
		rules, err := ParseFile(file, all)
		errs = append(errs, err)
		for _, r := range rules {
			if other, twice := from[r.Name]; twice {
				errs = append(errs, fmt.Errorf("%s: rule %q is already in %s", r.Source, r.Name, other))
			}
			from[r.Name] = r.Source
			all = replace(all, r)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return Check(all, env)
}

func replace(all []Rule, r Rule) []Rule {
	for i := range all {
		if all[i].Name == r.Name {
			all[i] = r
			return all
		}
	}
	return append(all, r)
}

// Check makes a set of rules: it looks every metric, label, unit and receiver
// up, computes thresholds, turns off what needs a limit that is not set, and
// refuses rules that can never fire or never end.
func Check(rules []Rule, env Env) (*Set, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules exceed the limit of %d", len(rules), maxRules)
	}
	var errs []error
	set := &Set{rules: slices.Clone(rules)}
	for i := range set.rules {
		r := &set.rules[i]
		if err := r.check(env); err != nil {
			errs = append(errs, fmt.Errorf("%s: rule %q: %w", r.Source, r.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortFunc(set.rules, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(set.rules); i++ {
		if set.rules[i].Name == set.rules[i-1].Name {
			return nil, fmt.Errorf("%s: rule %q is already in %s", set.rules[i].Source, set.rules[i].Name, set.rules[i-1].Source)
		}
	}
	return set, nil
}

func (r *Rule) check(env Env) error {
	r.Off = ""
	if env.Receiver != nil {
		for _, name := range r.Receivers {
			if !env.Receiver(name) {
				return fmt.Errorf("receiver %q does not exist", name)
			}
		}
	}
	period := cmp.Or(env.Period, time.Minute)
	if r.Period%period != 0 {
		return fmt.Errorf("period %v is not a multiple of the sampling period %v", r.Period, period)
	}
	if r.Watchdog {
		return nil
	}
	m, ok := env.Metric(r.Metric)
	switch {
	case !ok:
		return fmt.Errorf("metric %q does not exist", r.Metric)
	case !m.Sampled:
		return fmt.Errorf("metric %q can only be scraped; rules see the metrics that are sampled every period", r.Metric)
	case m.Counter && r.Aggregation != Increase:
		return fmt.Errorf("metric %q is a counter that only grows: an alarm on its value would never end; use aggregation: increase", r.Metric)
	case !m.Counter && r.Aggregation == Increase:
		return fmt.Errorf("metric %q is no counter; aggregation increase is for counters", r.Metric)
	}
	for _, match := range r.Match {
		if !slices.Contains(m.Labels, match.Label) {
			return fmt.Errorf("metric %q has no label %q; it has: %s", r.Metric, match.Label, cmp.Or(strings.Join(m.Labels, ", "), "none"))
		}
	}
	if err := r.resolve(m, env); err != nil || r.Off != "" {
		return err
	}
	return r.reachable(m)
}

// resolve computes the threshold in the metric's unit.
func (r *Rule) resolve(m Metric, env Env) error {
	c := &r.Condition
	if c.Of != "" {
		if m.Unit != "count" {
			return fmt.Errorf("a share of %s is a count, metric %q is in %s", c.Of, r.Metric, m.Unit)
		}
		limit := env.Limit(c.Of)
		if limit <= 0 {
			r.Off = fmt.Sprintf("it needs %s, which is not set", env.Setting(c.Of))
			return nil
		}
		c.Threshold = limit * c.Number / 100
		return nil
	}
	factor, ok := units(m.Unit)[c.Unit]
	if !ok {
		return fmt.Errorf("condition %q: metric %q is in %s, not in %s", c.Text(), r.Metric, m.Unit, c.Unit)
	}
	c.Threshold = c.Number * factor
	return nil
}

// reachable refuses a condition that no value in the metric's range fulfils, and
// one that every value fulfils.
func (r *Rule) reachable(m Metric) error {
	low, high, bounded := m.Min, m.Max, m.Max > m.Min
	if r.Aggregation == Sum || r.Aggregation == Increase || r.Condition.Of != "" {
		bounded = false // no longer bounded by what one sample can be
	}
	t := r.Condition.Threshold
	var never, always bool
	switch r.Condition.Comparison {
	case ">":
		never, always = bounded && t >= high, t < low
	case ">=":
		never, always = bounded && t > high, t <= low
	case "<":
		never, always = t <= low, bounded && t > high
	case "<=":
		never, always = t < low, bounded && t >= high
	case "==":
		never = t < low || bounded && t > high
	case "!=":
		always = t < low || bounded && t > high
	}
	valid := fmt.Sprintf("%s has values from %s", r.Metric, number(low))
	if bounded {
		valid += " to " + number(high)
	}
	switch {
	case never:
		return fmt.Errorf("condition %q can never fire: %s", r.Condition.Text(), valid)
	case always:
		return fmt.Errorf("condition %q would always fire: %s", r.Condition.Text(), valid)
	}
	return nil
}
