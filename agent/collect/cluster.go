package collect

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/broker/stats"
)

// Passer looks at the whole cluster once.
//
// It gives no state and an error when the cluster cannot be reached, or a state
// and perhaps an error that tells what is unknown in it.
type Passer interface {
	Pass(ctx context.Context) (*cluster.State, error)
}

// ClusterOptions say what to make of a pass.
type ClusterOptions struct {
	Passer Passer
	// Broker is the ID of the broker in this process or on this host; "" for none.
	Broker string
	// Statistics is the broker in this process; nil when there is none. Bytes a
	// topic and a second come from it.
	Statistics Statistics
	// IncludeInternal shows topics and groups whose name begins with '_' or '#'.
	IncludeInternal bool
	// SeriesLimit bounds the cluster-wide series; 0: no bound. Past it the series of
	// single partitions are left out, those of groups first, and counted.
	SeriesLimit int
	// Emits tells whether this node gives the cluster-wide series at present. Nil: always.
	Emits func() bool
	// Known are brokers that an earlier process knew. They hold until the first answer.
	Known []int32
	// Met, if set, is told of all brokers that are known after the first answer, and
	// when there are others. It must not keep it waiting.
	Met func(brokers []int32)
	// Seen, if set, is told of each state. It must not keep it waiting.
	Seen func(*cluster.State)
}

// Cluster reads everything that the Kafka protocol tells: instance, topics,
// partitions, groups, sizes, and which brokers are alive. All of it comes from
// one pass, so that the numbers fit each other.
type Cluster struct {
	o ClusterOptions

	before  *cluster.State
	traffic map[string]stats.TopicReading
	counted time.Time // when traffic was read; zero: never

	known   map[int32]bool // brokers ever seen
	reached time.Time      // when a pass last answered; zero: never
	pastEnd int
	lags    lagClock
}

// NewCluster makes the collector.
func NewCluster(o ClusterOptions) *Cluster {
	if o.Emits == nil {
		o.Emits = func() bool { return true }
	}
	c := &Cluster{o: o, known: map[int32]bool{}, lags: lagClock{}}
	for _, id := range o.Known {
		c.known[id] = true
	}
	c.meetSelf()
	return c
}

func (c *Cluster) meetSelf() {
	if id, err := strconv.ParseInt(c.o.Broker, 10, 32); err == nil && c.o.Statistics != nil {
		c.known[int32(id)] = true
	}
}

// Name is "cluster".
func (c *Cluster) Name() string { return "cluster" }

// Collect makes one pass.
func (c *Cluster) Collect(ctx context.Context, p sampler.Period) ([]metric.Sample, error) {
	state, err := c.o.Passer.Pass(ctx)
	if state == nil {
		// What rates are reckoned from stays: the next one covers both periods, over
		// the time that it really was, and nothing that was moved is lost.
		return c.unreachable(err, p.End.Sub(p.Start)), err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // too late: nobody takes it; as above
	}
	first := c.reached.IsZero()
	c.reached = time.Now()
	traffic, counted := c.readTraffic()
	if c.o.Seen != nil {
		c.o.Seen(state)
	}
	c.meet(state, first)
	var s sheet
	s.samples = append(s.samples, c.dataSizes(state)...)
	elapsed := counted.Sub(c.counted)
	if c.counted.IsZero() {
		elapsed = 0
	}
	wide := c.wide(state, traffic, elapsed)
	if c.o.Emits() {
		s.samples = append(s.samples, wide...)
	}
	c.before, c.traffic, c.counted = state, traffic, counted
	return s.samples, err
}

// wide gives the series that exactly one node emits.
func (c *Cluster) wide(state *cluster.State, traffic map[string]stats.TopicReading, elapsed time.Duration) []metric.Sample {
	show := func(name string) bool { return c.o.IncludeInternal || !Hidden(name) }
	ix := newIndex(state)
	out := instanceSamples(state)
	out = append(out, topicSamples(state, show)...)
	out = append(out, partitionSamples(state, show)...)
	out = append(out, producedRates(c.before, state, show)...)
	if traffic != nil && elapsed > 0 && len(state.Brokers) == 1 {
		out = append(out, trafficRates(state, c.traffic, traffic, elapsed, show)...)
	}
	lag := lagSamples(state, ix, show)
	c.pastEnd += lag.pastEnd
	out = append(out, lag.samples...)
	out = append(out, metric.Sample{ID: metric.CommittedPastEnd, Value: float64(c.pastEnd)})
	out = append(out, c.lags.samples(state, ix, show)...)
	out = append(out, c.alive(state)...)
	return limited(out, c.o.SeriesLimit)
}

