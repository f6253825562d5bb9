package promtest_test

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/dashboards"
	"github.com/belfry-mq/belfry/dashboards/promtest"
)

const instance = "5a1f0f6e-8d6f-4c58-a7f7-6f5f0f6b2c11"

// exporter serves a series or two of every metric in the catalogue but the ones left out; counters grow with each scrape.
type exporter struct {
	scrapes atomic.Int64
	without map[metric.ID]bool
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	n := float64(e.scrapes.Add(1))
	for _, m := range metric.Catalog() {
		if e.without[m.ID] {
			continue
		}
		kind := "gauge"
		switch {
		case m.Histogram:
			kind = "histogram"
		case m.Counter:
			kind = "counter"
		}
		fmt.Fprintf(w, "# TYPE %s %s\n", m.ID, kind)
		for _, object := range []string{"0", "1"} {
			sample(w, m, object, n)
			if len(m.Labels) == 0 {
				break
			}
		}
	}
}

// values of the labels whose values a board names.
var values = map[string][]string{"severity": {"info", "critical"}, "rule": {"watchdog", "broker_disk_usage"}}

func sample(w http.ResponseWriter, m metric.Metric, object string, n float64) {
	pairs := []string{`kafka_instance_id="` + instance + `"`}
	for _, l := range m.Labels {
		value := l + object
		if v := values[l]; v != nil {
			value = v[object[0]-'0']
		}
		pairs = append(pairs, l+`="`+value+`"`)
	}
	labels := strings.Join(pairs, ",")
	if !m.Histogram {
		value := 1.0
		if m.Counter {
			value = 10 * n
		}
		fmt.Fprintf(w, "%s{%s} %g\n", m.ID, labels, value)
		return
	}
	for i, le := range []float64{0.001, 0.01, 0.1, math.Inf(1)} {
		fmt.Fprintf(w, "%s_bucket{%s,le=\"%s\"} %g\n", m.ID, labels, bound(le), n*float64(i+1))
	}
	fmt.Fprintf(w, "%s_sum{%s} %g\n%s_count{%s} %g\n", m.ID, labels, n/100, m.ID, labels, 4*n)
}

func bound(le float64) string {
	if math.IsInf(le, 1) {
		return "+Inf"
	}
	return fmt.Sprint(le)
}

// serve runs the exporter and a Prometheus over it.
func serve(t *testing.T, e *exporter) *promtest.Prometheus {
	t.Helper()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := promtest.Start(t, "127.0.0.1:"+port, 200*time.Millisecond)
	p.AwaitScrapes(t, 6, 30*time.Second)
	return p
}

var filled = dashboards.Values{Instance: instance, Broker: ".+", Topic: ".+", Group: ".+", Interval: "30s"}

func TestEveryQueryOfEveryBoardGivesNumbers(t *testing.T) {
	t.Parallel() // Prometheus looks for targets only every 5 s
	p := serve(t, &exporter{})
	for _, q := range dashboards.Queries(filled) {
		switch ok, err := p.Answers(q.Expr); {
		case err != nil:
			t.Errorf("%s: %v", q, err)
		case !ok:
			t.Errorf("%s: nothing", q)
		}
	}
}

// The test above must be able to fail: without a metric its query gives nothing.
func TestAMissingMetricIsNoticed(t *testing.T) {
	t.Parallel()
	p := serve(t, &exporter{without: map[metric.ID]bool{metric.BrokerCPUUsage: true}})
	missing := 0
	for _, q := range dashboards.Queries(filled) {
		if ok, err := p.Answers(q.Expr); err == nil && !ok {
			missing++
			if !strings.Contains(q.Expr, "broker_cpu_usage") {
				t.Errorf("%s: nothing, though its metrics are there", q)
			}
		}
	}
	if missing < 3 {
		t.Errorf("%d queries gave nothing, want those of three boards", missing)
	}
	if _, err := p.Query(`rate(`); err == nil {
		t.Error("a query that does not parse gave no error")
	}
}
