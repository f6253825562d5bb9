package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Rule is one alarm rule. One alarm exists per rule and per label set that the
// metric has and the matchers take.
type Rule struct {
	Name        string        // unique; letters, digits, "_" and "-"; the alert's name for receivers
	Summary     string        // one line that says what is wrong when it fires
	Metric      string        // metric ID; empty only for a watchdog
	Match       []Matcher     // all have to hold; none = every object
	Aggregation Aggregation   // what makes one value of a period's samples; default raw
	Condition   Condition     // when a period counts as bad
	Period      time.Duration // length of the period; 0 = the sampling period
	For         int           // consecutive bad periods until the alarm; default 1, limit 1440
	ForOK       int           // consecutive good periods until it is over; default 1, limit 1440
	Severity    Severity      // default major
	Advice      string        // what to do about it
	Window      Window        // when in the day the rule is in force; zero = always
	Repeat      time.Duration // pause before a lasting alarm is notified again; default 24 h; 0 = once
	NotifyOn    []Change      // which changes are notified; default both
	Receivers   []string      // names of receivers; none = as the routes say
	Watchdog    bool          // fires always, to prove that the alarm road works end to end
	Enabled     bool          // default true
	Off         string        // why a rule is off that is enabled: what it needs is not set
	Builtin     bool          // came with the program, perhaps changed by a file
	Source      string        // FILE:LINE
}

// Aggregation makes one value of the samples of a period.
type Aggregation string

// The aggregations. With a period as long as the sampling period the first five
// give the same.
const (
	Raw      Aggregation = "raw"      // the last sample
	Avg      Aggregation = "avg"      // mean
	Max      Aggregation = "max"      // largest
	Min      Aggregation = "min"      // smallest
	Sum      Aggregation = "sum"      // sum
	Increase Aggregation = "increase" // how much a counter grew; the only one for counters
)

// Severity says how bad it is.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	Major    Severity = "major"
	Minor    Severity = "minor"
	Info     Severity = "info"
)

// Severities gives all, the worst first.
func Severities() []Severity { return []Severity{Critical, Major, Minor, Info} }

// AtLeast says whether s is as bad as min or worse.
func (s Severity) AtLeast(min Severity) bool {
	all := Severities()
	return slices.Index(all, s) <= slices.Index(all, min)
}

// Change is a change of state that may be notified.
type Change string

// The changes.
const (
	OnAlarm Change = "alarm"
	OnOK    Change = "ok"
)

// Notifies says whether a change of this rule is told to receivers.
func (r *Rule) Notifies(c Change) bool { return slices.Contains(r.NotifyOn, c) }

// Active says whether the rule is evaluated.
func (r *Rule) Active() bool { return r.Enabled && r.Off == "" }

// Text gives the condition in words, e.g. "broker_disk_usage > 80 %".
func (r *Rule) Text() string {
	if r.Watchdog {
		return "always"
	}
	s := r.Metric
	if m := matchText(r.Match); m != "" {
		s += "{" + m + "}"
	}
	if r.Aggregation != Raw {
		s = string(r.Aggregation) + " of " + s
		if r.Period > 0 {
			s += " over " + r.Period.String()
		}
	}
	s += " " + r.Condition.Text()
	if r.For > 1 {
		s += fmt.Sprintf(", %d periods in a row", r.For)
	}
	return s
}

// Version changes when anything changes that decides about the alarm or what is
// said about it. Events carry it, so that an old event is not read with a new rule.
func (r *Rule) Version() string {
	c := *r
	c.Source, c.Off, c.Builtin = "", "", false
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("BUG: rule cannot be encoded: %v", err))
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:6])
}

// Window is the part of each day in which a rule is in force. Outside it no alarm
// begins; one that lasts may end.
type Window struct {
	From, To time.Duration // since midnight; To excluded; From > To goes over midnight
	Zone     string        // IANA name; empty = the node's own time zone
}

// Always says that the window is the whole day.
func (w Window) Always() bool { return w.From == w.To }

// Contains says whether a moment is in the window.
func (w Window) Contains(t time.Time) bool {
	if w.Always() {
		return true
	}
	local := t.In(w.location())
	h, m, s := local.Clock()
	day := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	if w.From < w.To {
		return w.From <= day && day < w.To
	}
	return w.From <= day || day < w.To
}

func (w Window) location() *time.Location {
	if w.Zone == "" {
		return time.Local
	}
	loc, err := time.LoadLocation(w.Zone)
	if err != nil {
		panic(fmt.Sprintf("BUG: time zone %q was not checked: %v", w.Zone, err))
	}
	return loc
}

// Set is a checked collection of rules, sorted by name. It never changes.
type Set struct{ rules []Rule }

// All gives every rule, those that are off included. Read only.
func (s *Set) All() []Rule { return s.rules }

// Find gives one rule by name.
func (s *Set) Find(name string) (*Rule, bool) {
	i, ok := slices.BinarySearchFunc(s.rules, name, func(r Rule, name string) int { return cmp.Compare(r.Name, name) })
	if !ok {
		return nil, false
	}
	return &s.rules[i], true
}

// Active counts the rules that are evaluated.
func (s *Set) Active() int {
	n := 0
	for i := range s.rules {
		if s.rules[i].Active() {
			n++
		}
	}
	return n
}
