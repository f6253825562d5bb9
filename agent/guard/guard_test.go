package guard

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// volume is a disk, a broker's data on it, and everything else that a guard touches.
type volume struct {
	mu       sync.Mutex
	used     int64
	total    int64
	held     int64
	asked    []int64 // what each deletion was asked for
	reason   string
	refusals []string
	events   []Event
	tasks    []string
	hang     chan struct{} // not nil: Usage hangs until it is closed
	stuck    chan struct{} // not nil: FreeOldest hangs until it or the context ends
	fail     error         // of Usage
	broken   error         // of FreeOldest
	eager    bool          // producers take what FreeOldest frees before anybody can look
	open     bool          // readers hold what is deleted: its space does not come back
}

func (v *volume) Usage() (int64, int64, float64, error) {
	v.mu.Lock()
	hang := v.hang
	v.mu.Unlock()
	if hang != nil {
		<-hang
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used, v.total, float64(v.used) * 100 / float64(v.total), v.fail
}

func (v *volume) Held() int64 { v.mu.Lock(); defer v.mu.Unlock(); return v.held }

func (v *volume) RefuseProduce(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reason != reason {
		v.refusals = append(v.refusals, reason)
	}
	v.reason = reason
}

func (v *volume) FreeOldest(ctx context.Context, bytes int64) (int64, error) {
	if v.stuck != nil {
		select {
		case <-v.stuck:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if v.eager {
		time.Sleep(50 * time.Millisecond) // fake time: deleting takes a while
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken != nil {
		return 0, v.broken
	}
	v.asked = append(v.asked, bytes)
	freed := min(bytes, v.held)
	if !v.eager {
		v.held -= freed
	}
	if !v.eager && !v.open {
		v.used -= freed
	}
	return freed, nil
}

func (v *volume) Record(_ context.Context, e Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.events = append(v.events, e)
}

func (v *volume) Begin(name, by string, params map[string]string) func(error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tasks = append(v.tasks, "begin "+name+" "+by+" "+params["policy"])
	return func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.tasks = append(v.tasks, "end "+name)
	}
}

func (v *volume) fill(used int64) { v.mu.Lock(); defer v.mu.Unlock(); v.used = used }

func (v *volume) refused() string { v.mu.Lock(); defer v.mu.Unlock(); return v.reason }

func (v *volume) kinds() []Kind {
	v.mu.Lock()
	defer v.mu.Unlock()
	var kinds []Kind
	for _, e := range v.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (v *volume) guard(t *testing.T, s Settings) *Guard {
	t.Helper()
	g, err := New(Options{
		Settings: s, Broker: "0", Usage: v.Usage, Held: v.Held, Brake: v, Cleaner: v, Audit: v, Tasks: v,
		Rejected: func() int64 { return 7 }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// running runs a guard in the bubble until the test's function ends.
func running(t *testing.T, g *Guard, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	synctest.Wait()
	f()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// after lets time pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

func value(t *testing.T, g *Guard, id metric.ID, policy string) (float64, bool) {
	t.Helper()
	for _, s := range g.Samples() {
		if s.ID == id && (policy == "" || s.Labels[1].Value == policy) {
			return s.Value, true
		}
	}
	return 0, false
}

func wantValue(t *testing.T, g *Guard, id metric.ID, policy string, want float64) {
	t.Helper()
	if got, ok := value(t, g, id, policy); !ok || got != want {
		t.Errorf("%s{%s} = %v, %v; want %v", id, policy, got, ok, want)
	}
}

func TestDeleteMakesRoomAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 990, total: 1000, held: 200} // 790 bytes are somebody else's
		g := v.guard(t, Settings{Policy: Delete})
		running(t, g, func() {
			after(5 * time.Second)
			// 990 −20 −18 = 952, −16 = 936: three deletions of a tenth of what is left.
			if want := []int64{20, 18, 16}; !slices.Equal(v.asked, want) {
				t.Errorf("deletions asked for %v, want %v", v.asked, want)
			}
			if v.refused() != "" {
				t.Errorf("produce refused under delete: %s", v.refused())
			}
			wantValue(t, g, deletedID, "", 54)
			wantValue(t, g, deletionsID, "", 3)
			wantValue(t, g, activeID, "", 1) // latched: the acts are over, a tick sees them
			wantValue(t, g, rejectingID, "", 0)
			after(2 * time.Minute)
			wantValue(t, g, activeID, "", 0)
			if got := v.kinds(); !slices.Equal(got, []Kind{Deleted, Deleted, Deleted}) {
				t.Errorf("events %v", got)
			}
		})
	})
}

// TestDeleteKeepsUpWithProducersThatWait: on a full disk the space of a deletion is gone before
// the next look, which must not be taken for space that did not come back.
func TestDeleteKeepsUpWithProducersThatWait(t *testing.T) {
	for _, c := range []struct {
		what  string
		v     *volume
		least int
		most  int
	}{
		{"producers wait", &volume{used: 1000, total: 1000, held: 900, eager: true}, 20, 1000},
		{"readers hold the files", &volume{used: 1000, total: 1000, held: 900, open: true}, 1, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := c.v.guard(t, Settings{Policy: Delete})
			running(t, g, func() {
				after(4 * time.Second)
				if n := len(c.v.asked); n < c.least || n > c.most {
					t.Errorf("%s: %d deletions within 4 s, want %d to %d", c.what, n, c.least, c.most)
				}
			})
		})
	}
}

func TestDeleteWithNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000}
		g := v.guard(t, Settings{Policy: Delete})
		running(t, g, func() {
			after(time.Minute)
			wantValue(t, g, exhaustedID, "", 1)
			if got := v.kinds(); !slices.Equal(got, []Kind{Deleted}) {
				t.Errorf("a disk that others filled is told once, got %v", got)
			}
			if v.refused() != "" {
				t.Error("produce refused at 96 % under delete")
			}
			v.fill(995)
			after(5 * time.Second)
			if !strings.Contains(v.refused(), "nothing is left to delete") {
				t.Errorf("reason %q", v.refused())
			}
			v.fill(500)
			after(5 * time.Second)
			if v.refused() != "" {
				t.Error("produce still refused")
			}
			wantValue(t, g, exhaustedID, "", 0)
		})
	})
}

func TestDeletionThatFailsIsCountedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000, held: 500, broken: errors.New("input/output error")}
		g := v.guard(t, Settings{Policy: Delete})
		running(t, g, func() {
			after(11 * time.Second)
			wantValue(t, g, failuresID, "", 3)
			wantValue(t, g, exhaustedID, "", 0)
			if got := v.kinds(); !slices.Equal(got, []Kind{Deleted}) || v.events[0].Err == "" {
				t.Errorf("events %v", v.events)
			}
		})
	})
}

func TestRejectWithinSecondsAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 500, total: 1000, held: 500}
		g := v.guard(t, Settings{Policy: Reject})
		running(t, g, func() {
			v.fill(951)
			after(5 * time.Second)
			if !strings.Contains(v.refused(), "95 %") {
				t.Fatalf("reason %q names no threshold", v.refused())
			}
			wantValue(t, g, activeID, "", 1)
			wantValue(t, g, rejectingID, "", 1)
			wantValue(t, g, rejectedID, "", 7)
			v.fill(901)
			after(5 * time.Second)
			if v.refused() == "" {
				t.Fatal("produce accepted inside the hysteresis")
			}
			v.fill(899)
			after(5 * time.Second)
			if v.refused() != "" {
				t.Fatal("produce still refused below it")
			}
			if len(v.asked) > 0 {
				t.Error("data deleted under reject")
			}
			if got := v.kinds(); !slices.Equal(got, []Kind{RefuseBegan, RefuseEnded}) {
				t.Errorf("events %v", got)
			}
		})
	})
}

func TestFastFillingIsCheckedFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 100_000, total: 1_000_000}
		g := v.guard(t, Settings{Policy: Reject})
		running(t, g, func() {
			for range 100 { // 40 000 bytes a second: 1 % in 250 ms
				if v.refused() != "" {
					break
				}
				v.fill(v.used + 10_000)
				after(250 * time.Millisecond)
			}
			if v.used > 980_000 {
				t.Errorf("refused only at %d of %d bytes", v.used, v.total)
			}
		})
	})
}

