// Package agent is the half that watches: it joins collectors, sampler and
// everything that receives snapshots — history, guard, alarms, exporters, in this
// order — and keeps them alive.
//
// It runs beside a broker in one process, or as a sidecar of any cluster that
// speaks the Kafka protocol; then there are no statistics of a broker and only
// what protocol and host can tell is emitted.
//
// # In a cluster
//
// Every node has an agent. Each emits what is its own; what is about the cluster
// is emitted by the node whose broker is the active controller when a period
// ends, if a majority of the voters confirms it then. All nodes look at the whole
// cluster in each period, so that one that takes over has what rates are
// reckoned from. If the controller died, the period that ends meanwhile goes to
// whoever is elected within the time that collectors have; if that takes longer,
// that one period has no series of the cluster.
//
// Rules about the cluster are evaluated where its series are emitted, rules about
// a node on that node. The agents tell each other what they know (agent/gossip): the
// one that speaks, after each period, which alarms of the cluster fire since when and
// what has held how often; each, what it delivered to which receiver. Who speaks next
// goes on with that. So an alarm that lasts over a change of the controller is not
// told again, one that ends in the gap is told as over, and a message that the one
// before had not delivered is delivered by the next. Where the agents do not reach
// each other, an alarm may be told twice: better that than never. While nobody
// emits, alarms stay as they are.
//
// Invariant: whatever breaks in here, the broker does not notice. A part that
// panics or fails is started again with back-off; one that hangs is passed over
// and the others go on.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/collect"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// Receiver takes each snapshot. It may use a share of the period, no more; while
// it does not return it gets no other.
type Receiver = sampler.Receiver

// Runner is the part of a receiver that goes on between snapshots. Run blocks and,
// when it returns, all its goroutines are over. It returns nil when ctx ends; an
// error has it started again after a while.
type Runner interface {
	Run(ctx context.Context) error
}

// Part is one room that lives off the agent: it receives, or runs, or both.
type Part struct {
	Name     string   // a short word; it becomes a label
	Receiver Receiver // may be nil
	Runner   Runner   // may be nil
}

// Source gives series that a part keeps about itself. Samples neither waits nor
// reads a disk.
type Source struct {
	Name    string
	Samples func() []metric.Sample
}

// Options say what to watch and who is told.
type Options struct {
	Logger *slog.Logger // required

	// Period between snapshots. Default 1 min, at least 1 s.
	Period time.Duration
	// Deadline of each collector. Default: half a period, at most 10 s.
	Deadline time.Duration

	// Broker is the ID of the broker in this process or on this host; "" in a
	// sidecar that belongs to none.
	Broker string
	// InstanceID gives the instance's ID. Nil: the cluster ID that the cluster tells.
	InstanceID func() string
	// Statistics of the broker in this process; nil in a sidecar.
	Statistics collect.Statistics
	// Host tells that this machine is the broker's node and is read as such.
	Host bool
	// DataDirs are the broker's data directories on this host; none: the disk is not read.
	DataDirs []string
	// StorageCapacity gives the logical size of the storage in bytes, 0 for what the
	// file system has. Nil: 0.
	StorageCapacity func() int64

	// Cluster says how to reach the cluster.
	Cluster cluster.Options
	// Passer, if set, is used instead of a client made from Cluster.
	Passer collect.Passer
	// IncludeInternal emits topics and groups whose name begins with '_' or '#'.
	IncludeInternal bool
	// SeriesLimit bounds the instance, topic and group series; past it those of single
	// partitions are left out and counted. Default 200 000; negative: no bound.
	SeriesLimit int
	// EmitsClusterWide tells whether this node emits instance, topic and group
	// series and broker_alive for the period that ends now: one node of a cluster
	// does. It is asked once a period, when that begins, and may wait until ctx ends. Nil: always.
	EmitsClusterWide func(ctx context.Context, end time.Time) bool

	// Known is what an earlier process knew of the cluster. It holds until this one has
	// reached it, so that one that is away is missed from the start.
	Known Known
	// Learned, if set, is told when that is to be remembered anew. It must not wait.
	Learned func(Known)

	// Sources are asked at each tick; guard, alarms and notification tell of
	// themselves here.
	Sources []Source
	// Who receives, in this order.
	History, Guard, Alarm Part
	Exporters             []Part
}

