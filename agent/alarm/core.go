package alarm

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

const (
	// maxTracks bounds rules × label sets; what is beyond is counted, not watched.
	maxTracks = 200_000
	// maxEnded and endedFor bound the alarms that are remembered after their end.
	maxEnded = 1000
	endedFor = 24 * time.Hour
)

// core decides. It has no goroutine, clock or disk.
type core struct {
	set      *rules.Set
	unit     func(metricID string) string
	instance string
	tracks   map[string]*track
	seen     map[string]bool  // rules that have been evaluated: their new counters began at 0
	periods  map[string]int64 // rule → number of the last period that was closed
	ended    []Alarm          // the last to end is the last
	refused  uint64           // label sets beyond maxTracks

	elsewhere bool   // another node watches over the cluster, see handOver
	holding   bool   // what is known of the cluster's alarms here is what this node found out last, see takeOver
	seq       uint64 // of the newest share that was made or adopted here
	heard     *share // the newest that another node told; nil: none

	present map[metric.Label]bool // of the snapshot being evaluated, see presentIn
}

func newCore(set *rules.Set, unit func(string) string) *core {
	return &core{set: set, unit: unit, tracks: map[string]*track{}, seen: map[string]bool{}, periods: map[string]int64{}}
}

// evaluate takes one snapshot and gives the changes, in the order of the rules.
// A snapshot that stands for missed ones too counts as one period.
func (c *core) evaluate(s *metric.Snapshot) []Event {
	c.instance, c.present = s.InstanceID, nil
	var events []Event
	byRule := map[string][]*track{}
	for _, t := range c.tracks {
		byRule[t.Rule] = append(byRule[t.Rule], t)
	}
	for i := range c.set.All() {
		r := &c.set.All()[i]
		if !r.Active() || c.elsewhere && aboutCluster(r) {
			continue
		}
		events = append(events, c.evaluateRule(r, s, byRule[r.Name])...)
		c.seen[r.Name] = true
	}
	c.forget(s.End)
	return events
}

func (c *core) evaluateRule(r *rules.Rule, s *metric.Snapshot, tracks []*track) []Event {
	for _, sample := range samples(r, s) {
		if !matches(r, sample.Labels) {
			continue
		}
		t, fresh := c.trackOf(r, sample.Labels, s.End)
		if t == nil {
			continue
		}
		if fresh {
			// A counter that appears while the rule is watched began at 0.
			t.Counted = c.seen[r.Name]
			tracks = append(tracks, t)
		}
		t.take(r, sample.Value)
	}
	if !c.closes(r, s.End) {
		return nil
	}
	sort.Slice(tracks, func(i, j int) bool { return metric.Compare(tracks[i].series(), tracks[j].series()) < 0 })
	var events []Event
	for _, t := range tracks {
		events = append(events, c.judge(r, t, s)...)
	}
	return events
}

// samples gives what a rule looks at. A watchdog looks at the snapshot itself:
// that it came is what it has to tell.
func samples(r *rules.Rule, s *metric.Snapshot) []metric.Sample {
	if r.Watchdog {
		return []metric.Sample{{Value: 1}}
	}
	return s.Of(metric.ID(r.Metric))
}

// take adds one sample to the running period.
func (t *track) take(r *rules.Rule, v float64) {
	if math.IsNaN(v) {
		return // no value is no sample
	}
	if r.Aggregation == rules.Increase {
		grown, ok := t.grown(v)
		if !ok {
			return
		}
		v = grown
	}
	t.Window.add(v)
}

// trackOf finds or begins the memory of a label set; nil when there is no room.
func (c *core) trackOf(r *rules.Rule, labels []metric.Label, now time.Time) (t *track, fresh bool) {
	k := key(r.Name, labels)
	if t := c.tracks[k]; t != nil {
		return t, false
	}
	if len(c.tracks) >= maxTracks {
		c.refused++
		return nil, false
	}
	t = &track{Rule: r.Name, Version: r.Version(), Labels: labels, State: OK, Since: now}
	c.tracks[k] = t
	return t, true
}

