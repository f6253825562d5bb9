package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/gossip"
	"github.com/belfry-mq/belfry/agent/guard"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/volume"
	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/exporters/prometheus"
)

// node is one process: a broker with its agent.
type node struct {
	lookout
	values *config.Values
	broker *broker.Broker
	guard  *guard.Guard
	mesh   *gossip.Mesh                // leads to the agents of the other nodes; nil: to none
	rule   atomic.Pointer[broker.Rule] // of the last period; nil before the first
	up     chan struct{}               // closed when the broker is ready, or has ended
}

// newNode joins both halves. It opens the agent's state and the metrics port, and starts nothing.
func newNode(v *config.Values, log *slog.Logger) (n *node, err error) {
	n = &node{values: v, lookout: lookout{log: log}, up: make(chan struct{})}
	if n.broker, err = broker.New(broker.Options{Values: v, Logger: log.With("half", "broker"), Now: clock()}); err != nil {
		return nil, err
	}
	id := strconv.Itoa(int(n.broker.Node()))
	alog := log.With("half", "agent")
	mesh, err := openMesh(v, n.broker, alog)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && mesh != nil {
			err = errors.Join(err, mesh.Close())
		}
	}()
	n.mesh = mesh
	if n.office, err = openOffice(v, stateDir(v), id, union{n.speaker, mesh}, alog); err != nil {
		return nil, err
	}
	if n.guard, err = n.newGuard(id, alog); err != nil {
		return nil, err
	}
	metrics, err := prometheus.New(prometheus.Options{
		InstanceID: n.broker.ClusterID, Broker: id, Logger: alog,
		Writers:   []func(io.Writer){n.broker.Stats().WriteMetrics},
		Gatherers: []prom.Gatherer{n.broker.Stats().Gatherer(), n.office.notify.Gatherer(), goRuntime()},
	})
	if err != nil {
		return nil, err
	}
	n.agent, err = agent.New(agent.Options{
		Logger: alog, Period: v.Duration("agent.period"), Broker: id, InstanceID: n.broker.ClusterID,
		Statistics: n.broker.Stats(), Host: true, DataDirs: v.List("log.dirs"), StorageCapacity: n.capacity,
		Cluster:          n.reach(),
		EmitsClusterWide: n.emits,
		IncludeInternal:  v.Bool("include_internal"),
		Sources:          append(n.office.sources(id), agent.Source{Name: "guard", Samples: n.guard.Samples}, agent.Source{Name: "controller", Samples: n.controllerSamples}, agent.Source{Name: "gossip", Samples: n.meshSamples}),
		Guard:            agent.Part{Name: "guard", Runner: n.guard},
		Alarm:            agent.Part{Name: "alarm", Receiver: n.office.alarms, Runner: n.office.alarms},
		Exporters:        append(n.office.parts(n.mesh), agent.Part{Name: "prometheus", Receiver: metrics}, agent.Part{Name: "settings", Runner: follower(n.followSettings)}),
	})
	if err != nil {
		return nil, err
	}
	n.door, n.web, err = website(v, agent.Handler(agent.Endpoints{
		Metrics: metrics, Health: n.agent.Stalled, Ready: n.unready,
		SafeToStop: safetyPage(n.reach(), int32(n.broker.Node())), Alarms: n.office.known(n.broker.ClusterID),
	}))
	return n, err
}

// stateDir is where the agent keeps what has to survive a restart.
func stateDir(v *config.Values) string {
	if dir := v.String("agent.state.dir"); dir != "" {
		return dir
	}
	return filepath.Join(v.List("log.dirs")[0], "agent")
}

// reach says how the agent asks the cluster: by the broker in this process.
func (n *node) reach() cluster.Options {
	return cluster.Options{Seeds: []string{broker.InProcess}, Dial: n.dial}
}

// dial leads to the broker in this process by what its metadata calls it, and to others over
// the network.
func (n *node) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return n.broker.DialAddress(ctx, address)
}

// emits tells whether this node speaks for the cluster in the period that ends now: the active
// controller does, see broker.Rules.
func (n *node) emits(ctx context.Context, end time.Time) bool {
	rule := n.broker.Rules(ctx, end)
	n.rule.Store(&rule)
	return rule == broker.ThisRules
}

// speaker tells who spoke for the cluster when this node asked last.
func (n *node) speaker() alarm.Speaker {
	rule := n.rule.Load()
	switch {
	case rule == nil || *rule == broker.NobodyRules:
		return alarm.Nobody
	case *rule == broker.OtherRules:
		return alarm.Elsewhere
	case n.mesh != nil && !n.mesh.Settled():
		return alarm.Unsettled
	}
	return alarm.Here
}

