package collect

import (
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/stats"
)

// counters are what brokers have counted of their clients, and when that was read. Bytes of a
// topic are the sum over brokers: each partition is written at its leader, and read there or
// at a follower.
type counters struct {
	brokers map[int32]counted // of those that told
	at      time.Time         // zero: never read
}

// counted is one broker's reading.
type counted struct {
	began  int64
	age    time.Duration
	topics map[string]stats.TopicTraffic
}

// readTraffic takes what brokers told in the pass, and of the one in this process what it
// says itself.
func (c *Cluster) readTraffic(state *cluster.State) counters {
	t := counters{brokers: map[int32]counted{}, at: time.Now()}
	for _, dirs := range state.LogDirs {
		if dirs.Traffic != nil {
			t.brokers[dirs.Broker] = countedBy(*dirs.Traffic)
		}
	}
	if id, err := strconv.ParseInt(c.o.Broker, 10, 32); err == nil && c.o.Statistics != nil {
		t.brokers[int32(id)] = countedBy(c.o.Statistics.Traffic())
	}
	return t
}

func countedBy(t stats.Traffic) counted {
	c := counted{began: t.Began, age: t.Age, topics: make(map[string]stats.TopicTraffic, len(t.Topics))}
	for _, topic := range t.Topics {
		c.topics[topic.Name] = topic
	}
	return c
}

// flow is what one broker moved of each topic between two readings.
type flow struct {
	before, now map[string]stats.TopicTraffic
	elapsed     time.Duration
}

// flows pairs the readings of each broker; false when one is missing: of a broker that is
// alive, or of one that told before and may have moved bytes since. One whose process is
// another began at 0; if it was there before, what its last process moved is not known.
func flows(state *cluster.State, before, now counters) ([]flow, bool) {
	if before.at.IsZero() || len(state.Brokers) == 0 {
		return nil, false
	}
	for id := range before.brokers {
		if _, tells := now.brokers[id]; !tells {
			return nil, false
		}
	}
	var fs []flow
	for _, b := range state.Brokers {
		n, tells := now.brokers[b.ID]
		if !tells {
			return nil, false
		}
		was, told := before.brokers[b.ID]
		f := flow{before: was.topics, now: n.topics, elapsed: n.age - was.age}
		switch {
		case told && was.began != n.began:
			return nil, false
		case !told:
			f.elapsed = now.at.Sub(before.at)
			if n.age > f.elapsed {
				return nil, false // it was there and did not tell
			}
		}
		if f.elapsed <= 0 {
			return nil, false
		}
		fs = append(fs, f)
	}
	return fs, true
}

// trafficRates gives bytes produced and consumed of each topic a second, summed over all
// brokers; nothing when one broker's part is missing.
func trafficRates(state *cluster.State, before, now counters, show func(string) bool) []metric.Sample {
	fs, whole := flows(state, before, now)
	if !whole {
		return nil
	}
	s := newSheet(2 * len(state.Topics))
	for _, t := range state.Topics {
		if !show(t.Name) {
			continue
		}
		var in, out float64
		for _, f := range fs {
			a, b := f.before[t.Name], f.now[t.Name] // a topic without traffic was never counted: 0
			in += float64(grown(a.BytesIn, b.BytesIn)) / f.elapsed.Seconds()
			out += float64(grown(a.BytesOut, b.BytesOut)) / f.elapsed.Seconds()
		}
		labels := metric.Labels(metric.LabelTopic, t.Name)
		s.add(metric.TopicBytesInRate, in, labels)
		s.add(metric.TopicBytesOutRate, out, labels)
	}
	return s.samples
}