func TestHangingProbeIsToldAndKeepsTheBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000}
		g := v.guard(t, Settings{Policy: Reject})
		running(t, g, func() {
			after(time.Second)
			release := make(chan struct{})
			v.mu.Lock()
			v.hang = release
			v.mu.Unlock()
			after(8 * time.Second)
			wantValue(t, g, probeID, "", 1)
			if _, ok := value(t, g, usageID, ""); ok {
				t.Error("a usage is reported that nobody read")
			}
			if v.refused() == "" {
				t.Error("the brake was let go blindly")
			}
			// The policy can still be changed, and takes effect.
			if err := g.SetPolicy(Delete, "anna"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			wantValue(t, g, policyID, "delete", 1)
			if len(v.asked) > 0 {
				t.Error("data deleted blindly")
			}
			v.mu.Lock()
			v.hang, v.used = nil, 100
			v.mu.Unlock()
			close(release)
			after(time.Second)
			wantValue(t, g, probeID, "", 0)
			wantValue(t, g, failuresID, "", 1)
			if v.refused() != "" {
				t.Error("produce still refused at 10 %")
			}
			want := []Kind{RefuseBegan, ProbeFailed, SettingChanged, ProbeRecovered, RefuseEnded}
			if got := v.kinds(); !slices.Equal(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	})
}

func TestFailingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 1, total: 1000, fail: errors.New("input/output error")}
		g := v.guard(t, Settings{})
		running(t, g, func() {
			after(11 * time.Second)
			wantValue(t, g, failuresID, "", 3)
			wantValue(t, g, probeID, "", 1)
			if got := v.kinds(); !slices.Equal(got, []Kind{ProbeFailed}) {
				t.Errorf("events %v", got)
			}
		})
	})
}

func TestStuckCleanerDoesNotStopTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000, held: 900, stuck: make(chan struct{})}
		g := v.guard(t, Settings{Policy: Delete})
		running(t, g, func() {
			after(20 * time.Second)
			if at := g.Status().Checked; time.Since(at) > 5*time.Second {
				t.Errorf("last look %v ago", time.Since(at))
			}
			wantValue(t, g, activeID, "", 1)
			if err := g.SetPolicy(Reject, "anna"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if v.refused() == "" {
				t.Error("reject is not in force while a deletion hangs")
			}
		})
		// The deletion ended with the context, and was told.
		if last := v.events[len(v.events)-1]; last.Kind != Deleted || last.Err == "" {
			t.Errorf("last event %+v", last)
		}
	})
}

func TestPolicyChangeIsATaskAndAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000, held: 900}
		g := v.guard(t, Settings{Policy: Reject})
		running(t, g, func() {
			if v.refused() == "" {
				t.Fatal("not refused")
			}
			if err := g.SetPolicy(Delete, "anna"); err != nil {
				t.Fatal(err)
			}
			after(time.Second)
			if v.refused() != "" || !slices.Equal(v.asked, []int64{90}) {
				t.Errorf("reason %q, deletions %v", v.refused(), v.asked)
			}
			want := []string{"begin change capacity policy anna delete", "end change capacity policy"}
			if !slices.Equal(v.tasks, want) {
				t.Errorf("tasks %q", v.tasks)
			}
			if e := v.events[1]; e.Kind != SettingChanged || e.By != "anna" {
				t.Errorf("event %+v", e)
			}
			if err := g.SetPolicy("shrink", "anna"); err == nil || !strings.Contains(err.Error(), `"shrink"`) {
				t.Errorf("error %v", err)
			}
			if err := g.SetThreshold(101, "anna"); err == nil {
				t.Error("a threshold of 101 % was taken")
			}
			if err := g.SetPolicy(Delete, "anna"); err != nil || len(v.tasks) != 2 {
				t.Errorf("a change that changes nothing: %v, tasks %q", err, v.tasks)
			}
		})
	})
}

func TestPrimeSetsTheBrakeBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 960, total: 1000, held: 900}
		if err := v.guard(t, Settings{Policy: Reject}).Prime(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v.refused() == "" {
			t.Error("produce accepted at 96 %")
		}

		v = &volume{used: 960, total: 1000, held: 900}
		g := v.guard(t, Settings{Policy: Delete})
		if err := g.Prime(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(v.asked) > 0 {
			t.Error("Prime deleted")
		}
		running(t, g, func() {
			if !slices.Equal(v.asked, []int64{90}) {
				t.Errorf("deletions %v", v.asked)
			}
		})
	})
}

func TestPrimeDoesNotWaitForADeadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		v := &volume{used: 960, total: 1000, hang: release}
		g := v.guard(t, Settings{Policy: Reject})
		start := time.Now()
		if err := g.Prime(t.Context()); !errors.Is(err, ErrProbeTimeout) || time.Since(start) != 2*time.Second {
			t.Fatalf("error %v after %v", err, time.Since(start))
		}
		wantValue(t, g, probeID, "", 1)
		running(t, g, func() {
			v.mu.Lock()
			v.hang = nil
			v.mu.Unlock()
			close(release)
			after(time.Second)
			if v.refused() == "" {
				t.Error("produce accepted at 96 % when the disk came back")
			}
		})
	})
}

