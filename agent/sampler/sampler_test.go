package sampler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/agent/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fake struct {
	name string
	do   func(ctx context.Context, p Period) ([]metric.Sample, error)
}

func (f fake) Name() string { return f.name }
func (f fake) Collect(ctx context.Context, p Period) ([]metric.Sample, error) {
	return f.do(ctx, p)
}

func steady(name string, id metric.ID) fake {
	return fake{name, func(context.Context, Period) ([]metric.Sample, error) {
		return []metric.Sample{{ID: id, Value: 1}}, nil
	}}
}

type kept struct {
	name  string
	order *[]string
	all   []*metric.Snapshot
	delay time.Duration
}

func (k *kept) Receive(ctx context.Context, s *metric.Snapshot) {
	k.all = append(k.all, s)
	if k.order != nil {
		*k.order = append(*k.order, k.name)
	}
	if k.delay > 0 {
		sleep(ctx, k.delay)
		k.delay = 0
	}
}

// run lets a sampler beat inside a bubble for d.
func run(t *testing.T, o Options, d time.Duration, c []Collector, r ...Receiver) {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	o.Broker = "7"
	s, err := New(o, c, r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	time.Sleep(d) // the bubble's clock
	cancel()
	if err := <-over; err != nil {
		t.Errorf("Run gave %v", err)
	}
}

func value(s *metric.Snapshot, id metric.ID, collector string) float64 {
	for _, x := range s.Of(id) {
		if x.Label(metric.LabelCollector) == collector {
			return x.Value
		}
	}
	return -1
}

func TestAlignedTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(17*time.Second + 300*time.Millisecond) // begin off the grid
		begun := time.Now()
		var order []string
		first, second := &kept{name: "a", order: &order}, &kept{name: "b", order: &order}
		run(t, Options{InstanceID: func() string { return "id" }}, 3*time.Minute, []Collector{steady("one", "x")}, first, second)
		if len(first.all) != 3 || len(second.all) != 3 {
			t.Fatalf("%d and %d snapshots in three minutes, want 3", len(first.all), len(second.all))
		}
		for i, s := range first.all {
			if s.End.Second() != 0 || s.End.Sub(s.Start) != time.Minute || s.Missed != 0 || s.InstanceID != "id" {
				t.Errorf("snapshot %d is %v to %v, missed %d, of %q", i, s.Start, s.End, s.Missed, s.InstanceID)
			}
			want := time.Minute
			if i == 0 {
				want = s.End.Sub(begun)
			}
			if s.Elapsed != want {
				t.Errorf("snapshot %d took %v, want %v", i, s.Elapsed, want)
			}
			if s != second.all[i] {
				t.Error("receivers saw different snapshots")
			}
			if len(s.Of("x")) != 1 || len(s.Of(metric.AgentUp)) != 1 {
				t.Errorf("samples are %v", s.Samples)
			}
		}
		if !slices.Equal(order, []string{"a", "b", "a", "b", "a", "b"}) {
			t.Errorf("receivers came in order %v", order)
		}
	})
}

// TestLateCollector: it costs its own samples, not the others', and never runs twice at once.
func TestLateCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, calls := 0, 0
		hangs := fake{"hangs", func(context.Context, Period) ([]metric.Sample, error) {
			if running++; running > 1 {
				t.Error("two at once")
			}
			calls++
			if calls == 2 {
				time.Sleep(80 * time.Second) // deaf to its context: into the next tick but one
			}
			running--
			return []metric.Sample{{ID: "h", Value: float64(calls)}}, nil
		}}
		polite := fake{"polite", func(ctx context.Context, p Period) ([]metric.Sample, error) {
			if p.Prime {
				return nil, nil
			}
			<-ctx.Done()
			return []metric.Sample{{ID: "partial"}}, ctx.Err()
		}}
		r := &kept{}
		run(t, Options{Deadline: 5 * time.Second}, 4*time.Minute+30*time.Second, []Collector{hangs, polite, steady("fine", "x")}, r)
		if len(r.all) != 4 {
			t.Fatalf("%d snapshots, want 4", len(r.all))
		}
		for i, present := range []bool{false, false, true, true} {
			if got := len(r.all[i].Of("h")) == 1; got != present {
				t.Errorf("tick %d: the late one's sample is there: %v, want %v", i, got, present)
			}
			if len(r.all[i].Of("x")) != 1 {
				t.Errorf("tick %d: the healthy one's sample is lost", i)
			}
		}
		last := r.all[3]
		if got := value(last, metric.CollectorTimeouts, "hangs"); got != 2 {
			t.Errorf("%v time-outs counted, want 2", got)
		}
		if got := value(last, metric.CollectorTimeouts, "polite"); got != 4 {
			t.Errorf("%v time-outs of the polite one counted, want 4", got)
		}
		if got := value(last, metric.CollectorTimeouts, "fine"); got != 0 {
			t.Errorf("%v time-outs of the healthy one counted", got)
		}
	})
}

func TestFailingCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := fake{"half", func(context.Context, Period) ([]metric.Sample, error) {
			return []metric.Sample{{ID: "y", Value: 2}}, errors.New("the other half is missing")
		}}
		mad := fake{"mad", func(_ context.Context, p Period) ([]metric.Sample, error) {
			if p.Prime {
				return nil, nil
			}
			panic("BUG: no")
		}}
		r := &kept{}
		run(t, Options{}, 2*time.Minute+time.Second, []Collector{half, mad, steady("fine", "x")}, r)
		last := r.all[1]
		if len(last.Of("y")) != 1 || len(last.Of("x")) != 1 {
			t.Errorf("samples are %v", last.Samples)
		}
		if got := value(last, metric.CollectorErrors, "mad"); got != 2 {
			t.Errorf("%v failures of the mad one, want 2", got)
		}
		if got := value(last, metric.CollectorErrors, "half"); got != 3 { // the first reading counts too
			t.Errorf("%v failures of the half one, want 3", got)
		}
	})
}

// TestMissedTicks: what is lost is counted once, with the true elapsed time (A2).
func TestMissedTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &kept{delay: 150 * time.Second} // holds the line over two ticks
		run(t, Options{}, 5*time.Minute+time.Second, []Collector{steady("one", "x")}, slow)
		var missed []int
		var elapsed []time.Duration
		for _, s := range slow.all {
			missed, elapsed = append(missed, s.Missed), append(elapsed, s.Elapsed)
		}
		if !slices.Equal(missed, []int{0, 2, 0}) || elapsed[1] != 3*time.Minute {
			t.Errorf("missed %v in %v, want 0 2 0 and three minutes", missed, elapsed)
		}
		if got := slow.all[2].Of(metric.TicksMissed)[0].Value; got != 2 {
			t.Errorf("%v counted, want 2", got)
		}
	})
}

func TestTickArithmetic(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	const none = -1
	for _, c := range []struct{ now, last, tick, next time.Duration }{ // now in ms, the others in s
		{0, none, 0, 60},
		{59_000, none, 60, 60},
		{59_000, 60, 60, 120}, // fired a little early: not once more
		{60_010, 60, 60, 120},
		{95_000, 60, 60, 120},
		{119_000, 60, 120, 120},    // the work took nearly a period: the next tick is still caught
		{-1_000, 60, 0, 0},         // the wall clock was set back by a minute
		{10_000, 3600, 0, 60},      // … by an hour
		{7200_000, 60, 7200, 7260}, // … ahead
	} {
		now, last := day.Add(c.now*time.Millisecond), time.Time{}
		if c.last != none {
			last = day.Add(c.last * time.Second)
		}
		if got := tickOf(now, time.Minute); !got.Equal(day.Add(c.tick * time.Second)) {
			t.Errorf("tick of %v is %v", now, got)
		}
		if got := nextTick(now, last, time.Minute); !got.Equal(day.Add(c.next * time.Second)) {
			t.Errorf("tick after %v is %v", now, got)
		}
	}
	for elapsed, want := range map[time.Duration]int{0: 0, 10: 0, 59: 0, 60: 0, 62: 0, 110: 0, 119: 1, 120: 1, 185: 2} {
		if got := missedIn(elapsed*time.Second, time.Minute); got != want {
			t.Errorf("%v missed in %v s, want %v", got, elapsed, want)
		}
	}
}

func TestRefusedOptions(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	one := steady("one", "x")
	for name, try := range map[string]func() error{
		"short period": func() error { _, err := New(Options{Period: time.Millisecond, Logger: log}, nil, nil); return err },
		"long deadline": func() error {
			_, err := New(Options{Deadline: time.Hour, Logger: log}, nil, nil)
			return err
		},
		"no logger": func() error { _, err := New(Options{}, nil, nil); return err },
		"same name": func() error { _, err := New(Options{Logger: log}, []Collector{one, one}, nil); return err },
	} {
		if try() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
