package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/golden"
)

// testEnv is a small catalogue with one metric of each kind.
func testEnv() Env {
	broker := []string{"kafka_broker"}
	catalogue := map[string]Metric{
		"current_partitions":                 {Unit: "count", Sampled: true},
		"group_msgs":                         {Unit: "count", Sampled: true},
		"topic_messages_remained":            {Unit: "count", Sampled: true, Labels: []string{"kafka_groups", "kafka_topics"}},
		"broker_alive":                       {Unit: "bool", Sampled: true, Labels: broker, Max: 1},
		"broker_disk_usage":                  {Unit: "%", Sampled: true, Labels: broker, Max: 100},
		"broker_cpu_usage":                   {Unit: "%", Sampled: true, Labels: broker, Max: 100},
		"broker_memory_usage":                {Unit: "%", Sampled: true, Labels: broker, Max: 100},
		"broker_cpu_core_load":               {Unit: "ratio", Sampled: true, Labels: broker, Max: 20},
		"broker_bytes_in_rate":               {Unit: "byte/s", Sampled: true, Labels: broker, Max: 5e8},
		"broker_data_size":                   {Unit: "byte", Sampled: true, Labels: broker, Max: 5e12},
		"broker_produce_mean":                {Unit: "ms", Sampled: true, Labels: broker, Max: 10_000},
		"belfry_offline_partitions":          {Unit: "count", Sampled: true},
		"belfry_under_replicated_partitions": {Unit: "count", Sampled: true},
		"belfry_controller_known":            {Unit: "bool", Sampled: true, Labels: broker, Max: 1},
		"belfry_offline_log_dirs":            {Unit: "count", Sampled: true, Labels: broker},
		"belfry_collector_timeouts_total":    {Unit: "count", Counter: true, Sampled: true, Labels: []string{"collector", "kafka_broker"}},
		"belfry_guard_active":                {Unit: "bool", Sampled: true, Labels: broker, Max: 1},
		"belfry_guard_rejecting":             {Unit: "bool", Sampled: true, Labels: broker, Max: 1},
		"belfry_guard_deletions_total":       {Unit: "count", Counter: true, Sampled: true, Labels: broker},
		"belfry_guard_failures_total":        {Unit: "count", Counter: true, Sampled: true, Labels: broker},
		"belfry_connections":                 {Unit: "count", Labels: broker},
	}
	return Env{
		Metric:   func(id string) (Metric, bool) { m, ok := catalogue[id]; return m, ok },
		Limit:    func(Limit) float64 { return 0 },
		Setting:  func(l Limit) string { return "agent." + string(l) },
		Receiver: func(name string) bool { return name == "oncall" },
	}
}

func TestBuiltinRulesAreTheDocumentedOnes(t *testing.T) {
	set, err := Load(nil, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	// metric, condition, periods and severity of the specification's table.
	for _, want := range []struct {
		name, condition string
		periods         int
		severity        Severity
		off             bool
	}{
		{"broker_disk_usage", "> 80 %", 1, Critical, false},
		{"broker_cpu_core_load", "> 2", 3, Major, false},
		{"broker_memory_usage", "> 90 %", 3, Critical, false},
		{"current_partitions", "> 90 % of partition_limit", 1, Major, true},
		{"broker_cpu_usage", "> 90 %", 3, Major, false},
		{"group_msgs", "> 90 % of group_backlog_limit", 1, Major, true},
		{"topic_messages_remained", "> 90 % of topic_backlog_limit", 1, Major, true},
		{"broker_alive", "== 0", 1, Critical, false},
		{"under_replicated_partitions", "> 0", 3, Major, false},
		{"offline_partitions", "> 0", 1, Critical, false},
		{"no_controller", "== 0", 2, Critical, false},
	} {
		r, ok := set.Find(want.name)
		if !ok {
			t.Errorf("no rule %q", want.name)
			continue
		}
		if r.Condition.Text() != want.condition || r.For != want.periods || r.Severity != want.severity || r.ForOK != 1 {
			t.Errorf("rule %q: %s for %d, %s; want %s for %d, %s", r.Name, r.Condition.Text(), r.For, r.Severity, want.condition, want.periods, want.severity)
		}
		if r.Repeat != 24*time.Hour || !r.Window.Always() || !r.Notifies(OnAlarm) || !r.Notifies(OnOK) || !r.Builtin || r.Advice == "" || r.Summary == "" {
			t.Errorf("rule %q has unexpected defaults or no text: %+v", r.Name, r)
		}
		if r.Active() == want.off || want.off && !strings.Contains(r.Off, "is not set") {
			t.Errorf("rule %q: active %v, off %q", r.Name, r.Active(), r.Off)
		}
	}
	if w, ok := set.Find("watchdog"); !ok || !w.Active() || !w.Watchdog || w.Notifies(OnOK) {
		t.Errorf("watchdog: %+v", w)
	}
}

func TestLimitsTurnRulesOn(t *testing.T) {
	env := testEnv()
	env.Limit = func(l Limit) float64 {
		return map[Limit]float64{PartitionLimit: 250, GroupBacklogLimit: 1e6, TopicBacklogLimit: 2000}[l]
	}
	set, err := Load(nil, env)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"current_partitions": 225, "group_msgs": 900_000, "topic_messages_remained": 1800} {
		if r, _ := set.Find(name); !r.Active() || r.Condition.Threshold != want {
			t.Errorf("rule %q: active %v, threshold %v; want %v", name, r.Active(), r.Condition.Threshold, want)
		}
	}
}

