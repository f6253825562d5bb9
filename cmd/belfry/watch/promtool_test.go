package watch

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
	"github.com/belfry-mq/belfry/dashboards/promtest"
)

// promtool runs Prometheus's own checker; it gives what it said.
func promtool(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("cannot find promtool (Debian: apt-get install prometheus): %v", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	return said.String(), err
}

// lintFound is promtool's exit code when all could be read, and names or types are unusual.
const lintFound = 3

// TestPromtool has Prometheus's own checker judge a scrape of a node under load and the rules for Prometheus. The
// documented metric IDs are prescribed; of everything else no complaint is allowed.
func TestPromtool(t *testing.T) {
	t.Parallel()
	hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	rules := write(t, "rules.yaml", quiet+backlogRule)
	n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{
		"alarm.rules": rules, "notify.webhook.url": hookURL, "alarm.backlog.limit": "1000", "alarm.topic.backlog.limit": "1000",
	})})
	u := newUser(t, n.Kafka)
	u.topic("orders", 2)
	u.produce("orders", 0, 150, 100)
	consume(t, u, n.Kafka, "billing", "orders", 40)
	awaitAll(t, []*ear{hook}, "backlog", "billing", false)
	awaitValue(t, n, equals(1), "belfry_alarm_state", "rule", "backlog")

	documented := map[string]bool{}
	for _, m := range metric.Catalog() {
		if !strings.HasPrefix(string(m.ID), "belfry_") {
			documented[string(m.ID)] = true
		}
	}
	_, body := n.HTTP("/metrics")
	said, err := promtool(t, body, "check", "metrics")
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != lintFound) {
		t.Fatalf("promtool check metrics: %v\n%s", err, said)
	}
	t.Logf("promtool check metrics, %d series:\n%s", strings.Count(body, "\n")-strings.Count(body, "\n#"), said)
	for line := range strings.Lines(said) {
		if id, complaint, _ := strings.Cut(strings.TrimSpace(line), " "); !documented[id] {
			t.Errorf("promtool complains about %s: %s", id, complaint)
		}
	}
	out, err := exec.CommandContext(t.Context(), nodetest.Binary(t), "rule", "prometheus", "--config", n.Config).Output()
	if err != nil {
		t.Fatalf("belfry rule prometheus: %v", err)
	}
	file := write(t, "prometheus-rules.yaml", string(out))
	said, err = promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", file)
	if err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, said)
	}
	if !strings.Contains(string(out), "alert: backlog") {
		t.Errorf("the user's own rule is not among them:\n%s", out)
	}
	// A Prometheus with these rules comes to the same judgement as the node.
	p := promtest.Start(t, n.Metrics, time.Second, file)
	for _, series := range p.Await(t, `ALERTS{alertname="backlog",alertstate="firing"}`, patience) {
		if series.Labels["kafka_groups"] != "billing" || series.Labels["severity"] != "major" {
			t.Errorf("Prometheus's alarm has the labels %v", series.Labels)
		}
	}
}
