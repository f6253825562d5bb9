// Package promtest runs a real Prometheus for tests: it scrapes a given target on loopback, and queries are put to it over
// its own API. It is for tests only, and wants the prometheus executable (Debian: package prometheus) in the path.
package promtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
)

// Prometheus is one running server.
type Prometheus struct {
	URL    string
	client http.Client
}

// startTries is how often a port that somebody else took meanwhile is tried anew.
const startTries = 3

// patience bounds every wait; a step that takes longer is a failure.
const patience = 30 * time.Second

// Start runs a Prometheus that scrapes http://target/metrics every interval (whole milliseconds), with the rule files
// given, until the test ends. It is ready when Start returns.
func Start(t testing.TB, target string, interval time.Duration, ruleFiles ...string) *Prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("cannot find the prometheus executable (Debian: apt-get install prometheus): %v", err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(configuration(target, interval, ruleFiles)), 0o644); err != nil {
		t.Fatal(err)
	}
	for range startTries {
		if p, err := start(t, path, dir, config); err == nil {
			return p
		} else {
			t.Logf("cannot start prometheus: %v", err)
		}
	}
	t.Fatal("prometheus does not start")
	return nil
}

func configuration(target string, interval time.Duration, ruleFiles []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global:\n  scrape_interval: %dms\n  scrape_timeout: %dms\n  evaluation_interval: %dms\n",
		interval.Milliseconds(), interval.Milliseconds(), interval.Milliseconds())
	if len(ruleFiles) > 0 {
		b.WriteString("rule_files:\n")
		for _, f := range ruleFiles {
			fmt.Fprintf(&b, "  - %q\n", f)
		}
	}
	fmt.Fprintf(&b, "scrape_configs:\n  - job_name: belfry\n    static_configs:\n      - targets: [%q]\n", target)
	return b.String()
}

func start(t testing.TB, path, dir, config string) (*Prometheus, error) {
	t.Helper()
	address := port.Addr(t)
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(dir, "data")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, path, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address="+address,
		"--log.level=warn")
	command.Stdout, command.Stderr = logFile, logFile
	if err := command.Start(); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // it is killed at the end; what it said is in the log
		close(ended)
	}()
	stop := func() { cancel(); <-ended; _ = logFile.Close() }
	p := &Prometheus{URL: "http://" + address, client: http.Client{Timeout: patience}}
	if err := p.ready(ended); err != nil {
		stop()
		said, _ := os.ReadFile(logFile.Name())
		return nil, fmt.Errorf("%w; it said: %s", err, said)
	}
	t.Cleanup(stop)
	return p, nil
}

func (p *Prometheus) ready(ended <-chan struct{}) error {
	limit := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if response, err := p.client.Get(p.URL + "/-/ready"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("prometheus has ended")
		case <-limit:
			return fmt.Errorf("prometheus is not ready after %v", patience)
		case <-tick.C:
		}
	}
}

// Series is one line of an instant query's result.
type Series struct {
	Labels map[string]string
	Value  string // Prometheus' own text
}

// Query runs an instant query as of now. Errors: what Prometheus says about it.
func (p *Prometheus) Query(expr string) ([]Series, error) {
	response, err := p.client.PostForm(p.URL+"/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("cannot read answer %q: %w", body, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("cannot run query %q: %s", expr, answer.Error)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("cannot read result of query %q: a %s, not a vector", expr, answer.Data.ResultType)
	}
	var result []struct {
		Metric map[string]string
		Value  [2]any
	}
	if err := json.Unmarshal(answer.Data.Result, &result); err != nil {
		return nil, fmt.Errorf("cannot read result of query %q: %w", expr, err)
	}
	series := make([]Series, 0, len(result))
	for _, r := range result {
		series = append(series, Series{Labels: r.Metric, Value: fmt.Sprint(r.Value[1])})
	}
	return series, nil
}

// Await runs a query until it gives something, and fails the test when it does not within the time.
func (p *Prometheus) Await(t testing.TB, expr string, within time.Duration) []Series {
	t.Helper()
	limit := time.After(within)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		series, err := p.Query(expr)
		if err != nil {
			t.Fatal(err)
		}
		if len(series) > 0 {
			return series
		}
		select {
		case <-limit:
			t.Fatalf("no result of %s within %v", expr, within)
		case <-tick.C:
		}
	}
}

// AwaitScrapes waits until the target was scraped n times, the oldest no longer ago than the lookback of a query.
func (p *Prometheus) AwaitScrapes(t testing.TB, n int, within time.Duration) {
	t.Helper()
	p.Await(t, fmt.Sprintf(`sum_over_time(up{job="belfry"}[5m]) >= %d`, n), within)
}

// finite tells whether a value is a number: an empty histogram gives NaN, which a board shows as nothing.
func finite(value string) bool { return value != "NaN" && value != "+Inf" && value != "-Inf" }

// Answers tells whether a query gives at least one number.
func (p *Prometheus) Answers(expr string) (bool, error) {
	series, err := p.Query(expr)
	if err != nil {
		return false, err
	}
	for _, s := range series {
		if finite(s.Value) {
			return true, nil
		}
	}
	return false, nil
}
