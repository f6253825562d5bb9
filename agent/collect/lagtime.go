package collect

import (
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/topic"
)

// maxPoints bounds what is remembered of one partition: 64 points are an hour at
// a minute each, and when they are full every other one goes.
const maxPoints = 64

// lagClock turns lag in messages into lag in time: it remembers when each
// partition's end was where, and asks when the next message to consume came in.
//
// It knows only what happened since it began to look. A group that stands further
// back has at least that lag, and it grows as time goes by.
type lagClock map[topic.Partition]*track

// track is one partition's end over time, oldest first.
type track struct {
	id     [16]byte
	points []point
	seen   bool
}

type point struct {
	at  time.Time
	end int64
}

// samples notes the ends of a state and gives the age of what each group has
// still to consume, the largest over a topic's partitions.
func (c lagClock) samples(state *cluster.State, ix index, show func(string) bool) []metric.Sample {
	for _, t := range c {
		t.seen = false
	}
	var s sheet
	for _, g := range state.Groups {
		for rest := g.Commits; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Topic == rest[0].Topic {
				n++
			}
			age, ok := c.age(state.Ended, rest[:n], ix)
			s.addIf(ok && show(g.Name) && show(rest[0].Topic), metric.GroupTopicLagSeconds, age.Seconds(),
				metric.Labels(metric.LabelGroup, g.Name, metric.LabelTopic, rest[0].Topic))
			rest = rest[n:]
		}
	}
	for key, t := range c {
		if !t.seen {
			delete(c, key) // nobody consumes it any more, or it is gone
		}
	}
	return s.samples
}

// age gives the largest age over the commits of one group in one topic; false
// when one of them cannot be told.
func (c lagClock) age(now time.Time, commits []cluster.Commit, ix index) (time.Duration, bool) {
	var oldest time.Duration
	told := false
	for _, commit := range commits {
		p, ok := ix.partition(commit.Topic, commit.Partition)
		if !ok {
			continue
		}
		if p.End == cluster.Unknown {
			return 0, false
		}
		key := topic.Partition{Topic: commit.Topic, Partition: commit.Partition}
		t := c[key]
		if id := ix[commit.Topic].ID; t == nil || t.id != id {
			t = &track{id: id}
			c[key] = t
		}
		t.note(now, p.End)
		told = true
		if next := max(commit.Offset, p.Start); next < p.End {
			oldest = max(oldest, now.Sub(t.when(next)))
		}
	}
	return oldest, told
}

// note adds a point, once a pass.
func (t *track) note(at time.Time, end int64) {
	if t.seen {
		return // another group looked already
	}
	t.seen = true
	n := len(t.points)
	if n > 0 && end < t.points[n-1].end {
		t.points, n = t.points[:0], 0 // the log was cut: begin anew
	}
	if n > 1 && t.points[n-1].end == end && t.points[n-2].end == end {
		t.points[n-1].at = at // a quiet partition needs no more than two
		return
	}
	if n == maxPoints {
		t.thin()
	}
	t.points = append(t.points, point{at, end})
}

// thin drops every other point but the newest.
func (t *track) thin() {
	kept := t.points[:0]
	for i, p := range t.points {
		if i%2 == 0 || i == len(t.points)-1 {
			kept = append(kept, p)
		}
	}
	t.points = kept
}

// when tells when the message with this offset came in, between two points as if
// messages came evenly; at the oldest point for one that came before it.
//
// Requires: the offset lies before the newest point's end.
func (t *track) when(offset int64) time.Time {
	for i, p := range t.points {
		if p.end <= offset {
			continue
		}
		if i == 0 {
			return p.at
		}
		from := t.points[i-1]
		share := float64(offset-from.end) / float64(p.end-from.end)
		return from.at.Add(time.Duration(share * float64(p.at.Sub(from.at))))
	}
	return t.points[len(t.points)-1].at
}
