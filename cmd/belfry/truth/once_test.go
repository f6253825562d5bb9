package truth

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// onceRules are two alarms about the cluster: one that lasts, one that ends when there is a topic less.
const onceRules = `rules:
  - {name: broker_cpu_core_load, enabled: false}
  - {name: broker_cpu_usage, enabled: false}
  - {name: broker_memory_usage, enabled: false}
  - {name: collector_timeouts, enabled: false}
  - {name: under_replicated_partitions, enabled: false}
  - {name: no_controller, enabled: false}
  - {name: lasts, metric: current_topics, condition: "> 0", severity: minor, repeat: 1h}
  - {name: ends, metric: current_topics, condition: "> 2", severity: major, repeat: 1h}
`

// ear counts what a webhook is told: "RULE firing" and "RULE resolved", with the broker where one is named.
type ear struct {
	mu    sync.Mutex
	heard map[string]int
	keys  map[string]bool // "RULE KEY", KEY being the idempotency key of the message
}

func newEar() *ear { return &ear{heard: map[string]int{}, keys: map[string]bool{}} }

// listen opens a webhook that this one hears; it gives the URL. For answer see sink.NewWebhook.
func (e *ear) listen(t *testing.T, answer func(n int) int) string {
	t.Helper()
	hook := sink.NewWebhook(answer)
	url, err := hook.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := hook.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	parts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-hook.Messages():
				e.take(t, m)
			}
		}
	})
	t.Cleanup(func() { cancel(); parts.Wait() })
	return url
}

func (e *ear) take(t *testing.T, m sink.Message) {
	body := m.Text
	var p struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Errorf("the webhook got %s", body)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range p.Alerts {
		name := a.Labels["alertname"]
		if broker := a.Labels["kafka_broker"]; broker != "" {
			name += " of " + broker
		}
		e.heard[name+" "+a.Status]++
		e.keys[name+" "+strings.Join(m.Header["Idempotency-Key"], "")] = true
		t.Logf("%s %s %s", time.Now().Format("15:04:05.000"), name, a.Status)
	}
}

func (e *ear) count(what string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[what]
}

