// Package bench measures a node beside a null broker, which decodes, checks and answers but
// stores nothing: what the null broker reaches is the limit of this machine, this protocol and
// this client.
//
// Every figure is the median of several rounds in which the peers take turns; ratios matter,
// absolute numbers are this machine's. Client and broker share the processors, so throughput
// is what both reach together; the broker's own share is told as processor time for a
// gigabyte. It is not a test: nothing fails by being slow.
//
// Invariant: when Run returns, however it ended, its processes and folders are gone.
package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Options of a run.
type Options struct {
	Program    string        // the belfry executable that is measured
	Rounds     int           // alternating rounds; default DefaultRounds
	Duration   time.Duration // of one measurement; default DefaultDuration
	Rate       int           // messages a second when answer times are measured; default DefaultRate
	Partitions int           // of each topic; default DefaultPartitions
	JSON       bool          // Out gets a JSON document instead of a table
	Out        io.Writer     // the result
	Progress   io.Writer     // a line for each peer and round; nil: none
}

// Defaults of Options.
const (
	DefaultRounds     = 5
	DefaultDuration   = 3 * time.Second
	DefaultRate       = 20_000
	DefaultPartitions = 6
)

func (o Options) filled() Options {
	if o.Rounds <= 0 {
		o.Rounds = DefaultRounds
	}
	if o.Duration <= 0 {
		o.Duration = DefaultDuration
	}
	if o.Rate <= 0 {
		o.Rate = DefaultRate
	}
	if o.Partitions <= 0 {
		o.Partitions = DefaultPartitions
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o
}

// settle is how long a peer is left alone before its idle memory is read.
const settle = 2 * time.Second

// Run measures and writes the result.
//
// Errors: a peer that does not start or answer; ctx. Blocks until all rounds are over.
func Run(ctx context.Context, o Options) error {
	o = o.filled()
	// Why so large a number: it turns the safe default (a disk flush before each answer) off.
	const never = "9223372036854775807"
	peers := []peer{
		nodePeer("node, fsync", nil),
		nodePeer("node, page cache", map[string]string{"log.flush.interval.messages": never}),
		nullPeer(o.Partitions),
	}
	res := newResult(o, peers)
	for round := range o.Rounds {
		for i := range peers {
			p := peers[(i+round)%len(peers)] // Why: who goes first finds a colder machine
			fmt.Fprintf(o.Progress, "round %d of %d: %s\n", round+1, o.Rounds, p.name)
			err := measurePeer(ctx, o, p, res)
			if ctx.Err() != nil {
				return fmt.Errorf("cannot finish the measurement: %w", context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("cannot measure %s: %w", p.name, err)
			}
		}
	}
	res.Load = loadAverage()
	if o.JSON {
		return res.writeJSON(o.Out)
	}
	return res.writeTable(o.Out)
}

func measurePeer(ctx context.Context, o Options, p peer, res *result) (err error) {
	proc, err := launch(ctx, o.Program, p)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, proc.output.String())
		}
	}()
	defer proc.stop()
	note := func(name string, v float64) { res.note(name, p.name, v) }
	note(startTime, float64(proc.started.Microseconds())/1000)
	l := load{addr: proc.addr, partitions: o.Partitions}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	note(idleMemory, proc.memory("VmRSS"))
	if err := throughput(ctx, o, l, proc, note); err != nil {
		return err
	}
	ts, err := l.latency(ctx, o.Rate, o.Duration)
	if err != nil {
		return err
	}
	note(latency50, quantile(ts, 0.5))
	note(latency99, quantile(ts, 0.99))
	note(latency999, quantile(ts, 0.999))
	note(loadMemory, proc.memory("VmRSS"))
	note(peakMemory, proc.memory("VmHWM"))
	return nil
}

// throughput measures the two data roads, each with the processor time that the peer spent.
func throughput(ctx context.Context, o Options, l load, proc *process, note func(string, float64)) error {
	for _, run := range []struct {
		name, cpu, topic, codec string
		size                    int
	}{
		{produce1K, produceCPU, topic1K, "none", 1000},
		{produce100B, "", topic100B, "none", 100},
		{produceLZ4, "", topicLZ4, "lz4", 1000},
	} {
		before := proc.cpu()
		v, err := l.produce(ctx, run.topic, run.size, run.codec, o.Duration)
		if err != nil {
			return err
		}
		note(run.name, v.rate())
		if run.cpu != "" {
			note(run.cpu, (proc.cpu()-before).Seconds()/v.gigabytes())
		}
	}
	before := proc.cpu()
	v, err := l.consume(ctx, topic1K, o.Duration)
	if err != nil {
		return err
	}
	note(consume1K, v.rate())
	note(consumeCPU, (proc.cpu()-before).Seconds()/v.gigabytes())
	return nil
}

func machine() string {
	return fmt.Sprintf("%s %s/%s, %d cores", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}