// controllerSamples tell who rules as this node saw it when it was asked last: at this tick or
// the one before. Nothing before the first.
func (n *node) controllerSamples() []metric.Sample {
	labels := metric.Labels(metric.LabelBroker, strconv.Itoa(int(n.broker.Node())))
	out := []metric.Sample{{ID: metric.ControllerChanges, Labels: labels, Value: float64(n.broker.Reigns())}}
	if rule := n.rule.Load(); rule != nil {
		out = append(out,
			metric.Sample{ID: metric.ActiveController, Labels: labels, Value: one(*rule == broker.ThisRules)},
			metric.Sample{ID: metric.ControllerKnown, Labels: labels, Value: one(*rule != broker.NobodyRules)})
		if *rule == broker.ThisRules { // who speaks for the cluster says it, once
			out = append(out, metric.Sample{ID: metric.SettingsDiffer, Value: float64(len(n.broker.Differences()))})
		}
	}
	return out
}

// meshSamples tell of the way to the other nodes' agents; nothing where there is none.
func (n *node) meshSamples() []metric.Sample {
	if n.mesh == nil {
		return nil
	}
	labels := metric.Labels(metric.LabelBroker, strconv.Itoa(int(n.broker.Node())))
	return []metric.Sample{
		{ID: metric.AgentsMet, Labels: labels, Value: float64(len(n.mesh.Nodes()))},
		{ID: metric.AgentsUntold, Labels: labels, Value: float64(n.mesh.Dropped())},
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (n *node) capacity() int64 { return n.broker.Settings().Int("storage_capacity") }

func (n *node) unready() []string {
	_, reasons := n.broker.Ready()
	return reasons
}

func (n *node) newGuard(id string, log *slog.Logger) (*guard.Guard, error) {
	v := n.values
	return guard.New(guard.Options{
		Settings: guard.Settings{
			Policy: guard.Policy(v.String("capacity.policy")), Threshold: v.Float("capacity.threshold"),
			Interval: v.Duration("capacity.check.interval"), Hold: 2 * v.Duration("agent.period"),
		},
		Broker: id,
		Usage: func() (int64, int64, float64, error) {
			return volume.Usage(v.List("log.dirs"), n.capacity())
		},
		Held: n.held, Brake: n.broker, Cleaner: n.broker, Rejected: n.broker.RefusedProduce,
		Audit: n.office, Tasks: n.office, Memory: guard.NewFile(filepath.Join(stateDir(v), "guard")), Logger: log,
	})
}

// held gives the bytes of message data on this node, once the broker has taken up its
// partitions. Why it waits: what cannot be deleted yet must not look like nothing to delete.
func (n *node) held() int64 {
	<-n.up
	var sum int64
	for _, d := range n.broker.Dirs() {
		sum += d.Size
	}
	return sum
}

// settingsPause is how soon a setting changed at run time reaches the guard.
const settingsPause = time.Second

// followSettings hands the guard what is set at run time.
func (n *node) followSettings(ctx context.Context) error {
	tick := time.NewTicker(settingsPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			v := n.broker.Settings()
			err := errors.Join(
				n.guard.SetPolicy(guard.Policy(v.String("capacity.policy")), "settings"),
				n.guard.SetThreshold(v.Float("capacity.threshold"), "settings"))
			if err != nil {
				return err
			}
		}
	}
}

// follower is a func as a part that runs.
type follower func(context.Context) error

// Run calls it.
func (f follower) Run(ctx context.Context) error { return f(ctx) }

// goRuntime gives the metrics of the Go runtime and the process.
func goRuntime() prom.Gatherer {
	r := prom.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// website opens the port of /metrics, /healthz and /readyz; an empty agent.listen opens none.
func website(v *config.Values, h http.Handler) (net.Listener, *http.Server, error) {
	at := v.String("agent.listen")
	if at == "" {
		return nil, nil, nil
	}
	door, err := net.Listen("tcp", at)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %s for metrics: %w; change the setting agent.listen", at, err)
	}
	return door, &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}, nil
}

// Run serves until ctx ends or the broker cannot go on. The agent outlives the broker, so
// that it can say what happened.
func (n *node) Run(ctx context.Context, started func()) error {
	if err := n.guard.Prime(ctx); err != nil {
		n.log.Warn("the disk could not be looked at before the start", "err", err)
	}
	brokerCtx, stopBroker := context.WithCancel(ctx)
	defer stopBroker()
	agentCtx, stopAgent := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAgent()
	var agents errgroup.Group
	agents.Go(func() error { return n.watch(agentCtx) })
	go n.tellStart(brokerCtx, started)
	err := n.broker.Run(brokerCtx)
	stopBroker() // tellStart ends if it has not
	stopAgent()
	return errors.Join(err, agents.Wait())
}

// tellStart calls started once the broker is ready.
func (n *node) tellStart(ctx context.Context, started func()) {
	defer close(n.up)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ok, _ := n.broker.Ready(); ok {
				started()
				return
			}
		}
	}
}

// makeDir makes a directory that only this user can read.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("cannot make directory %q: %w", path, err)
	}
	return nil
}
