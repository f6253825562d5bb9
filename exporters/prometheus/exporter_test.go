package prometheus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/agent/metric"
)

const openMetrics = "application/openmetrics-text; version=1.0.0"

// every gives one sample of each metric of the catalogue that a snapshot may hold.
func every() *metric.Snapshot {
	var samples []metric.Sample
	for i, m := range metric.Catalog() {
		if m.Live {
			continue
		}
		var pairs []string
		for _, l := range m.Labels {
			pairs = append(pairs, l, "a \"strange\"\\name\n")
		}
		samples = append(samples, metric.Sample{ID: m.ID, Labels: metric.Labels(pairs...), Value: float64(i) + 0.5})
	}
	samples, _ = metric.Arrange(samples)
	end := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	return &metric.Snapshot{InstanceID: "in\"stance", Start: end.Add(-time.Minute), End: end, Samples: samples}
}

func live(w io.Writer) {
	io.WriteString(w, "# HELP belfry_in_bytes_total Bytes \\\\ in.\n# TYPE belfry_in_bytes_total counter\nbelfry_in_bytes_total 5\n"+
		"# HELP belfry_connections Open.\n# TYPE belfry_connections gauge\nbelfry_connections{listener=\"a\"} 1\nbelfry_connections{listener=\"b\"} 2\n"+
		"# HELP belfry_agent_up Claimed twice.\n# TYPE belfry_agent_up gauge\nbelfry_agent_up 9\n")
}

func histograms() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "belfry_request_duration_seconds", Help: "Time.", Buckets: []float64{.1, 1}}, []string{"api"})
	h.WithLabelValues("Produce").Observe(.5)
	r.MustRegister(h, collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()))
	return r
}

func made(t testing.TB, o Options) *Exporter {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	o.InstanceID = func() string { return "in\"stance" }
	o.Broker = "7"
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func full(t testing.TB) *Exporter {
	e := made(t, Options{Writers: []func(io.Writer){live}, Gatherers: []prometheus.Gatherer{histograms()}})
	e.Receive(context.Background(), every())
	return e
}

func scrape(h http.Handler, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parseText(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("cannot parse: %v", err)
	}
	return families
}

func TestText(t *testing.T) {
	resp := scrape(full(t))
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("content type is %q", got)
	}
	families := parseText(t, body(t, resp))
	for _, m := range metric.Catalog() {
		if m.Live {
			continue
		}
		f := families[string(m.ID)]
		if f == nil || len(f.Metric) != 1 {
			t.Errorf("%s is not shown once: %v", m.ID, f)
			continue
		}
		if f.GetHelp() != m.Help || (f.GetType() == dto.MetricType_COUNTER) != m.Counter {
			t.Errorf("%s has help %q and type %v", m.ID, f.GetHelp(), f.GetType())
		}
		if f.Metric[0].TimestampMs != nil {
			t.Errorf("%s has a time stamp", m.ID)
		}
		got := map[string]string{}
		for _, l := range f.Metric[0].Label {
			got[l.GetName()] = l.GetValue()
		}
		if got[metric.LabelInstance] != "in\"stance" || len(got) != len(m.Labels)+1 {
			t.Errorf("%s has labels %v", m.ID, got)
		}
		for _, l := range m.Labels {
			if got[l] != "a \"strange\"\\name\n" {
				t.Errorf("%s has %s=%q", m.ID, l, got[l])
			}
		}
	}
	for name, series := range map[string]int{"belfry_in_bytes_total": 1, "belfry_connections": 2, "belfry_request_duration_seconds": 1, "go_goroutines": 1} {
		f := families[name]
		if f == nil || len(f.Metric) != series {
			t.Errorf("%s is %v, want %d series", name, f, series)
			continue
		}
		if text := fmt.Sprint(f.Metric[0].Label); !strings.Contains(text, `"7"`) || !strings.Contains(text, "stance") {
			t.Errorf("%s lacks the constant labels: %s", name, text)
		}
	}
	if got := families["belfry_in_bytes_total"].GetHelp(); got != `Bytes \ in.` {
		t.Errorf("help is %q", got)
	}
}

func TestOpenMetrics(t *testing.T) {
	e := full(t)
	resp := scrape(e, "Accept", openMetrics)
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("content type is %q", got)
	}
	text := body(t, resp)
	if !strings.HasSuffix(text, "\n# EOF\n") {
		t.Error("no end mark")
	}
	// The samples are those of the text format; what differs is how a counter's
	// family is called, and the time of a counter's beginning where there is one.
	var plain strings.Builder
	for line := range strings.Lines(strings.TrimSuffix(text, "# EOF\n")) {
		field := strings.Fields(line)
		if field[0] == "#" && field[1] == "TYPE" && field[3] == "counter" {
			if strings.HasSuffix(field[2], "_total") {
				t.Errorf("a counter's family is called %s", field[2])
			}
		}
		if field[0] == "#" && strings.Contains(text, "# TYPE "+field[2]+" counter\n") {
			line = strings.Replace(line, " "+field[2]+" ", " "+field[2]+"_total ", 1)
		}
		if field[0] == "#" && field[1] == "UNIT" {
			continue
		}
		plain.WriteString(line)
	}
	open, classic := parseText(t, plain.String()), parseText(t, body(t, scrape(e)))
	for name, f := range classic {
		if strings.HasPrefix(name, "go_") {
			continue // moves between two scrapes
		}
		o := open[name]
		if o.GetType() != f.GetType() || fmt.Sprint(o.GetMetric()) != fmt.Sprint(f.GetMetric()) {
			t.Errorf("%s is %v in OpenMetrics, %v in text", name, o, f)
		}
	}
	if len(open) != len(classic) {
		t.Errorf("%d families in OpenMetrics, %d in text", len(open), len(classic))
	}
}

