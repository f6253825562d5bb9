// Package bench measures a node beside a null broker, which decodes, checks and answers but
// stores nothing: what the null broker reaches is the limit of this machine, this protocol and
// this client.
//
// Every figure is the median of several rounds in which the peers take turns; ratios matter,
// absolute numbers are this machine's. It is not a test: nothing fails by being slow.
package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// Options of a run.
type Options struct {
	Program    string        // the belfry executable that is measured
	Rounds     int           // alternating rounds; default 5
	Duration   time.Duration // of one throughput measurement; default 4 s
	Rate       int           // messages a second of the latency measurement; default 20 000
	Partitions int           // default 6
	Out        io.Writer
}

func (o Options) filled() Options {
	if o.Rounds == 0 {
		o.Rounds = 5
	}
	if o.Duration == 0 {
		o.Duration = 4 * time.Second
	}
	if o.Rate == 0 {
		o.Rate = 20_000
	}
	if o.Partitions == 0 {
		o.Partitions = 6
	}
	return o
}

// peer is one thing that is measured.
type peer struct {
	name string
	args func(dir, addr string) ([]string, error) // arguments of the program
	ours bool
}

// measure is one line of the result.
type measure struct {
	name   string
	unit   string
	lower  bool // lower is better
	ours   bool // means something for a node only
	values map[string][]float64
}

// Run measures and writes a table.
//
// Errors: a peer that does not start or answer. Blocks until all rounds are over.
func Run(ctx context.Context, o Options) error {
	o = o.filled()
	peers := []peer{nodePeer("node, fsync", nil), nodePeer("node, page cache", map[string]string{"log.flush.interval.messages": "9223372036854775807"}), nullPeer()}
	ms := measures()
	fmt.Fprintf(o.Out, "%s %s/%s, %d cores; %d rounds, medians; franz-go, %d partitions, acks=all\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), o.Rounds, o.Partitions)
	for round := range o.Rounds {
		for i := range peers {
			p := peers[(i+round)%len(peers)] // Why: who goes first finds a colder machine
			fmt.Fprintf(o.Out, "round %d: %s\n", round+1, p.name)
			if err := measurePeer(ctx, o, p, ms); err != nil {
				return fmt.Errorf("cannot measure %s: %w", p.name, err)
			}
		}
	}
	return table(o.Out, peers, ms)
}

const (
	startTime   = "start to first answer"
	idleMemory  = "memory, idle"
	loadMemory  = "memory, after load"
	produce1K   = "produce, 1 KB"
	produce100B = "produce, 100 B"
	produceLZ4  = "produce, 1 KB, lz4"
	consumeTail = "consume, 1 KB, from the page cache"
	latency50   = "answer time, p50"
	latency99   = "answer time, p99"
	latency999  = "answer time, p99.9"
)

func measures() []*measure {
	ms := []*measure{
		{name: startTime, unit: "ms", lower: true}, {name: idleMemory, unit: "MB", lower: true},
		{name: produce1K, unit: "MB/s"}, {name: produce100B, unit: "MB/s"}, {name: produceLZ4, unit: "MB/s"},
		{name: consumeTail, unit: "MB/s"},
		{name: latency50, unit: "ms", lower: true}, {name: latency99, unit: "ms", lower: true}, {name: latency999, unit: "ms", lower: true},
		{name: loadMemory, unit: "MB", lower: true},
	}
	for _, m := range ms {
		m.values = map[string][]float64{}
	}
	return ms
}

func measurePeer(ctx context.Context, o Options, p peer, ms []*measure) error {
	proc, err := launch(ctx, o, p)
	if err != nil {
		return err
	}
	defer proc.stop()
	note := func(name string, v float64) {
		for _, m := range ms {
			if m.name == name {
				m.values[p.name] = append(m.values[p.name], v)
			}
		}
	}
	note(startTime, float64(proc.started.Microseconds())/1000)
	l := load{addr: proc.addr, partitions: o.Partitions}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	note(idleMemory, proc.memory())
	for _, run := range []struct {
		name, codec string
		size        int
	}{{produce1K, "none", 1000}, {produce100B, "none", 100}, {produceLZ4, "lz4", 1000}} {
		v, err := l.produce(ctx, run.size, run.codec, o.Duration)
		if err != nil {
			return err
		}
		note(run.name, v)
	}
	v, err := l.consume(ctx, o.Duration)
	if err != nil {
		return err
	}
	note(consumeTail, v)
	ts, err := l.latency(ctx, o.Rate, o.Duration)
	if err != nil {
		return err
	}
	for name, q := range map[string]float64{latency50: 0.5, latency99: 0.99, latency999: 0.999} {
		note(name, quantile(ts, q))
	}
	note(loadMemory, proc.memory())
	return nil
}

// quantile gives the q-quantile in milliseconds. Requires: ts is sorted.
func quantile(ts []time.Duration, q float64) float64 {
	if len(ts) == 0 {
		return 0
	}
	return float64(ts[min(int(q*float64(len(ts))), len(ts)-1)].Microseconds()) / 1000
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	return s[len(s)/2]
}

// table writes medians, each with its ratio to the null broker's.
func table(out io.Writer, peers []peer, ms []*measure) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nmeasure\tunit")
	for _, p := range peers {
		fmt.Fprintf(tw, "\t%s", p.name)
	}
	fmt.Fprintln(tw)
	limit := peers[len(peers)-1].name
	for _, m := range ms {
		fmt.Fprintf(tw, "%s\t%s", m.name, m.unit)
		base := median(m.values[limit])
		for _, p := range peers {
			v := median(m.values[p.name])
			fmt.Fprintf(tw, "\t%.4g", v)
			if p.ours && base > 0 {
				fmt.Fprintf(tw, " (%.2f × null)", v/base)
			}
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}