// closes says whether the rule's period ends with the snapshot that ends now.
// Periods are aligned to the wall clock; one whose last snapshot was missed is
// closed by the next.
func (c *core) closes(r *rules.Rule, now time.Time) bool {
	if r.Period == 0 {
		return true
	}
	number := now.UnixNano() / int64(r.Period)
	last, known := c.periods[r.Name]
	c.periods[r.Name] = number
	return known && number != last
}

// judge closes a track's period.
func (c *core) judge(r *rules.Rule, t *track, s *metric.Snapshot) []Event {
	value, ok := t.Window.value(r.Aggregation)
	t.Window = window{}
	v := absent
	if ok {
		t.Value, v = value, good
		if r.Watchdog || r.Condition.Comparison.Holds(value, r.Condition.Threshold) {
			v = bad
		}
	}
	if v == bad && !t.Firing && !r.Window.Contains(s.End) {
		t.Absent, t.Bad = 0, 0 // outside its window a rule begins no alarm
		return nil
	}
	if v == absent && t.Counted && r.Aggregation == rules.Increase && t.Absent == 0 && !c.seen[r.Name] {
		return nil // the first sample after a start only gives the counter's base
	}
	if v == absent && t.Absent+1 >= noDataAfter {
		if what := c.gone(t.Labels, s); what != "" {
			return c.end(r, t, s.End, what)
		}
	}
	before, firing := t.State, t.Firing
	if !t.step(r, v, s.End) {
		return nil
	}
	e := Event{Time: s.End, From: before, To: t.State, Alarm: c.alarm(r, t)}
	if firing && !t.Firing {
		e.Alarm.Ended = s.End
		c.ended = append(c.ended, e.Alarm)
	}
	return []Event{e}
}

// end forgets a track; an alarm that was firing is over, with the reason.
func (c *core) end(r *rules.Rule, t *track, now time.Time, reason string) []Event {
	delete(c.tracks, key(t.Rule, t.Labels))
	if !t.Firing {
		return nil
	}
	before := t.State
	t.State, t.Since, t.Firing = OK, now, false
	a := c.alarm(r, t)
	a.Ended, a.Reason = now, reason
	c.ended = append(c.ended, a)
	return []Event{{Time: now, From: before, To: OK, Alarm: a}}
}

// gone says that what the labels name was deleted: the snapshot knows how many
// objects of its kind there are and has no series at all with this one. A
// reading that merely failed looks different: then the number of topics or groups
// is absent too, or other series of the object are there.
func (c *core) gone(labels []metric.Label, s *metric.Snapshot) string {
	for _, l := range labels {
		var count metric.ID
		var what string
		switch l.Name {
		case metric.LabelTopic:
			count, what = metric.CurrentTopics, "topic "+l.Value+" was deleted"
		case metric.LabelGroup:
			count, what = metric.ConsumerGroups, "consumer group "+l.Value+" was deleted"
		default:
			continue
		}
		if len(s.Of(count)) > 0 && !c.presentIn(s)[l] {
			return what
		}
	}
	return ""
}

// presentIn gives every label that the snapshot's series bear, made on first use.
func (c *core) presentIn(s *metric.Snapshot) map[metric.Label]bool {
	if c.present == nil {
		c.present = map[metric.Label]bool{}
		for i := range s.Samples {
			// Why: our own series about alarms name objects that may be gone.
			if s.Samples[i].ID == metric.AlarmState {
				continue
			}
			for _, l := range s.Samples[i].Labels {
				c.present[l] = true
			}
		}
	}
	return c.present
}

// replace changes the rules. Alarms of rules that are gone, off or no longer
// take the object end; those of changed rules keep their state and count anew.
func (c *core) replace(set *rules.Set, now time.Time) []Event {
	old := c.set
	c.set = set
	var events []Event
	for _, t := range c.sorted() {
		r, ok := set.Find(t.Rule)
		was, _ := old.Find(t.Rule)
		if was == nil {
			was = r
		}
		switch {
		case !ok:
			if was == nil {
				was = &rules.Rule{Name: t.Rule}
			}
			events = append(events, c.end(was, t, now, "the rule was removed")...)
		case !r.Active():
			events = append(events, c.end(r, t, now, "the rule was turned off")...)
		case !matches(r, t.Labels) || was.Metric != r.Metric || was.Aggregation != r.Aggregation:
			events = append(events, c.end(r, t, now, "the rule no longer watches it")...)
		case r.Version() != t.Version:
			t.Version, t.Bad, t.Good, t.Window = r.Version(), 0, 0, window{}
		}
	}
	for name := range c.seen {
		if r, ok := set.Find(name); !ok || !r.Active() {
			delete(c.seen, name)
			delete(c.periods, name)
		}
	}
	return events
}