// once waits until something was heard.
func (e *ear) once(t *testing.T, what string) {
	t.Helper()
	begin := time.Now()
	for e.count(what) == 0 {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%q was not heard within a minute; heard were %v", what, e.heard)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// check fails the test unless each of these was heard exactly so often.
func (e *ear) check(t *testing.T, when string, want map[string]int) {
	t.Helper()
	for what, n := range want {
		if got := e.count(what); got != n {
			t.Errorf("%s: %q was heard %d times, want %d", when, what, got, n)
		}
	}
}

// speaker waits until somebody speaks for the cluster.
func (c *trio) speaker() int {
	c.t.Helper()
	for range 10 {
		if ids := speakers(c.period()); len(ids) == 1 {
			return ids[0]
		}
	}
	c.t.Fatal("nobody speaks for the cluster")
	return -1
}

// killInPeriod kills a node when an eighth of a period is over: it has told what it found in the one before.
func (c *trio) killInPeriod(id int) (end time.Time) {
	begin := time.Now().Truncate(wide).Add(wide)
	timer := time.NewTimer(time.Until(begin.Add(wide / 8))) // not to synchronise: this is the moment to test
	<-timer.C
	c.nodes[id].Kill()
	return begin.Add(wide)
}

func rulesIn(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(onceRules), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAlarmsAreToldOncePerCluster kills whoever speaks for the cluster while alarms fire, twice. What lasts is not
// told again, what ends while nobody watches is told as over, once, and so is what ends later – also when in between
// all nodes were killed.
func TestAlarmsAreToldOncePerCluster(t *testing.T) {
	t.Parallel()
	hook := newEar()
	settings := map[string]string{"alarm.rules": rulesIn(t), "notify.webhook.url": hook.listen(t, nil)}
	c := startTrio(t, func(int) map[string]string { return settings })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	admin := kadm.NewClient(c.client())
	for i := range 3 {
		if _, err := admin.CreateTopic(ctx, 1, 3, nil, fmt.Sprintf("topic-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	hook.once(t, "lasts firing")
	hook.once(t, "ends firing")
	first := c.speaker()

	// The first one dies, and a topic goes before another one looks.
	end := c.killInPeriod(first)
	for {
		if _, err := admin.DeleteTopic(ctx, "topic-2"); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if late := time.Until(end); late < 0 {
		t.Logf("the topic was deleted %v after the period of the kill", -late)
	}
	dead := fmt.Sprintf("broker_alive of %d ", first)
	hook.once(t, "ends resolved")
	hook.once(t, dead+"firing")
	second := c.speaker()
	if second == first {
		t.Fatalf("node %d speaks and is dead", first)
	}
	c.nodes[first].Launch()
	c.nodes[first].WaitReady()
	hook.once(t, dead+"resolved")
	hook.check(t, "after the first kill", map[string]int{
		"lasts firing": 1, "lasts resolved": 0, "ends firing": 1, "ends resolved": 1, dead + "firing": 1, dead + "resolved": 1,
	})

	// The second one dies; who was dead before may take over, with what it has heard since.
	c.killInPeriod(second)
	again := fmt.Sprintf("broker_alive of %d ", second)
	hook.once(t, again+"firing")
	c.speaker()
	c.nodes[second].Launch()
	c.nodes[second].WaitReady()
	hook.once(t, again+"resolved")

	// All die at once.
	var ends sync.WaitGroup
	for _, n := range c.nodes {
		ends.Go(n.Kill)
	}
	ends.Wait()
	c.start()
	c.speaker()
	c.speaker()
	for i := range 2 {
		if _, err := admin.DeleteTopic(ctx, fmt.Sprintf("topic-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	hook.once(t, "lasts resolved")
	third := c.speaker() // one more period, for what should not come
	for id := range 3 {
		if _, body := c.nodes[id].HTTP("/alarms"); !json.Valid([]byte(body)) {
			t.Errorf("node %d shows its alarms as %s", id, body)
		}
	}
	if p := c.period()[third]; p == nil || p.families[string(metric.Alarms)] == nil {
		t.Error("the speaker has no series of its alarms")
	}
	hook.check(t, "at the end", map[string]int{
		"lasts firing": 1, "lasts resolved": 1, "ends firing": 1, "ends resolved": 1,
		dead + "firing": 1, dead + "resolved": 1, again + "firing": 1, again + "resolved": 1,
	})
}

// TestKilledWhileItTells kills the speaker in the very moment in which the webhook has its message. What is promised
// there is at least once: the next speaker does not know that it arrived, and tells again – the same, as the key says.
func TestKilledWhileItTells(t *testing.T) {
	t.Parallel()
	hook, rules := newEar(), rulesIn(t)
	var c *trio
	var killed atomic.Bool
	c = newTrio(t, func(id int) map[string]string {
		return map[string]string{"alarm.rules": rules, "notify.webhook.url": hook.listen(t, func(int) int {
			if killed.CompareAndSwap(false, true) {
				c.nodes[id].Kill() // who tells first
			}
			return 200
		})}
	})
	c.start()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c.speaker()
	admin := kadm.NewClient(c.client())
	if _, err := admin.CreateTopic(ctx, 1, 3, nil, "topic"); err != nil {
		t.Fatal(err)
	}
	hook.once(t, "lasts firing")
	c.speaker()
	c.speaker() // one more period, for what should not come
	if _, err := admin.DeleteTopic(ctx, "topic"); err != nil {
		t.Fatal(err)
	}
	hook.once(t, "lasts resolved")
	c.speaker()
	hook.check(t, "at the end", map[string]int{"lasts resolved": 1})
	keys := 0
	for key := range hook.keys {
		if strings.HasPrefix(key, "lasts ") {
			keys++
		}
	}
	if n := hook.count("lasts firing"); n != 2 || keys != 2 {
		t.Errorf("the alarm was told %d times, and with its end under %d keys; want twice, and 2 keys", n, keys)
	}
}