// limited leaves out the series of single partitions when there are too many:
// first what groups consumed of each, which grows with both, then what is in each.
// Whole metrics go, never some series of one: half a metric looks like a whole one.
func limited(samples []metric.Sample, limit int) []metric.Sample {
	whole := len(samples)
	for _, rank := range [][2]metric.ID{
		{metric.MessagesConsumed, metric.MessagesRemained},
		{metric.PartitionMessages, metric.ProducedMessages},
	} {
		if limit <= 0 || len(samples) <= limit {
			break
		}
		samples = slices.DeleteFunc(samples, func(s metric.Sample) bool { return s.ID == rank[0] || s.ID == rank[1] })
	}
	return append(samples, metric.Sample{ID: metric.SeriesLeftOut, Value: float64(whole - len(samples))})
}

func (c *Cluster) readTraffic() (map[string]stats.TopicReading, time.Time) {
	if c.o.Statistics == nil {
		return nil, time.Time{}
	}
	topics := map[string]stats.TopicReading{}
	for _, t := range c.o.Statistics.Read().Topics {
		topics[t.Name] = t
	}
	return topics, time.Now()
}

// meet remembers every broker that exists: one that dies is still reported, as
// offline.
func (c *Cluster) meet(state *cluster.State, first bool) {
	if first {
		clear(c.known) // what an earlier process knew may be gone for good
		c.meetSelf()
	}
	before := len(c.known)
	for _, b := range state.Brokers {
		c.known[b.ID] = true
	}
	for _, t := range state.Topics {
		for _, p := range t.Partitions {
			for _, id := range p.Replicas {
				c.known[id] = true
			}
		}
	}
	if c.o.Met != nil && (first || len(c.known) != before) {
		c.o.Met(slices.Sorted(maps.Keys(c.known)))
	}
}

// alive tells of every broker ever seen whether the cluster lists it.
func (c *Cluster) alive(state *cluster.State) []metric.Sample {
	listed := map[int32]bool{}
	for _, b := range state.Brokers {
		listed[b.ID] = true
	}
	var s sheet
	for _, id := range slices.Sorted(maps.Keys(c.known)) {
		s.add(metric.BrokerAlive, number(listed[id]), brokerLabels(decimal(id)))
	}
	s.add(metric.Brokers, float64(len(c.known)), nil)
	return s.samples
}

// silence is how long a broker that does not answer, but does not refuse either, is
// taken for slow; two periods if those are longer.
const silence = 10 * time.Second

// unreachable is what is known when nothing answers: beside a broker, that this
// one does not; from afar, that none does. Before the first answer from afar
// nothing is known.
//
// Why patience with one that ran out of time: one slow answer on a busy machine is no
// dead broker. Meanwhile whether it is alive is not known.
func (c *Cluster) unreachable(err error, period time.Duration) []metric.Sample {
	var s sheet
	if errors.Is(err, context.DeadlineExceeded) && time.Since(c.reached) < max(2*period, silence) {
		return nil
	}
	if c.o.Statistics != nil {
		s.add(metric.BrokerAlive, 0, brokerLabels(c.o.Broker))
		return s.samples
	}
	if !c.o.Emits() {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(c.known)) {
		s.add(metric.BrokerAlive, 0, brokerLabels(decimal(id)))
	}
	return s.samples
}

// dataSizes gives the size of this broker's data, or of every broker's when the
// agent watches from afar and nobody else tells.
func (c *Cluster) dataSizes(state *cluster.State) []metric.Sample {
	var s sheet
	for _, dirs := range state.LogDirs {
		id := decimal(dirs.Broker)
		if c.o.Statistics != nil && id != c.o.Broker || c.o.Statistics == nil && !c.o.Emits() {
			continue
		}
		var sum int64
		for _, d := range dirs.Dirs {
			for _, r := range d.Replicas {
				sum += r.Bytes
			}
		}
		s.add(metric.BrokerDataSize, float64(sum), brokerLabels(id))
	}
	return s.samples
}