// Known is a cluster as it was when it last answered.
type Known struct {
	ClusterID string  `json:"cluster_id"`
	Brokers   []int32 `json:"brokers"`
}

// defaultSeries is 10 000 partitions with nine groups on each. A snapshot of so
// many series takes some 30 MB.
const defaultSeries = 200_000

// Agent watches. Made by New, driven by Run.
type Agent struct {
	o         Options
	parts     []*part
	clusterID atomic.Value // string
	reached   atomic.Bool  // the cluster has answered
	beat      atomic.Int64 // the last snapshot's time, Unix nanoseconds
	pulse     *pulse       // nil with a passer of somebody else's
}

// New checks and joins, and starts nothing.
//
// Errors: no logger, no way to reach the cluster, parts or sources of one name, a
// period that is too short.
func New(o Options) (*Agent, error) {
	if o.Logger == nil {
		return nil, errors.New("cannot make agent: no logger")
	}
	if o.Passer == nil && len(o.Cluster.Seeds) == 0 {
		return nil, errors.New("cannot make agent: no address of a broker")
	}
	if o.Statistics != nil && o.Broker == "" {
		return nil, errors.New("cannot make agent: a broker in this process has an ID")
	}
	if o.Period == 0 {
		o.Period = sampler.DefaultPeriod
	}
	if o.SeriesLimit == 0 {
		o.SeriesLimit = defaultSeries
	}
	a := &Agent{o: o}
	a.clusterID.Store(o.Known.ClusterID)
	if o.Passer == nil {
		a.pulse = &pulse{cluster: o.Cluster, grace: collect.Grace(o.Period)}
	}
	seen := map[string]bool{}
	for _, p := range append([]Part{o.History, o.Guard, o.Alarm}, o.Exporters...) {
		if p.Receiver == nil && p.Runner == nil {
			continue // not there
		}
		if p.Name == "" || seen[p.Name] {
			return nil, fmt.Errorf("cannot take a part called %q: empty or taken", p.Name)
		}
		seen[p.Name] = true
		a.parts = append(a.parts, newPart(p, o.Period, o.Logger))
	}
	if _, err := a.newSampler(o.Passer); err != nil {
		return nil, err
	}
	return a, nil
}

// Run watches until ctx ends. Blocks; when it returns all goroutines of the agent
// and its parts are over. They end in the order of the road: the sampler first,
// then each part when the ones before it have ended, so that an alarm that is
// still being told reaches who tells it on.
//
// Errors: the client of the cluster cannot be made. Nothing else ends it.
func (a *Agent) Run(ctx context.Context) error {
	passer := a.o.Passer
	if passer == nil {
		client, err := cluster.Open(a.o.Cluster)
		if err != nil {
			return err
		}
		defer client.Close()
		passer = client
	}
	a.beat.Store(time.Now().UnixNano())
	parts := a.parts
	if a.pulse != nil {
		parts = append(slices.Clip(parts), newPart(Part{Name: "pulse", Runner: a.pulse}, a.o.Period, a.o.Logger))
	}
	for _, p := range parts {
		p.begin(ctx)
	}
	heart := newPart(Part{Name: "sampler", Runner: runner(func(ctx context.Context) error {
		s, err := a.newSampler(passer)
		if err != nil {
			return err
		}
		return s.Run(ctx)
	})}, a.o.Period, a.o.Logger)
	heart.run(ctx)
	for _, p := range parts {
		p.end()
	}
	return nil
}

// Stalled gives the reasons why the agent is not alive; none when it is. Before
// Run it is not asked to be.
func (a *Agent) Stalled() []string {
	last := a.beat.Load()
	if last == 0 {
		return nil
	}
	if silent := time.Since(time.Unix(0, last)); silent > 3*a.o.Period {
		return []string{fmt.Sprintf("no snapshot for %v", silent.Round(time.Second))}
	}
	return nil
}