func TestFullRule(t *testing.T) {
	set := load(t, `
rules:
  - name: orders_lag
    summary: Billing is behind on orders
    metric: topic_messages_remained
    match: kafka_groups="billing", kafka_topics=~"orders-.*",
    aggregation: max
    period: 5m
    condition: "> 100_000"
    for: 3
    for_ok: 2
    severity: minor
    advice: >
      Add members
      to the group.
    window: "22:00-06:00 UTC"
    repeat: once
    notify_on: alarm
    receivers: [oncall]
  - name: broker_disk_usage
    condition: ">= 70 %"
  - name: data
    metric: broker_data_size
    condition: "> 1.5 GiB"
    repeat: 2d
  - name: slow
    metric: broker_produce_mean
    condition: "> 0.5 s"
    enabled: false
`)
	r, _ := set.Find("orders_lag")
	if r.Text() != `max of topic_messages_remained{kafka_groups="billing", kafka_topics=~"orders-.*"} over 5m0s > 100000, 3 periods in a row` {
		t.Errorf("text: %s", r.Text())
	}
	if r.ForOK != 2 || r.Severity != Minor || r.Advice != "Add members to the group." || r.Repeat != 0 || r.Notifies(OnOK) || !r.Notifies(OnAlarm) || r.Receivers[0] != "oncall" {
		t.Errorf("rule: %+v", r)
	}
	if !r.Match[1].Matches("orders-eu") || r.Match[1].Matches("my-orders-eu") || r.Match[0].Matches("billing2") {
		t.Error("matchers take the wrong values")
	}
	for hour, in := range map[int]bool{21: false, 22: true, 0: true, 5: true, 6: false, 12: false} {
		if got := r.Window.Contains(time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)); got != in {
			t.Errorf("window at %d h: %v, want %v", hour, got, in)
		}
	}
	disk, _ := set.Find("broker_disk_usage")
	if disk.Condition.Threshold != 70 || disk.Severity != Critical || !disk.Builtin || disk.Source != "user.yaml:20" {
		t.Errorf("changed built-in rule: %+v", disk)
	}
	if data, _ := set.Find("data"); data.Condition.Threshold != 1.5*(1<<30) || data.Repeat != 48*time.Hour {
		t.Errorf("data: %+v", data)
	}
	if slow, _ := set.Find("slow"); slow.Condition.Threshold != 500 || slow.Active() {
		t.Errorf("slow: %+v", slow)
	}
	before := r.Version()
	changed := *r
	changed.Condition.Threshold++
	if changed.Version() == before {
		t.Error("the version does not change with the threshold")
	}
}

func load(t *testing.T, text string) *Set {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("user.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := Load([]string{"user.yaml"}, testEnv())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestRefusals reads testdata/refused.yaml: files separated by "---", each with
// the texts that the refusal has to hold in comments at its top.
func TestRefusals(t *testing.T) {
	raw, err := os.ReadFile("testdata/refused.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(raw), "---\n")
	if len(cases) < 20 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		var wants []string
		for line := range strings.Lines(c) {
			if want, ok := strings.CutPrefix(line, "# "); ok {
				wants = append(wants, strings.TrimSpace(want))
			}
		}
		base, err := Builtin()
		if err != nil {
			t.Fatal(err)
		}
		rules, err := Parse("x.yaml", []byte(c), base)
		if err == nil {
			for _, r := range rules {
				base = replace(base, r)
			}
			_, err = Check(base, testEnv())
		}
		if err == nil || len(wants) == 0 {
			t.Errorf("not refused, or nothing expected:\n%s", c)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("refusal\n%v\ndoes not hold %q, file:\n%s", err, want, c)
			}
		}
	}
}

func TestPrometheusFilePassesPromtool(t *testing.T) {
	env := testEnv()
	env.Limit = func(l Limit) float64 { return map[Limit]float64{PartitionLimit: 250}[l] }
	user := filepath.Join(t.TempDir(), "user.yaml")
	text := `
rules:
  - {name: lag, metric: topic_messages_remained, match: 'kafka_groups="a\"b"', aggregation: avg, period: 5m, condition: "> 10", for: 2, for_ok: 3, window: "22:00-06:00 UTC", summary: "{{ odd }} text"}
  - {name: office, metric: broker_bytes_in_rate, condition: "> 100 MB/s", window: "08:00-20:00 Europe/Berlin"}
  - {name: gone, metric: broker_cpu_usage, condition: "> 99 %", enabled: false}
`
	if err := os.WriteFile(user, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := Load([]string{user}, env)
	if err != nil {
		t.Fatal(err)
	}
	out := Prometheus(set, time.Minute)
	golden.Match(t, "testdata/prometheus.golden.yaml", string(out))

	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: install the Debian package prometheus")
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(tool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool refuses the rule file: %v\n%s\n%s", err, said, out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rules:\n  - {name: a, metric: broker_alive, match: kafka_broker=\"0\", condition: \"== 0\", window: \"08:00-09:00\"}\n"))
	f.Add([]byte("rules: [{name: a, condition: \"> 90 % of partition_limit\", receivers: [x], notify_on: ok, repeat: 1d}]"))
	f.Add([]byte("rules: &a\n  - *a\n"))
	base, err := Builtin()
	if err != nil {
		f.Fatal(err)
	}
	env := testEnv()
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := Parse("x", data, base)
		if err != nil {
			return
		}
		set, err := Check(rules, env)
		if err != nil {
			return
		}
		for _, r := range set.All() { // what is accepted can be used
			r.Window.Contains(time.Unix(0, 0))
			if r.Active() && !r.Watchdog {
				r.Condition.Comparison.Holds(1, r.Condition.Threshold)
			}
			for i := range r.Match {
				r.Match[i].Matches("x")
			}
		}
	})
}
