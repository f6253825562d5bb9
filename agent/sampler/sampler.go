// Package sampler is the one heartbeat of the agent: once a period it asks every
// collector, joins what came in time into one immutable snapshot and hands it to
// the receivers, one after the other in a fixed order.
//
// It knows no metric but its own and does not care where numbers come from. A
// collector that is late, fails or panics costs its own samples and nothing else:
// they are absent and the failure is counted.
//
// Invariant: ticks lie on multiples of the period on the wall clock; how long a
// period really was comes from the monotonic clock. No collector runs twice at
// the same time.
package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Period limits: below a second the machine's own counters are too coarse.
const (
	MinPeriod     = time.Second
	DefaultPeriod = time.Minute
)

// Receiver gets each snapshot, one after the other in a fixed order; must return quickly.
type Receiver interface {
	Receive(ctx context.Context, s *metric.Snapshot)
}

// Period is what a collector is told about the time it collects for.
type Period struct {
	Start, End time.Time     // wall clock, aligned
	Elapsed    time.Duration // true; since the last tick
	// Prime asks only to take a first reading, from which the first tick can
	// reckon differences; the samples are thrown away.
	Prime bool
}

// Collector reads one kind of numbers.
type Collector interface {
	// Name is a short word; it becomes a label.
	Name() string
	// Collect gives the samples of the period that just ended. What cannot be read
	// is left out; an error may come with the samples that could be had. It is over
	// soon after ctx ends.
	Collect(ctx context.Context, p Period) ([]metric.Sample, error)
}

// Options say how to beat.
type Options struct {
	// Period between ticks. Default 1 min, at least 1 s.
	Period time.Duration
	// Deadline of each collector within a tick. Default: half a period, at most 10 s.
	Deadline time.Duration
	// InstanceID gives the cluster's ID for the snapshot; "" until it is known.
	InstanceID func() string
	// Broker is this node's broker ID, the label of the sampler's own series.
	Broker string
	Logger *slog.Logger
}

// Sampler beats. Made by New, driven by Run.
type Sampler struct {
	o         Options
	sources   []*source
	receivers []Receiver
	order     metric.Order
	taken     []metric.Sample // of one tick; empty between ticks, for its memory
	ticks     int             // since Run began
	missed    int             // since Run began
}

// New makes a sampler that starts with Run. Receivers get snapshots in the order
// given.
//
// Errors: a period below a second, two collectors of one name.
func New(o Options, collectors []Collector, receivers []Receiver) (*Sampler, error) {
	if o.Period == 0 {
		o.Period = DefaultPeriod
	}
	if o.Period < MinPeriod {
		return nil, fmt.Errorf("cannot sample every %v: at least %v", o.Period, MinPeriod)
	}
	if o.Deadline == 0 {
		o.Deadline = min(o.Period/2, 10*time.Second)
	}
	if o.Deadline < 0 || o.Deadline > o.Period {
		return nil, fmt.Errorf("cannot give collectors %v in a period of %v", o.Deadline, o.Period)
	}
	if o.InstanceID == nil {
		o.InstanceID = func() string { return "" }
	}
	if o.Logger == nil {
		return nil, errors.New("cannot make sampler: no logger")
	}
	s := &Sampler{o: o, receivers: receivers}
	seen := map[string]bool{}
	for _, c := range collectors {
		if seen[c.Name()] {
			return nil, fmt.Errorf("cannot take two collectors called %q", c.Name())
		}
		seen[c.Name()] = true
		s.sources = append(s.sources, newSource(c, o.Logger))
	}
	return s, nil
}

// Run beats until ctx ends. Blocks; when it returns no collector runs any more,
// but for one that hangs in the kernel.
func (s *Sampler) Run(ctx context.Context) error {
	defer s.wait()
	begun := time.Now()
	s.prime(ctx, begun)
	var end time.Time // of the last tick
	for {
		next := nextTick(time.Now(), end, s.o.Period)
		if !sleep(ctx, time.Until(next)) {
			return nil
		}
		now := time.Now()
		elapsed := now.Sub(begun) // monotonic
		end = tickOf(now, s.o.Period)
		begun = now
		missed := missedIn(elapsed, s.o.Period)
		s.missed += missed
		if missed > 0 {
			s.o.Logger.Warn("ticks missed", "missed", missed, "elapsed", elapsed)
		}
		period := Period{Start: end.Add(-s.o.Period), End: end, Elapsed: elapsed}
		snapshot := s.collect(ctx, period, missed)
		if ctx.Err() != nil {
			return nil
		}
		for _, r := range s.receivers {
			r.Receive(ctx, snapshot)
		}
	}
}

// prime lets every collector take its first reading.
func (s *Sampler) prime(ctx context.Context, now time.Time) {
	p := Period{Start: now, End: now, Prime: true}
	s.ask(ctx, p)
}

// collect makes the snapshot of one period.
func (s *Sampler) collect(ctx context.Context, p Period, missed int) *metric.Snapshot {
	s.ask(ctx, p)
	for _, src := range s.sources {
		s.taken = append(s.taken, src.take()...)
	}
	s.ticks++
	s.taken = append(s.taken, s.own(p)...)
	samples, repeated := s.order.Arrange(s.taken)
	clear(s.taken) // Why: the labels of series that have gone
	s.taken = s.taken[:0]
	if repeated > 0 {
		s.o.Logger.Error("series came from two collectors", "dropped", repeated)
	}
	return &metric.Snapshot{
		InstanceID: s.o.InstanceID(),
		Start:      p.Start, End: p.End, Elapsed: p.Elapsed,
		Missed: missed, Samples: samples,
	}
}

// ask lets all collectors run at once and waits until each is done or late.
func (s *Sampler) ask(ctx context.Context, p Period) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	for _, src := range s.sources {
		src.start(ctx, p)
	}
	for _, src := range s.sources {
		src.await(ctx, p)
	}
}

// wait lets collectors that are late come to their end.
func (s *Sampler) wait() {
	patience, cancel := context.WithTimeout(context.Background(), s.o.Deadline)
	defer cancel()
	for _, src := range s.sources {
		src.drain(patience.Done())
	}
}

// own gives the sampler's series about itself.
func (s *Sampler) own(p Period) []metric.Sample {
	broker := metric.Labels(metric.LabelBroker, s.o.Broker)
	out := []metric.Sample{
		{ID: metric.AgentUp, Labels: broker, Value: 1},
		{ID: metric.Ticks, Labels: broker, Value: float64(s.ticks)},
		{ID: metric.PeriodSeconds, Labels: broker, Value: p.Elapsed.Seconds()},
		{ID: metric.TicksMissed, Labels: broker, Value: float64(s.missed)},
	}
	for _, src := range s.sources {
		labels := metric.Labels(metric.LabelBroker, s.o.Broker, metric.LabelCollector, src.Name())
		out = append(out,
			metric.Sample{ID: metric.CollectorTimeouts, Labels: labels, Value: float64(src.timeouts)},
			metric.Sample{ID: metric.CollectorErrors, Labels: labels, Value: float64(src.failures)})
		if src.took > 0 {
			out = append(out, metric.Sample{ID: metric.CollectorSeconds, Labels: labels, Value: src.took.Seconds()})
		}
	}
	return out
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
