package alarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// Speaker is who emitted the series of the cluster for the last period, and so watches over them.
type Speaker int

// Who speaks.
const (
	Nobody    Speaker = iota // nobody that is known; alarms about the cluster stay as they are
	Here                     // this node
	Elsewhere                // another node
	Unsettled                // this node, which has not heard yet what the one before knew: rules about the cluster wait
)

// Peers joins the evaluators of a cluster's nodes. Rules about the cluster are evaluated where its
// series are emitted; whoever takes over goes on with what the one before knew: what fires and since
// when, how often a condition has held, what ended and may not be told yet. The zero value is a
// node alone, which always speaks.
type Peers struct {
	Node    string         // this node's ID
	Speaker func() Speaker // asked once a snapshot
	// Tell sends what this node knows to the others, without waiting; sent is closed when it has left. May be nil.
	Tell func([]byte) (sent <-chan struct{})
	// ToldThrough gives the moment before which every end of an alarm has reached all receivers;
	// zero: none has for sure. May be nil.
	ToldThrough func() time.Time
}

const (
	// maxShared bounds the states of rule and label set that are told, those that fire first.
	maxShared = 5000
)

// share is what the node that speaks knows of the cluster's alarms, for who speaks after it.
//
// Invariant: who speaks next makes its first share with a greater Seq than any it has heard.
type share struct {
	Node     string           `json:"node"`
	Seq      uint64           `json:"seq"`
	At       time.Time        `json:"at"` // end of the period that was evaluated last
	Instance string           `json:"instance"`
	Tracks   []*track         `json:"tracks,omitempty"`
	Periods  map[string]int64 `json:"periods,omitempty"`
	Firing   []Alarm          `json:"firing,omitempty"` // described, for who only shows them
	Ended    []Alarm          `json:"ended,omitempty"`
}

// turn follows who speaks. From is what another node knew and this one goes on with; nil: nothing.
func (c *core) turn(s Speaker, now time.Time) (events []Event, from *share) {
	switch s {
	case Here:
		return c.takeOver(now)
	case Elsewhere:
		return c.handOver(now), nil
	case Unsettled:
		c.elsewhere = true
	case Nobody:
		c.elsewhere = !c.holding
	}
	return nil, nil
}

// share gives what this node knows, as the newest there is.
func (c *core) share(node string, now, told time.Time) *share {
	if c.heard != nil {
		c.seq = max(c.seq, c.heard.Seq)
	}
	c.seq++
	return c.described(node, now, told)
}

func (c *core) described(node string, now, told time.Time) *share {
	s := &share{Node: node, Seq: c.seq, At: now, Instance: c.instance, Periods: map[string]int64{}}
	for _, t := range c.sorted() {
		r, ok := c.set.Find(t.Rule)
		if !ok || !aboutCluster(r) {
			continue
		}
		if t.Firing {
			s.Firing = append(s.Firing, c.alarm(r, t))
		}
		if t.Firing || t.State != OK || t.Bad > 0 || t.Window.Count > 0 {
			copied := *t
			s.Tracks = append(s.Tracks, &copied)
		}
		if n, ok := c.periods[r.Name]; ok {
			s.Periods[r.Name] = n
		}
	}
	sort.SliceStable(s.Tracks, func(i, j int) bool { return weight(s.Tracks[i]) > weight(s.Tracks[j]) })
	s.Tracks = s.Tracks[:min(len(s.Tracks), maxShared)]
	for _, a := range c.ended {
		if a.Wide && !a.Moved && !a.Ended.Before(told) {
			s.Ended = append(s.Ended, a)
		}
	}
	return s
}

// weight says what is to be told first.
func weight(t *track) int {
	switch {
	case t.Firing:
		return 2
	case t.Bad > 0:
		return 1
	}
	return 0
}

// hear keeps what another node told, if it is news.
func (c *core) hear(s *share) bool {
	if c.heard != nil && s.Seq <= c.heard.Seq {
		return false
	}
	c.heard = s
	return true
}

// handOver lets go of everything about the cluster, because another node watches that now. No
// alarm ends by it, and nobody is told that one did: the other node goes on with it.
//
// What this node counted is forgotten, too. Why: when it takes over again, much may have
// happened that it has not seen; it goes on with what it hears.
func (c *core) handOver(now time.Time) []Event {
	if c.holding && (c.heard == nil || c.heard.Seq < c.seq) {
		c.heard = c.described("", now, time.Time{}) // until the other one is heard, this is the newest
	}
	c.elsewhere, c.holding = true, false
	return c.letGo(now, "another node watches the cluster now", nil)
}

// takeOver begins, or goes on, to watch the cluster.
func (c *core) takeOver(now time.Time) (events []Event, from *share) {
	c.elsewhere = false
	if c.heard != nil && (!c.holding || c.heard.Seq > c.seq) {
		from = c.heard
		events = c.adopt(from, now)
	}
	c.holding = true
	return events, from
}

