package collect

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
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
	// Emits tells whether this node gives the cluster-wide series of the period with
	// this end. It is asked once, when a tick begins, and may wait until ctx ends. Nil: always.
	Emits func(ctx context.Context, end time.Time) bool
	// Known are brokers that an earlier process knew. They hold until the first answer.
	Known []int32
	// Met, if set, is told of all brokers that are known after the first answer, and
	// when there are others. It must not keep it waiting.
	Met func(brokers []int32)
	// Seen, if set, is told of each state. It must not keep it waiting.
	Seen func(*cluster.State)
	// Roll gives which brokers the cluster listed when it answered a probe last, beside
	// the passes; the zero Roll before it did. Nil: only passes tell.
	Roll func() Roll
	// Grace is how long nothing may answer before a broker is called offline. 0: 10 s.
	Grace time.Duration
}

// Cluster reads everything that the Kafka protocol tells: instance, topics,
// partitions, groups, sizes, and which brokers are alive. All of it comes from
// one pass, so that the numbers fit each other.
type Cluster struct {
	o ClusterOptions

	before  *cluster.State
	traffic counters // with before

	life    life
	met     bool // the cluster has answered once
	pastEnd int
	lags    lagClock
}

// NewCluster makes the collector.
func NewCluster(o ClusterOptions) *Cluster {
	if o.Emits == nil {
		o.Emits = func(context.Context, time.Time) bool { return true }
	}
	if o.Roll == nil {
		o.Roll = func() Roll { return Roll{} }
	}
	if o.Grace == 0 {
		o.Grace = leastGrace
	}
	c := &Cluster{o: o, life: newLife(o.Grace), lags: lagClock{}}
	c.life.remember(o.Known)
	if id, err := strconv.ParseInt(o.Broker, 10, 32); err == nil && o.Statistics != nil {
		c.life.beside(int32(id), time.Now())
	}
	return c
}

// Name is "cluster".
func (c *Cluster) Name() string { return "cluster" }

// Collect makes one pass.
//
// Every node of a cluster does, whether it emits or not: one that takes over has then
// what rates are reckoned from, and no period is without them.
func (c *Cluster) Collect(ctx context.Context, p sampler.Period) ([]metric.Sample, error) {
	decided := c.decide(ctx, p.End)
	state, err := c.pass(ctx)
	emits := <-decided
	c.life.called(c.o.Roll())
	if state == nil {
		// What rates are reckoned from stays: the next one covers both periods, over
		// the time that it really was, and nothing that was moved is lost.
		return c.unreachable(err, emits), err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // too late: nobody takes it; as above
	}
	traffic := c.readTraffic(state)
	if c.o.Seen != nil {
		c.o.Seen(state)
	}
	c.meet(state)
	wide := c.wide(state, traffic)
	samples := c.dataSizes(state, emits)
	if emits {
		samples = append(wide, samples...)
	}
	c.before, c.traffic = state, traffic
	return samples, err
}

// decide has it found out whether this node emits, while the pass goes on.
func (c *Cluster) decide(ctx context.Context, end time.Time) <-chan bool {
	decided := make(chan bool, 1)
	go func() {
		cancel := func() {}
		if deadline, ok := ctx.Deadline(); ok {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/8)) // as the pass
		}
		defer cancel()
		decided <- c.o.Emits(ctx, end)
	}()
	return decided
}

// meet takes the roll of a pass, and tells when it knows other brokers than before.
func (c *Cluster) meet(state *cluster.State) {
	before, first := len(c.life.known), !c.met
	if first {
		c.met = true
		c.life.forget()
	}
	c.life.saw(state)
	if c.o.Met != nil && (first || len(c.life.known) != before) {
		c.o.Met(slices.Sorted(maps.Keys(c.life.known)))
	}
}

// pass looks at the cluster and leaves an eighth of the time for what is to be
// reckoned from it: what comes late is lost.
func (c *Cluster) pass(ctx context.Context) (*cluster.State, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-time.Until(end)/8))
		defer cancel()
	}
	return c.o.Passer.Pass(ctx)
}

// wide gives the series that exactly one node emits.
func (c *Cluster) wide(state *cluster.State, now counters) []metric.Sample {
	show := func(name string) bool { return c.o.IncludeInternal || !Hidden(name) }
	ix := newIndex(state)
	out := [][]metric.Sample{instanceSamples(state), topicSamples(state, show), partitionSamples(state, show), producedRates(c.before, state, show)}
	out = append(out, trafficRates(state, c.traffic, now, show))
	lag := lagSamples(state, ix, show)
	c.pastEnd += lag.pastEnd
	own := []metric.Sample{
		{ID: metric.CommittedPastEnd, Value: float64(c.pastEnd)},
		{ID: metric.Brokers, Value: float64(len(c.life.known))},
	}
	out = append(out, lag.samples, c.lags.samples(state, ix, show), c.alive(), own)
	n := 1 + len(state.LogDirs) // that are added behind
	for _, some := range out {
		n += len(some)
	}
	all := make([]metric.Sample, 0, n)
	for _, some := range out {
		all = append(all, some...)
	}
	return limited(all, c.o.SeriesLimit)
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

// alive tells of every broker ever seen whether it is.
func (c *Cluster) alive() []metric.Sample {
	now := time.Now()
	var s sheet
	for _, id := range slices.Sorted(maps.Keys(c.life.known)) {
		s.add(metric.BrokerAlive, number(c.life.alive(id, now)), brokerLabels(decimal(id)))
	}
	return s.samples
}

// unreachable is what is known when a pass found nobody. For a while that is what
// was known before: one slow pass is no dead broker. After that, beside a broker,
// that this one is offline and nothing of the others; from afar, that all are.
// Before the first answer from afar nothing is known.
//
// A broker whose port nobody listens at any more is offline at once. Why only when it
// is the only one: of several, one's refusal says nothing of the others.
func (c *Cluster) unreachable(err error, emits bool) []metric.Sample {
	now := time.Now()
	if errors.Is(err, syscall.ECONNREFUSED) && len(c.life.known) == 1 {
		c.life.ended(now)
	}
	if c.o.Statistics == nil || c.life.current(now) {
		if !emits {
			return nil
		}
		return c.alive()
	}
	own := c.life.own
	if c.life.alive(own, now) && !emits {
		return nil // told by the node that emits
	}
	var s sheet
	s.add(metric.BrokerAlive, number(c.life.alive(own, now)), brokerLabels(c.o.Broker))
	return s.samples
}

// dataSizes gives the size of this broker's data, or of every broker's when the
// agent watches from afar and nobody else tells.
func (c *Cluster) dataSizes(state *cluster.State, emits bool) []metric.Sample {
	var s sheet
	for _, dirs := range state.LogDirs {
		id := decimal(dirs.Broker)
		if c.o.Statistics != nil && id != c.o.Broker || c.o.Statistics == nil && !emits {
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