func TestRestartInTheBandKeepsTheRefusal(t *testing.T) {
	memory := NewFile(filepath.Join(t.TempDir(), "capacity.refusing"))
	// life is one life of a node at a usage; it tells whether produce is refused.
	life := func(used int64) (refused bool) {
		synctest.Test(t, func(t *testing.T) {
			v := &volume{used: used, total: 1000}
			g := v.guard(t, Settings{Policy: Reject})
			g.o.Memory = memory
			if err := g.Prime(t.Context()); err != nil {
				t.Fatal(err)
			}
			running(t, g, func() { refused = v.refused() != "" })
		})
		return refused
	}
	for _, c := range []struct {
		used int64
		want bool
	}{{920, false}, {960, true}, {920, true}, {899, false}, {920, false}} {
		if got := life(c.used); got != c.want {
			t.Errorf("started at %d of 1000: refused %v, want %v", c.used, got, c.want)
		}
	}
}

func TestMemoryNamesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "capacity.refusing")
	if err := NewFile(path).Store(true); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if refusing, err := NewFile(path).Load(); refusing || err != nil {
		t.Errorf("Load of nothing: %v, %v", refusing, err)
	}
}

func TestForecastIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 500_000, total: 1_000_000}
		g := v.guard(t, Settings{})
		running(t, g, func() {
			if _, ok := value(t, g, forecastID, ""); ok {
				t.Error("a forecast from one reading")
			}
			for range 12 {
				v.fill(v.used + 5000) // 1 000 a second
				after(5 * time.Second)
			}
			left, ok := value(t, g, forecastID, "")
			if want := float64(950_000-v.used) / 1000; !ok || left < want-10 || left > want+10 {
				t.Errorf("forecast %g s, %v; want about %g", left, ok, want)
			}
		})
	})
}

func TestSettingsAreChecked(t *testing.T) {
	for _, c := range []struct {
		s    Settings
		want string
	}{
		{Settings{Policy: "x"}, `"x"`},
		{Settings{Threshold: 120}, "120"},
		{Settings{Threshold: -1}, "-1"},
		{Settings{Hysteresis: 96}, "96"},
		{Settings{Share: 2}, "2"},
		{Settings{Interval: time.Minute}, "1m0s"},
		{Settings{Timeout: -1}, "-1ns"},
	} {
		_, err := New(Options{Settings: c.s})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v names no %s", c.s, err, c.want)
		}
	}
}

func TestSeriesAreTheCatalogues(t *testing.T) {
	v := &volume{used: 1, total: 10}
	g := v.guard(t, Settings{})
	g.trend.Add(Reading{At: time.Now().Add(-time.Second)}) // so that there is a forecast
	if err := g.Prime(t.Context()); err != nil {
		t.Fatal(err)
	}
	samples := g.Samples()
	if !slices.IsSortedFunc(samples, metric.Compare) {
		t.Error("samples are not sorted")
	}
	given := map[metric.ID]bool{}
	for _, s := range samples {
		given[s.ID] = true
		row, ok := metric.Lookup(s.ID)
		if !ok {
			t.Errorf("%s is not in the catalogue", s.ID)
		}
		var names []string
		for _, l := range s.Labels {
			names = append(names, l.Name)
		}
		if !slices.Equal(names, row.Labels) {
			t.Errorf("%s has labels %v, its row %v", s.ID, names, row.Labels)
		}
	}
	for _, m := range metric.Catalog() {
		if strings.HasPrefix(string(m.ID), "belfry_guard_") && !given[m.ID] {
			t.Errorf("%s is in the catalogue and nobody gives it", m.ID)
		}
	}
}

func TestHangingAuditorLosesEventsNotTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &volume{used: 500, total: 1000}
		g := v.guard(t, Settings{Policy: Reject})
		g.o.Audit = hangingAuditor{}
		running(t, g, func() {
			for i := range 80 {
				v.fill([]int64{960, 100}[i%2])
				after(5 * time.Second)
			}
			if v.refused() != "" || len(v.refusals) != 80 {
				t.Errorf("%d moves of the brake, want 80", len(v.refusals))
			}
			if got, _ := value(t, g, untoldID, ""); got != 80-tellLength-1 { // one is in the auditor's hands
				t.Errorf("%g events counted as dropped", got)
			}
		})
	})
}

// hangingAuditor ends only with its context.
type hangingAuditor struct{}

func (hangingAuditor) Record(ctx context.Context, _ Event) { <-ctx.Done() }