// adopt replaces what is known of the cluster by what another node knew.
func (c *core) adopt(s *share, now time.Time) []Event {
	theirs := map[string]*track{}
	for _, t := range s.Tracks {
		theirs[key(t.Rule, t.Labels)] = t
	}
	events := c.letGo(now, "another node watched the cluster meanwhile", func(t *track) bool {
		other := theirs[key(t.Rule, t.Labels)]
		return other != nil && other.Firing && other.Fired.Equal(t.Fired)
	})
	c.seq = max(c.seq, s.Seq)
	if c.instance == "" {
		c.instance = s.Instance
	}
	for k, t := range theirs {
		r, ok := c.set.Find(t.Rule)
		if !ok || !r.Active() || !aboutCluster(r) || !matches(r, t.Labels) {
			continue // below, if it fires
		}
		taken := *t
		taken.Counter, taken.Counted = 0, false // each node counts for itself
		if taken.Version != r.Version() {
			taken.Version, taken.Bad, taken.Good, taken.Window = r.Version(), 0, 0, window{}
		}
		c.tracks[k] = &taken
		if n, ok := s.Periods[t.Rule]; ok {
			c.periods[t.Rule] = n
		}
	}
	for _, a := range s.Firing {
		if c.tracks[a.Key()] == nil {
			// Why: people were told that it fires, and nobody else will tell them that nobody watches it.
			a.State, a.Since, a.IsFiring, a.Ended, a.Reason = OK, now, false, now, "its rule is not in force any more"
			c.ended = append(c.ended, a)
			events = append(events, Event{Time: now, From: Firing, To: OK, Alarm: a})
		}
	}
	c.remember(s.Ended)
	return events
}

// remember adds alarms that ended elsewhere.
func (c *core) remember(ended []Alarm) {
	for _, a := range ended {
		if !slices.ContainsFunc(c.ended, func(b Alarm) bool { return b.Key() == a.Key() && b.Ended.Equal(a.Ended) && !b.Moved }) {
			c.ended = append(c.ended, a)
		}
	}
	slices.SortStableFunc(c.ended, func(a, b Alarm) int { return a.Ended.Compare(b.Ended) })
}

// letGo forgets what is known of the cluster. Alarms that fire end here, unheard by people; those
// that stay do not.
func (c *core) letGo(now time.Time, reason string, stays func(*track) bool) []Event {
	var events []Event
	for _, t := range c.sorted() {
		r, ok := c.set.Find(t.Rule)
		if !ok || !aboutCluster(r) {
			continue
		}
		if stays != nil && t.Firing && stays(t) {
			delete(c.tracks, key(t.Rule, t.Labels))
			continue
		}
		for _, e := range c.end(r, t, now, reason) {
			e.Alarm.Moved = true
			c.ended[len(c.ended)-1].Moved = true
			events = append(events, e)
		}
	}
	for i := range c.set.All() {
		if r := &c.set.All()[i]; aboutCluster(r) {
			delete(c.seen, r.Name)
			delete(c.periods, r.Name)
		}
	}
	return events
}

// aboutCluster tells whether a rule watches what one node emits for all.
func aboutCluster(r *rules.Rule) bool { return !r.Watchdog && metric.ClusterWide(metric.ID(r.Metric)) }

// Share gives what is known of the cluster's alarms, for a node that may have missed it.
func (e *Evaluator) Share() []byte {
	told := e.toldThrough()
	e.mu.Lock()
	c := e.mu.core
	s := c.heard
	if c.holding && c.seq > 0 && (s == nil || s.Seq < c.seq) {
		s = c.described(e.cfg.Peers.Node, e.mu.last, told)
	}
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	return encodeShare(s)
}

// Merge takes what another node knows of the cluster's alarms.
func (e *Evaluator) Merge(b []byte) error {
	var s share
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("cannot decode alarms of another node: %w", err)
	}
	s.Tracks = slices.DeleteFunc(s.Tracks, func(t *track) bool { return t == nil })
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.core.hear(&s) {
		e.saver.put(e.mu.core.encode())
	}
	return nil
}

func (e *Evaluator) toldThrough() time.Time {
	if e.cfg.Peers.ToldThrough == nil {
		return time.Time{}
	}
	return e.cfg.Peers.ToldThrough()
}

// Elsewhere gives the alarms that fire by what another node tells, which speaks for the cluster;
// none while this one does.
func (e *Evaluator) Elsewhere() []Alarm {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.mu.core; !c.holding && c.heard != nil {
		return slices.Clone(c.heard.Firing)
	}
	return nil
}

func encodeShare(s *share) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("BUG: alarms cannot be encoded for other nodes: %v", err))
	}
	return b
}