// Reached tells whether the cluster has answered since Run began.
func (a *Agent) Reached() bool { return a.reached.Load() }

// InstanceID is what snapshots carry; "" until it is known.
func (a *Agent) InstanceID() string {
	if a.o.InstanceID != nil {
		return a.o.InstanceID()
	}
	return a.clusterID.Load().(string)
}

func (a *Agent) newSampler(passer collect.Passer) (*sampler.Sampler, error) {
	receivers := []sampler.Receiver{receiver(func(context.Context, *metric.Snapshot) {
		a.beat.Store(time.Now().UnixNano())
	})}
	for _, p := range a.parts {
		if p.Receiver != nil {
			receivers = append(receivers, p)
		}
	}
	return sampler.New(sampler.Options{
		Period: a.o.Period, Deadline: a.o.Deadline,
		InstanceID: a.InstanceID, Broker: a.o.Broker, Logger: a.o.Logger,
	}, a.collectors(passer), receivers)
}

// collectors are made anew when the heart is: what they remembered may be why it
// stopped.
func (a *Agent) collectors(passer collect.Passer) []sampler.Collector {
	o := a.o
	all := []sampler.Collector{collect.NewCluster(collect.ClusterOptions{
		Passer: passer, Broker: o.Broker, Statistics: o.Statistics,
		IncludeInternal: o.IncludeInternal, SeriesLimit: o.SeriesLimit, Emits: o.EmitsClusterWide,
		Roll: a.pulse.last, Grace: collect.Grace(o.Period),
		Known: o.Known.Brokers,
		Seen:  func(s *cluster.State) { a.clusterID.Store(s.ClusterID); a.reached.Store(true) },
		Met: func(brokers []int32) {
			if o.Learned != nil {
				o.Learned(Known{ClusterID: a.clusterID.Load().(string), Brokers: brokers})
			}
		},
	})}
	if o.Statistics != nil {
		all = append(all, collect.NewBroker(o.Broker, o.Statistics), collect.NewRuntime(o.Broker), collect.NewProcess(o.Broker))
	}
	if o.Host {
		all = append(all, collect.NewHost(o.Broker), collect.NewNetwork(o.Broker))
	}
	if len(o.DataDirs) > 0 {
		all = append(all, collect.NewDisk(collect.DiskOptions{Broker: o.Broker, Dirs: o.DataDirs, Capacity: o.StorageCapacity}))
	}
	all = append(all, source{Source{Name: "agent", Samples: a.samples}})
	for _, s := range o.Sources {
		all = append(all, source{s})
	}
	return all
}

// samples are the agent's own series about its parts.
func (a *Agent) samples() []metric.Sample {
	var out []metric.Sample
	for _, p := range a.parts {
		labels := metric.Labels(metric.LabelBroker, a.o.Broker, metric.LabelPart, p.Name)
		out = append(out,
			metric.Sample{ID: metric.PartRestarts, Labels: labels, Value: float64(p.restarts.Load())},
			metric.Sample{ID: metric.PartSkips, Labels: labels, Value: float64(p.skips.Load())})
	}
	return out
}

// source makes a collector of a part's own series.
type source struct{ s Source }

func (s source) Name() string { return s.s.Name }

func (s source) Collect(context.Context, sampler.Period) ([]metric.Sample, error) {
	return s.s.Samples(), nil
}

type runner func(context.Context) error

func (f runner) Run(ctx context.Context) error { return f(ctx) }

type receiver func(context.Context, *metric.Snapshot)

func (f receiver) Receive(ctx context.Context, s *metric.Snapshot) { f(ctx, s) }

// Invariant: the rooms below fit the doors that are declared for them.
var (
	_ collect.Passer    = (*cluster.Client)(nil)
	_ sampler.Collector = (*collect.Broker)(nil)
	_ sampler.Collector = (*collect.Cluster)(nil)
	_ sampler.Collector = (*collect.Disk)(nil)
	_ sampler.Collector = (*collect.Host)(nil)
	_ sampler.Collector = (*collect.Network)(nil)
	_ sampler.Collector = (*collect.Process)(nil)
	_ sampler.Collector = (*collect.Runtime)(nil)
)
