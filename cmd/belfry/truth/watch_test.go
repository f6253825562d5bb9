package truth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// patience is the longest that anything awaited may take on a busy machine.
const patience = 60 * time.Second

// poll is the pause between two scrapes: far less than a period, so that none is missed.
const poll = 100 * time.Millisecond

// page is the first scrape that showed a period.
type page struct {
	from, to time.Time // when it was scraped
	tick     int       // the period's number since the node began
	elapsed  float64   // its true length in seconds
	families map[string]*dto.MetricFamily
}

// series gives every series of a metric as text of its labels, and its value.
func (p *page) series(id metric.ID) map[string]float64 {
	all := map[string]float64{}
	for _, m := range p.families[string(id)].GetMetric() {
		var l []string
		for _, label := range m.GetLabel() {
			if label.GetName() != metric.LabelInstance && label.GetName() != metric.LabelBroker {
				l = append(l, label.GetName()+"="+label.GetValue())
			}
		}
		slices.Sort(l)
		all[strings.Join(l, " ")] = number(m)
	}
	return all
}

func number(m *dto.Metric) float64 {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return m.Histogram.GetSampleSum()
}

// value gives the one series with these labels (a text as series gives it).
func (p *page) value(id metric.ID, labels string) (float64, bool) {
	v, ok := p.series(id)[labels]
	return v, ok
}

// histogram gives count and sum of one API's requests.
func (p *page) histogram(name, api string) (count, sum float64) {
	for _, m := range p.families[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "api" && l.GetValue() == api {
				return float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
			}
		}
	}
	return 0, 0
}

// watch scrapes a node all the time and keeps the first page of each period, with what the
// test itself read of the machine meanwhile.
type watch struct {
	t    *testing.T
	node *nodetest.Node
	mu   struct {
		sync.Mutex
		pages    []*page
		readings []reading
		last     string // text of the latest page
		trouble  error
	}
}

// follow watches until the test ends.
func follow(t *testing.T, n *nodetest.Node) *watch {
	w := &watch{t: t, node: n}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			w.scrape()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-over })
	return w
}

func (w *watch) scrape() {
	r, err := read(w.node.PID(), w.node.Dir)
	from := time.Now()
	code, body := w.node.HTTP("/metrics")
	if code != http.StatusOK || err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil && w.mu.trouble == nil && code != 0 {
			w.mu.trouble = err
		}
		return // it is being started again
	}
	p, err := parse(body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.readings = append(w.mu.readings, r)
	if err != nil {
		w.mu.trouble = err
		return
	}
	p.from, p.to = from, time.Now()
	w.mu.last = body
	if n := len(w.mu.pages); p.tick > 0 && (n == 0 || w.mu.pages[n-1].tick != p.tick) {
		w.mu.pages = append(w.mu.pages, p)
	}
}

func parse(body string) (*page, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot read the page of metrics: %w", err)
	}
	p := &page{families: families}
	ticks, _ := p.value(metric.Ticks, "") // none before the first period is over
	p.tick = int(ticks)
	p.elapsed, _ = p.value(metric.PeriodSeconds, "")
	return p, nil
}

// now scrapes once more, for what is counted live.
func (w *watch) now() *page {
	w.t.Helper()
	code, body := w.node.HTTP("/metrics")
	if code != http.StatusOK {
		w.t.Fatalf("the page of metrics answers %d: %s", code, body)
	}
	p, err := parse(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *watch) pages() []*page {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.trouble != nil {
		w.t.Fatal(w.mu.trouble)
	}
	return slices.Clone(w.mu.pages)
}

func (w *watch) readings() []reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mu.readings)
}

func (w *watch) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.last
}

// next waits for n more periods and gives the latest.
func (w *watch) next(n int) *page {
	w.t.Helper()
	have := len(w.pages())
	w.eventually("another period", func() string {
		if len(w.pages()) < have+n {
			return "none yet"
		}
		return ""
	})
	all := w.pages()
	return all[len(all)-1]
}

// eventually waits until f finds nothing wrong.
func (w *watch) eventually(what string, f func() string) {
	w.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			w.t.Fatalf("waited %v in vain: %s\n%s", patience, what, wrong)
		}
	}
}

// run is a row of periods without a gap, and whether it is one.
type run struct {
	pages []*page
	whole string // "" when nothing of what happened is missing in it
}

// since gives the pages after the one given, and whether every period was seen and every
// collector came in time in all of them.
func (w *watch) since(first *page) run {
	var r run
	all := w.pages()
	for i, p := range all {
		if !p.from.After(first.from) {
			continue
		}
		if i > 0 && all[i-1].tick+1 != p.tick {
			r.whole += fmt.Sprintf("after period %d comes %d; ", all[i-1].tick, p.tick)
		}
		r.pages = append(r.pages, p)
	}
	last := r.pages[len(r.pages)-1]
	for _, id := range []metric.ID{metric.CollectorTimeouts, metric.CollectorErrors} {
		for labels, v := range last.series(id) {
			if before, _ := first.value(id, labels); v != before {
				r.whole += fmt.Sprintf("%s{%s} grew from %v to %v; ", id, labels, before, v)
			}
		}
	}
	return r
}

// moved adds a rate up over the periods: what it must give is what was moved.
func (r run) moved(id metric.ID, labels string) float64 {
	var sum, pending float64
	for _, p := range r.pages {
		pending += p.elapsed
		if v, ok := p.value(id, labels); ok {
			sum, pending = sum+v*pending, 0
		}
	}
	return sum
}

// values gives what a metric was in each period in which it was there.
func (r run) values(id metric.ID) []float64 {
	var all []float64
	for _, p := range r.pages {
		if v, ok := p.value(id, ""); ok {
			all = append(all, v)
		}
	}
	return all
}
