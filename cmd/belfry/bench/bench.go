// Package bench measures a node side by side with other brokers on the same machine: Apache
// Kafka, klite and NATS JetStream as real processes, the null broker, which stores nothing, and
// the machine itself (fdatasync, sendfile) as the limits.
//
// Every figure is the median of several rounds in which the peers take turns; ratios matter,
// absolute numbers are this machine's. Client and broker share the processors, so throughput
// is what both reach together; the broker's own share is told as processor time for a
// gigabyte. Like is compared with like: page cache with page cache, fsync with fsync. It is not
// a test: nothing fails by being slow, a goal that is missed is shown, with what the null broker
// reaches in the same rounds and with where the time of both sides goes.
//
// Three nodes are measured against three of Kafka's (cluster*.go): what replication costs, how long
// nothing can be written when a node dies or is stopped, and what thousands of partitions take.
//
// The rooms below: peer runs processes, load is the client, limit asks the machine, null is the
// null broker, profile tells where processor time goes, chart draws, nats is the client of NATS, a program of its own.
//
// Invariant: when Run returns, however it ended, its processes and folders are gone.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// Options of a run. Zero values are the defaults.
type Options struct {
	Program string        // the belfry executable that is measured
	Version string        // of it
	Cache   string        // folder of what peers.sh installs; default ~/.cache/belfry
	Dir     string        // folder below which all data are; default the system's temporary folder
	Only    []string      // names of Sections; default all
	Peers   []string      // kafka, klite, nats, null; default all
	Rounds  int           // alternating rounds; default DefaultRounds
	Time    time.Duration // of one measurement; default DefaultTime
	WarmUp  time.Duration // of each peer before the rounds; default DefaultWarmUp

	Rate         int     // messages a second when answer times are measured; default DefaultRate
	EndToEndRate int     // the same for end-to-end times; default DefaultEndToEndRate
	Partitions   int     // of each topic; default DefaultPartitions
	LogGB        float64 // GB of logs that a restart after kill -9 finds; default DefaultLogGB
	ReadGB       float64 // GB that are read cold and warm; default DefaultReadGB

	// FreeMB is how many MiB of memory a measurement finds free at most: old pages hold the rest.
	// Default 1 024; below 0 the memory stays as it is.
	FreeMB int

	ManyPartitions    int   // partitions of the memory line; default 1 000
	IdleConnections   int   // connections of the memory line; default 2 000
	GrowthPartitions  []int // points of the curve; default 10, 100, 1 000, 5 000
	GrowthConnections []int // points of the curve; default 10, 100, 1 000
	AgentTopics       int   // topics of 5 partitions, and groups of 5 topics; default 200

	ClusterPartitions int // partitions, of three replicas each, of the cluster that has many; default DefaultClusterPartitions

	AgentPeriod time.Duration // agent.period when the agent's cost is measured; default 5 s

	Out      io.Writer // the table
	Progress io.Writer // a line for each step; nil: none
	Markdown string    // file that gets the table for a page; "": none
	JSON     string    // file that gets every round's values; "": none
	Curves   string    // file that gets the curves as SVG; "": none
	Profiles string    // folder that keeps the CPU profiles of what missed its goal; "": they are not kept
}

// Defaults of Options.
const (
	DefaultRounds       = 5
	DefaultTime         = 2 * time.Second
	DefaultWarmUp       = 10 * time.Second
	DefaultRate         = 20_000
	DefaultEndToEndRate = 5_000
	DefaultPartitions   = 6
	DefaultLogGB        = 10
	DefaultReadGB       = 1

	DefaultClusterPartitions = 2000
)

func orDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (o Options) filled() (Options, error) {
	orDefault(&o.Rounds, DefaultRounds)
	orDefault(&o.Time, DefaultTime)
	orDefault(&o.WarmUp, DefaultWarmUp)
	orDefault(&o.Rate, DefaultRate)
	orDefault(&o.EndToEndRate, DefaultEndToEndRate)
	orDefault(&o.Partitions, DefaultPartitions)
	orDefault(&o.LogGB, DefaultLogGB)
	orDefault(&o.ReadGB, DefaultReadGB)
	orDefault(&o.FreeMB, 1024)
	orDefault(&o.ManyPartitions, 1000)
	orDefault(&o.IdleConnections, 2000)
	orDefault(&o.AgentTopics, 200)
	orDefault(&o.ClusterPartitions, DefaultClusterPartitions)
	orDefault(&o.AgentPeriod, 5*time.Second)
	if o.GrowthPartitions == nil {
		o.GrowthPartitions = []int{10, 100, 1000, 5000}
	}
	if o.GrowthConnections == nil {
		o.GrowthConnections = []int{10, 100, 1000}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if len(o.Only) == 0 {
		o.Only = Sections()
	}
	if len(o.Peers) == 0 {
		o.Peers = PeerNames()
	}
	for _, s := range o.Only {
		if !slices.Contains(Sections(), s) {
			return o, fmt.Errorf("section %q is unknown: want %s", s, strings.Join(Sections(), ", "))
		}
	}
	for _, p := range o.Peers {
		if !slices.Contains(PeerNames(), p) {
			return o, fmt.Errorf("peer %q is unknown: want %s", p, strings.Join(PeerNames(), ", "))
		}
	}
	if o.Cache == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("cannot tell the cache folder: %w", err)
		}
		o.Cache = filepath.Join(cache, "belfry")
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	return o, nil
}

