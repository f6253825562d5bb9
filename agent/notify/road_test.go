package notify

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/audit"
	"github.com/belfry-mq/belfry/agent/checkpoint"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// road is evaluator and engine as a node joins them.
type road struct {
	evaluator *alarm.Evaluator
	engine    *Engine
	stop      func()
}

func openRoad(t *testing.T, dir string, hook *httpSink) *road {
	t.Helper()
	engine, stopEngine := start(t, Options{Dir: filepath.Join(dir, "notify"), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}})
	events, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	env := alarm.Environment(func(rules.Limit) float64 { return 0 }, func(l rules.Limit) string { return string(l) }, engine.HasReceiver, time.Minute)
	load := func() (*rules.Set, error) { return rules.Load(nil, env) }
	evaluator, err := alarm.Open(alarm.Config{Store: checkpoint.New(filepath.Join(dir, "alarms"), "alarm"), Load: load, Fallback: load, Unit: alarm.Units()}, engine, events, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- evaluator.Run(ctx) }()
	r := &road{evaluator: evaluator, engine: engine}
	done := false
	r.stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		stopEngine()
	}
	t.Cleanup(r.stop)
	return r
}

func (r *road) tick(usage float64) {
	end := time.Now()
	r.evaluator.Receive(context.Background(), &metric.Snapshot{InstanceID: "inst-1", Start: end.Add(-time.Minute), End: end, Elapsed: time.Minute,
		Samples: []metric.Sample{{ID: metric.BrokerDiskUsage, Labels: metric.Labels(metric.LabelBroker, "0"), Value: usage}}})
}

// TestTheWholeRoadOverCrashes walks an alarm from samples to a webhook, with a
// crash between any two steps.
func TestTheWholeRoadOverCrashes(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	dir := t.TempDir()
	r := openRoad(t, dir, hook)
	again := func() { // the process is killed and another one begins
		// What follows holds on a disk that answers within seconds.
		if n := r.evaluator.Stats().SaveFailures; n > 0 {
			t.Fatalf("the disk of this machine hung %d times for more than 5 s", n)
		}
		dir = crash(t, dir)
		r.stop()
		r = openRoad(t, dir, hook)
	}
	// A process that is killed between a delivery and the note of it delivers
	// again; the receiver knows that by the key.
	messages := func() (firing, over int) {
		keys := map[string]bool{}
		for _, g := range hook.taken() {
			key := g.header.Get("Idempotency-Key")
			if keys[key] {
				continue
			}
			keys[key] = true
			if strings.Contains(g.body, `"status":"resolved"`) {
				over++
			} else {
				firing++
			}
		}
		return firing, over
	}
	t.Cleanup(func() {
		if t.Failed() {
			firing, over := messages()
			t.Logf("%d alarms and %d ends were told", firing, over)
		}
	})
	for round := 1; round <= 2; round++ {
		r.tick(50)
		again()
		r.tick(85)
		eventually(t, "the alarm", func() bool { firing, over := messages(); return firing == round && over == round-1 })
		again()
		r.tick(86)
		again()
		r.tick(87)
		settled()
		again()
		r.tick(10)
		eventually(t, "its end", func() bool { firing, over := messages(); return firing == round && over == round })
		again()
		r.tick(11)
		settled()
	}
	// Killed in the instant after the evaluator noted the alarm.
	r.tick(90)
	again()
	r.tick(91)
	eventually(t, "the alarm after the crash", func() bool { firing, _ := messages(); return firing == 3 })
	settled()
	settled()
	if firing, over := messages(); firing != 3 || over != 2 {
		t.Errorf("%d alarms and %d ends told, want 3 and 2", firing, over)
	}
}

func TestAnAlarmThatNobodyReportsAnyMoreEnds(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}})
	e.Sync([]alarm.Alarm{diskAlarm(time.Now().Add(-time.Second))}, nil)
	eventually(t, "the alarm", func() bool { return len(hook.taken()) == 1 })
	e.Sync(nil, nil)
	eventually(t, "its end", func() bool { return len(hook.taken()) == 2 })
}