// TestPromtool lets Prometheus' own linter look. The documented names are
// prescribed: what it does not like about them stays.
func TestPromtool(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("no promtool on this machine: only the parsers looked at the text")
		return
	}
	command := exec.Command(tool, "check", "metrics")
	command.Stdin = strings.NewReader(body(t, scrape(full(t))))
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) { // 3: lint
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		if m, ok := metric.Lookup(metric.ID(name)); ok && m.Group != metric.GroupOwn {
			continue
		}
		if strings.HasPrefix(name, "go_") {
			continue
		}
		t.Errorf("promtool: %s", line)
	}
}

func TestGzip(t *testing.T) {
	e := full(t)
	resp := scrape(e, "Accept-Encoding", "br, gzip;q=0.8")
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("not compressed")
	}
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || !bytes.Contains(plain, []byte("broker_disk_usage{")) {
		t.Errorf("%d bytes, %v", len(plain), err)
	}
	if resp := scrape(e, "Accept-Encoding", "gzip;q=0"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("compressed for one who refuses it")
	}
}

// TestOldSnapshotEnds: a stuck sampler must not leave ghosts.
func TestOldSnapshotEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := full(t)
		time.Sleep(3 * time.Minute)
		if text := body(t, scrape(e)); !strings.Contains(text, "current_topics") {
			t.Error("a snapshot was dropped too early")
		}
		time.Sleep(time.Second)
		text := body(t, scrape(e))
		if strings.Contains(text, "current_topics") || !strings.Contains(text, "belfry_in_bytes_total") {
			t.Error("an old snapshot is shown, or live counters are not")
		}
	})
}

func TestBeforeFirstSnapshot(t *testing.T) {
	e := made(t, Options{Writers: []func(io.Writer){live}})
	e.o.InstanceID, e.o.Broker = func() string { return "" }, ""
	families := parseText(t, body(t, scrape(e)))
	if f := families["belfry_connections"]; len(f.GetMetric()) != 2 || len(f.Metric[0].Label) != 1 {
		t.Errorf("got %v", f)
	}
}

// slow is a reader that takes nothing until it is let go.
type slow struct {
	*httptest.ResponseRecorder
	begun, let chan struct{}
}

func (s slow) Write(b []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.let
	return s.ResponseRecorder.Write(b)
}

func TestScrapesAreBounded(t *testing.T) {
	e := full(t)
	let, over := make(chan struct{}), make(chan struct{}, maxScrapes)
	for range maxScrapes {
		s := slow{httptest.NewRecorder(), make(chan struct{}), let}
		go func() {
			e.ServeHTTP(s, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			over <- struct{}{}
		}()
		<-s.begun
	}
	if resp := scrape(e); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many got %d", resp.StatusCode)
	}
	close(let)
	for range maxScrapes {
		<-over
	}
	if resp := scrape(e); resp.StatusCode != http.StatusOK {
		t.Errorf("after that one got %d", resp.StatusCode)
	}
}

func TestMethods(t *testing.T) {
	for method, want := range map[string]int{"POST": 405, "HEAD": 200} {
		w := httptest.NewRecorder()
		full(t).ServeHTTP(w, httptest.NewRequest(method, "/metrics", nil))
		if w.Code != want || w.Code == 200 && w.Body.Len() > 0 {
			t.Errorf("%s gives %d with %d bytes", method, w.Code, w.Body.Len())
		}
	}
}

func TestRequiredOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("an exporter without anything was made")
	}
}

// partitions makes a snapshot as an instance of that many partitions with one
// group gives it.
func partitions(n int) *metric.Snapshot {
	var samples []metric.Sample
	for i := range n {
		topic, partition := fmt.Sprintf("topic-%04d", i/10), fmt.Sprint(i%10)
		tp := metric.Labels(metric.LabelTopic, topic, metric.LabelPartition, partition)
		gtp := metric.Labels(metric.LabelTopic, topic, metric.LabelPartition, partition, metric.LabelGroup, "group")
		samples = append(samples,
			metric.Sample{ID: metric.PartitionMessages, Labels: tp, Value: float64(i)},
			metric.Sample{ID: metric.ProducedMessages, Labels: tp, Value: float64(i * 1000)},
			metric.Sample{ID: metric.MessagesConsumed, Labels: gtp, Value: float64(i * 900)},
			metric.Sample{ID: metric.MessagesRemained, Labels: gtp, Value: float64(i * 100)})
	}
	s := every()
	s.Samples, _ = metric.Arrange(samples)
	return s
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := made(b, Options{})
			e.Receive(context.Background(), partitions(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Write(io.Discard, expfmt.FmtText); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzLines: whatever a writer gives, the page neither panics nor writes a head
// twice for one family in a row.
func FuzzLines(f *testing.F) {
	var seed bytes.Buffer
	live(&seed)
	f.Add(seed.String())
	f.Add("a{")
	f.Add("# HELP\n# TYPE a\na 1\na{} 2\n{} 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		e := made(t, Options{Writers: []func(io.Writer){func(w io.Writer) { io.WriteString(w, text) }}})
		for _, format := range []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0} {
			var out bytes.Buffer
			if err := e.Write(&out, format); err != nil {
				t.Fatal(err)
			}
			if out.Len() > 8*len(text)+1000*(1+strings.Count(text, "\n")) {
				t.Errorf("%d bytes became %d", len(text), out.Len())
			}
		}
	})
}