// PeerNames gives the names that Options.Peers takes. Belfry always takes part.
func PeerNames() []string { return []string{"kafka", "klite", "nats", "null"} }

// Run measures and writes the result.
//
// Errors: an unknown section or peer, a peer that does not start or answer; ctx. A peer that is
// not installed is told in the result and left out. Blocks until all rounds are over.
func Run(ctx context.Context, o Options) (err error) {
	if o, err = o.filled(); err != nil {
		return err
	}
	root, err := os.MkdirTemp(o.Dir, "belfry-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the measurement: %w", err)
	}
	defer os.RemoveAll(root) // a temporary folder
	o.Dir = root
	manyFiles()
	r := &run{o: o, res: newResult(o)}
	r.busy()
	if o.FreeMB >= 0 {
		if r.hole, err = newCachedHole(o.Dir, int64(o.FreeMB)<<20); err != nil {
			return err
		}
		defer r.hole.close()
	}
	if err := r.findPeers(ctx); err != nil {
		return err
	}
	err = r.all(ctx)
	if ctx.Err() != nil {
		err = fmt.Errorf("cannot finish the measurement: %w", context.Cause(ctx))
	}
	if err != nil {
		r.res.remark("not everything was measured: %v", strings.SplitN(err.Error(), "\n", 2)[0])
	}
	r.res.Machine.Load += " at the start, " + loadAverage() + " at the end"
	// Why after an error, too: what was measured took long.
	return errors.Join(err, r.write())
}

// busy says so where others use the machine: then figures say little, and ratios not much.
func (r *run) busy() {
	var load float64
	if _, err := fmt.Sscan(r.res.Machine.Load, &load); err == nil && load > 1 {
		r.res.remark("the machine was not quiet: its load average was %.3g at the start", load)
		r.say("the machine is not quiet: its load average is %.3g", load)
	}
}

// run is one run of the bench.
type run struct {
	o     Options
	res   *Result
	specs []peer.Spec // who takes part in what all can do, Belfry first
	seq   int         // of topics, whose names must not come twice
	hole  *cachedHole // fills the page cache before each measurement
}

func (r *run) wants(section string) bool { return slices.Contains(r.o.Only, section) }

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// findPeers looks who is installed.
func (r *run) findPeers(ctx context.Context) error {
	r.take(peer.BelfryNode(r.o.Program, r.o.Version))
	for _, name := range r.o.Peers {
		var s peer.Spec
		var err error
		switch name {
		case "kafka":
			s, err = peer.KafkaNode(ctx, r.o.Cache)
		case "klite":
			s, err = peer.KliteBroker(r.o.Cache)
		case "nats":
			s, err = peer.NATSServer(r.o.Cache, false)
		case "null":
			s = peer.NullBroker(r.o.Program, r.o.Version, r.o.Partitions)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.res.remark("%s was not measured: %v", name, err)
			r.say("without %s: %v", name, err)
			continue
		}
		r.take(s)
	}
	return nil
}

func (r *run) take(s peer.Spec) {
	r.specs = append(r.specs, s)
	r.res.Peers = append(r.res.Peers, Peer{Name: s.Name, Version: s.Version, Settings: s.Settings})
}

// spec gives a peer that takes part.
func (r *run) spec(name string) (peer.Spec, bool) {
	i := slices.IndexFunc(r.specs, func(s peer.Spec) bool { return s.Name == name })
	if i < 0 {
		return peer.Spec{}, false
	}
	return r.specs[i], true
}

// only gives those of the named peers that take part.
func (r *run) only(names ...string) (specs []peer.Spec) {
	for _, n := range names {
		if s, ok := r.spec(n); ok {
			specs = append(specs, s)
		}
	}
	return specs
}

func (r *run) all(ctx context.Context) error {
	var failed []error // Why it goes on: the others do not depend on it
	data := []string{sectionProduce, sectionFsync, sectionConsume, sectionBoth, sectionLatency, sectionE2E, sectionTools}
	for _, step := range []struct {
		wanted bool
		name   string
		run    func(context.Context) error
	}{
		{r.wants(sectionStart), "start and memory", r.fresh},
		{slices.ContainsFunc(data, r.wants), "throughput and times", r.data},
		{r.wants(sectionRestart), "restart", r.restart},
		{r.wants(sectionGrowth), "growth", r.growth},
		{r.wants(sectionAgent), "agent", r.agent},
		{r.wants(sectionCluster), "three nodes", r.cluster},
		{true, "where the time goes", r.profiles},
	} {
		if !step.wanted {
			continue
		}
		begin := time.Now()
		r.say("%s …", step.name)
		if err := step.run(ctx); err != nil {
			err = fmt.Errorf("cannot measure %s: %w", step.name, err)
			if ctx.Err() != nil {
				return err
			}
			r.say("%v", err)
			failed = append(failed, err)
		}
		took := time.Since(begin).Round(time.Second)
		r.say("%s took %v", step.name, took)
		r.res.Took = append(r.res.Took, fmt.Sprintf("%s %v", step.name, took))
	}
	return errors.Join(failed...)
}

func (r *run) write() error {
	for _, w := range []struct {
		path  string
		write func(io.Writer) error
	}{{r.o.Markdown, r.res.writeMarkdown}, {r.o.JSON, r.res.writeJSON}, {r.o.Curves, r.writeCurves}} {
		if w.path == "" {
			continue
		}
		var b strings.Builder
		if err := w.write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(w.path, []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return r.res.writeTable(r.o.Out)
}