// forget drops ended alarms that are too old or too many.
func (c *core) forget(now time.Time) {
	for len(c.ended) > 0 && (len(c.ended) > maxEnded || now.Sub(c.ended[0].Ended) > endedFor) {
		c.ended = c.ended[1:]
	}
}

// alarm describes a track for the outside.
func (c *core) alarm(r *rules.Rule, t *track) Alarm {
	return Alarm{
		Instance: c.instance, Rule: r.Name, Version: t.Version, Severity: r.Severity,
		Summary: r.Summary, Advice: r.Advice, Metric: r.Metric, Condition: r.Text(),
		Threshold: r.Condition.Threshold, Unit: c.unit(r.Metric), Labels: t.Labels,
		State: t.State, Since: t.Since, Value: t.Value, IsFiring: t.Firing, Fired: t.Fired,
		Repeat: r.Repeat, NotifyOn: r.NotifyOn, Receivers: r.Receivers, Watchdog: r.Watchdog, Wide: aboutCluster(r),
	}
}

// sorted gives the tracks in a stable order.
func (c *core) sorted() []*track {
	keys := make([]string, 0, len(c.tracks))
	for k := range c.tracks {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	all := make([]*track, len(keys))
	for i, k := range keys {
		all[i] = c.tracks[k]
	}
	return all
}

// alarms describes all tracks, firing or not.
func (c *core) alarms() []Alarm {
	var all []Alarm
	for _, t := range c.sorted() {
		if r, ok := c.set.Find(t.Rule); ok {
			all = append(all, c.alarm(r, t))
		}
	}
	return all
}

// saved is the state file's content.
type saved struct {
	Instance string           `json:"instance"`
	Tracks   []*track         `json:"tracks"`
	Seen     []string         `json:"seen"`
	Periods  map[string]int64 `json:"periods,omitempty"`
	Ended    []Alarm          `json:"ended,omitempty"`
	Holding  bool             `json:"holding,omitempty"`
	Seq      uint64           `json:"seq,omitempty"`
	Heard    *share           `json:"heard,omitempty"`
}

func (c *core) encode() []byte {
	s := saved{
		Instance: c.instance, Tracks: make([]*track, 0, len(c.tracks)), Periods: c.periods, Ended: c.ended,
		Holding: c.holding, Seq: c.seq, Heard: c.heard,
	}
	for _, t := range c.tracks {
		s.Tracks = append(s.Tracks, t)
	}
	for name := range c.seen {
		s.Seen = append(s.Seen, name)
	}
	sort.Strings(s.Seen)
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("BUG: alarm state cannot be encoded: %v", err))
	}
	return b
}

// restore takes what encode gave, perhaps under other rules.
func (c *core) restore(b []byte, now time.Time) ([]Event, error) {
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("cannot decode alarm state: %w", err)
	}
	c.instance, c.ended = s.Instance, s.Ended
	c.holding, c.seq, c.heard = s.Holding, s.Seq, s.Heard
	for _, t := range s.Tracks {
		c.tracks[key(t.Rule, t.Labels)] = t
	}
	for _, name := range s.Seen {
		c.seen[name] = true
	}
	if s.Periods != nil {
		c.periods = s.Periods
	}
	return c.replace(c.set, now), nil
}

// firing describes the alarms that fire, sorted by rule and labels.
func (c *core) firing() []Alarm {
	var all []Alarm
	for _, t := range c.tracks {
		if r, ok := c.set.Find(t.Rule); ok && t.Firing {
			all = append(all, c.alarm(r, t))
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Key() < all[j].Key() })
	return all
}
