package alarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/audit"
	"github.com/belfry-mq/belfry/agent/checkpoint"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

var quiet = slog.New(slog.DiscardHandler)

// sink notes what it is told.
type sink struct {
	mu     sync.Mutex
	firing []Alarm
	ended  []Alarm
	events []audit.Event
	synced int
}

func (s *sink) Sync(firing, ended []Alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.firing, s.ended = firing, ended
	s.synced++
}

func (s *sink) Record(e audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *sink) names() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, e := range s.events {
		names = append(names, e.Name)
	}
	return strings.Join(names, " ")
}

// memory is a Store that can refuse and hang.
type memory struct {
	mu      sync.Mutex
	payload []byte
	err     error
	hang    chan struct{} // while not nil, Save waits until it is closed
}

func (m *memory) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.payload == nil {
		return nil, os.ErrNotExist
	}
	return m.payload, nil
}

func (m *memory) Save(payload []byte) error {
	m.mu.Lock()
	err, hang := m.err, m.hang
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.payload = payload
	return nil
}

func (m *memory) set(err error, hang chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.hang = err, hang
}

func (m *memory) SetAside() error { return nil }

func oneRule(threshold string) func() (*rules.Set, error) {
	return func() (*rules.Set, error) {
		list, err := rules.Parse("t", []byte(`rules: [{name: disk, metric: broker_disk_usage, condition: "`+threshold+`", severity: critical}]`), nil)
		if err != nil {
			return nil, err
		}
		return rules.Check(list, testEnv())
	}
}

func disk(minute int, usage float64) *metric.Snapshot {
	start := time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC)
	return &metric.Snapshot{InstanceID: "inst", Start: start, End: start.Add(time.Minute), Elapsed: time.Minute,
		Samples: []metric.Sample{{ID: metric.BrokerDiskUsage, Labels: metric.Labels("kafka_broker", "0"), Value: usage}}}
}

func open(t *testing.T, store Store, s *sink, load func() (*rules.Set, error)) *Evaluator {
	t.Helper()
	e, err := Open(Config{Store: store, Load: load, Fallback: oneRule("> 80 %"), Unit: Units()}, s, s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// running starts an evaluator and gives what ends it.
func running(t *testing.T, e *Evaluator) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAChangeIsOnTheDiskBeforeItIsHandedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alarms")
	ctx := context.Background()
	var before Alarm
	{ // the first life ends without any farewell
		s := &sink{}
		e := open(t, checkpoint.New(path, "alarm"), s, oneRule("> 80 %"))
		stop := running(t, e)
		defer stop()
		e.Receive(ctx, disk(0, 85))
		if len(s.firing) != 1 || s.names() != "alarmFiring" {
			t.Fatalf("firing %v, events %s", s.firing, s.names())
		}
		before = s.firing[0]
		if before.Value != 85 || before.Threshold != 80 || before.Unit != "%" || before.Object() != "broker 0" || before.Version == "" || !before.Fired.Equal(disk(0, 0).End) {
			t.Errorf("alarm lacks something: %+v", before)
		}
	}
	s := &sink{}
	e := open(t, checkpoint.New(path, "alarm"), s, oneRule("> 80 %"))
	stop := running(t, e)
	e.Receive(ctx, disk(1, 86))
	if len(s.firing) != 1 || !s.firing[0].Fired.Equal(before.Fired) || s.names() != "" {
		t.Errorf("after the restart: firing %+v, events %q", s.firing, s.names())
	}
	e.Receive(ctx, disk(2, 10))
	stop()
	s2 := &sink{}
	e = open(t, checkpoint.New(path, "alarm"), s2, oneRule("> 80 %"))
	stop = running(t, e)
	defer stop()
	e.Receive(ctx, disk(3, 10))
	if len(s2.firing) != 0 || len(s2.ended) != 1 || !s2.ended[0].Fired.Equal(before.Fired) || s2.ended[0].Value != 10 {
		t.Errorf("the end did not survive: firing %v, ended %+v", s2.firing, s2.ended)
	}
}

func TestAFullDiskKeepsAlarmsGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, s := &memory{}, &sink{}
		e := open(t, store, s, oneRule("> 80 %"))
		stop := running(t, e)
		store.set(errors.New("no space left on device"), nil)
		e.Receive(context.Background(), disk(0, 85))
		if len(s.firing) != 1 {
			t.Fatal("no alarm while the disk is full")
		}
		if _, err := store.Load(); err == nil {
			t.Fatal("the full disk took the state")
		}
		store.set(nil, nil)
		time.Sleep(saveRetry + time.Second)
		synctest.Wait()
		if raw, err := store.Load(); err != nil || !strings.Contains(string(raw), `"state":"alarm"`) {
			t.Errorf("state was not written when there was room again: %s, %v", raw, err)
		}
		if n := e.Stats().SaveFailures; n != 1 {
			t.Errorf("%d save failures, want 1", n)
		}
		stop()
	})
}

func TestAHangingDiskDelaysOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, s := &memory{}, &sink{}
		e := open(t, store, s, oneRule("> 80 %"))
		stop := running(t, e)
		hang := make(chan struct{})
		store.set(nil, hang)
		for i, c := range []struct {
			usage float64
			most  time.Duration
		}{{85, saveWait}, {10, 0}, {85, 0}} {
			start := time.Now()
			e.Receive(context.Background(), disk(i, c.usage))
			if took := time.Since(start); took > c.most {
				t.Errorf("change %d waited %v, want at most %v", i, took, c.most)
			}
		}
		if s.synced != 3 {
			t.Errorf("told %d times, want 3", s.synced)
		}
		store.set(nil, nil)
		close(hang)
		synctest.Wait()
		if raw, err := store.Load(); err != nil || !strings.Contains(string(raw), `"firing":true`) {
			t.Errorf("the newest state is not on the disk: %s, %v", raw, err)
		}
		stop()
	})
}

func TestABadRuleFileIsRefusedAndSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		load := oneRule("> 80 %")
		s := &sink{}
		e := open(t, &memory{}, s, func() (*rules.Set, error) { mu.Lock(); defer mu.Unlock(); return load() })
		put := func(f func() (*rules.Set, error)) {
			mu.Lock()
			load = f
			mu.Unlock()
			time.Sleep(20 * time.Second) // several looks
			synctest.Wait()
		}
		stop := running(t, e)
		put(oneRule("> 180 %"))
		if !strings.Contains(e.RuleError(), "can never fire") || e.Stats().ReloadFailures != 1 {
			t.Errorf("error %q, failures %d", e.RuleError(), e.Stats().ReloadFailures)
		}
		if r, ok := e.Rules().Find("disk"); !ok || r.Condition.Threshold != 80 {
			t.Errorf("the old rules do not stay: %+v", r)
		}
		put(oneRule("> 70 %"))
		if r, _ := e.Rules().Find("disk"); r.Condition.Threshold != 70 || e.RuleError() != "" {
			t.Errorf("rule %+v, error %q", r, e.RuleError())
		}
		if got := s.names(); got != "alarmRulesRefused alarmRulesLoaded" {
			t.Errorf("events: %s", got)
		}
		stop()
	})
}

func TestABadRuleFileAtTheStartLeavesTheBuiltInRules(t *testing.T) {
	e := open(t, &memory{}, &sink{}, oneRule("> 180 %"))
	if e.RuleError() == "" || len(e.Rules().All()) != 1 {
		t.Errorf("error %q, rules %v", e.RuleError(), e.Rules().All())
	}
}

func TestACorruptStateIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alarms")
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, checkpoint.New(path, "alarm"), &sink{}, oneRule("> 80 %"))
	if got := e.Alarms(); len(got) != 0 {
		t.Errorf("alarms out of rubbish: %v", got)
	}
	if _, err := os.Stat(path + ".corrupt"); err != nil {
		t.Error(err)
	}
}

func TestSamples(t *testing.T) {
	s := &sink{}
	e := open(t, &memory{}, s, oneRule("> 80 %"))
	stop := running(t, e)
	defer stop()
	if got := e.Silent(); len(got) != 1 || got[0] != "disk" {
		t.Errorf("silent before the first snapshot: %v", got)
	}
	e.Receive(context.Background(), disk(0, 85))
	if got := e.Silent(); len(got) != 0 {
		t.Errorf("silent with data: %v", got)
	}
	var got []string
	for _, sm := range e.Samples("0") {
		got = append(got, fmt.Sprintf("%s%v%v", sm.ID, sm.Labels, sm.Value))
	}
	want := `belfry_alarm_state[{kafka_broker 0} {rule disk} {severity critical}]1
belfry_alarms[{severity critical}]1
belfry_alarms[{severity info}]0
belfry_alarms[{severity major}]0
belfry_alarms[{severity minor}]0
belfry_rule_reload_failures_total[{kafka_broker 0}]0`
	if strings.Join(got, "\n") != want {
		t.Errorf("samples:\n%s", strings.Join(got, "\n"))
	}
	for _, sm := range e.Samples("0") {
		if _, ok := metric.Lookup(sm.ID); !ok {
			t.Errorf("%s is not in the catalogue", sm.ID)
		}
	}
}

func TestBuiltInRulesFitTheCatalogue(t *testing.T) {
	set, err := rules.Load(nil, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	if set.Active() < 10 {
		t.Errorf("only %d built-in rules are active", set.Active())
	}
}
