// Package prometheus shows what the agent knows to Prometheus: the latest
// snapshot and the live counters and histograms, in its text format or as
// OpenMetrics.
//
// It knows the vocabulary (agent/metric) and nothing else of the house: what is
// live comes as a writer of text lines or as a gatherer. It stores nothing but
// the pointer to the latest snapshot.
//
// Invariant: no sample carries a time stamp, and a snapshot that is too old is
// not shown: a series that nobody updates must end. Every series carries
// kafka_instance_id once it is known; live ones kafka_broker as well.
package prometheus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/belfry-mq/belfry/agent/metric"
)

// maxScrapes bounds how many answers are written at once: each costs memory and a
// processor for as long as its reader likes.
const maxScrapes = 4

// maxAge is how many periods a snapshot is shown. Why 3: one tick may be late and
// the next be on its way; after that the sampler is stuck.
const maxAge = 3

// Options say what is shown beside the snapshot.
type Options struct {
	// InstanceID gives the cluster's ID; "" until it is known. Required.
	InstanceID func() string
	// Broker is the ID that live series get as label kafka_broker; "" for none.
	Broker string
	// Writers write live counters and gauges in the text format, HELP and TYPE
	// before each family.
	Writers []func(io.Writer)
	// Gatherers give live families of client_golang.
	Gatherers []prometheus.Gatherer
	// Logger tells what could not be shown. Required.
	Logger *slog.Logger
}

// Exporter answers scrapes. It is a receiver of snapshots and an http.Handler.
type Exporter struct {
	o       Options
	latest  atomic.Pointer[received]
	scrapes chan struct{} // one for each answer being written
	zippers sync.Pool
	warned  sync.Map // families that two sources claim, told once
}

type received struct {
	*metric.Snapshot
	at time.Time
}

// New makes an exporter.
//
// Errors: a required option is missing.
func New(o Options) (*Exporter, error) {
	if o.InstanceID == nil || o.Logger == nil {
		return nil, errors.New("cannot make Prometheus exporter: needs an instance ID and a logger")
	}
	return &Exporter{
		o:       o,
		scrapes: make(chan struct{}, maxScrapes),
		zippers: sync.Pool{New: func() any {
			z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a legal one
			return z
		}},
	}, nil
}

// Receive takes the snapshot that is shown from now on. It never waits.
func (e *Exporter) Receive(_ context.Context, s *metric.Snapshot) {
	e.latest.Store(&received{s, time.Now()})
}

// snapshot gives the latest one, or nil when it is too old to be true.
func (e *Exporter) snapshot() *metric.Snapshot {
	r := e.latest.Load()
	if r == nil || time.Since(r.at) > maxAge*r.End.Sub(r.Start) {
		return nil
	}
	return r.Snapshot
}

// ServeHTTP answers a scrape.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	select {
	case e.scrapes <- struct{}{}:
		defer func() { <-e.scrapes }()
	default:
		http.Error(w, fmt.Sprintf("%d scrapes are under way", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtText)
	w.Header().Set("Content-Type", string(format))
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if r.Method == http.MethodHead {
		return
	}
	var out io.Writer = w
	if acceptsGzip(r.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		z := e.zippers.Get().(*gzip.Writer)
		z.Reset(w)
		defer func() {
			_ = z.Close() // the reader went away
			e.zippers.Put(z)
		}()
		out = z
	}
	if err := e.Write(out, format); err != nil {
		e.o.Logger.Debug("scrape was not read to its end", "error", err)
	}
}

// Write writes everything in the given format, which must be text or OpenMetrics.
//
// Errors: those of w. What a source cannot give is logged and left out.
func (e *Exporter) Write(w io.Writer, format expfmt.Format) error {
	open := format.FormatType() == expfmt.TypeOpenMetrics
	buffered := bufio.NewWriterSize(w, 64<<10)
	p := &page{out: buffered, open: open, seen: map[string]bool{}, constant: e.constant(), exporter: e}
	p.snapshot(e.snapshot())
	p.gathered(format)
	for _, write := range e.o.Writers {
		p.lines(write)
	}
	if open {
		_, _ = buffered.WriteString("# EOF\n")
	}
	return buffered.Flush() // gives the first error of all writes
}

// constant are the labels that live series get, as text.
func (e *Exporter) constant() []metric.Label {
	var out []metric.Label
	if e.o.Broker != "" {
		out = append(out, metric.Label{Name: metric.LabelBroker, Value: e.o.Broker})
	}
	if id := e.o.InstanceID(); id != "" {
		out = append(out, metric.Label{Name: metric.LabelInstance, Value: id})
	}
	return out
}

// doubled tells, once for each, of a family that two sources claim.
func (e *Exporter) doubled(family string) {
	if _, told := e.warned.LoadOrStore(family, true); !told {
		e.o.Logger.Error("two sources claim one metric: only one is shown", "metric", family)
	}
}

func acceptsGzip(h http.Header) bool {
	for _, value := range h.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
			q := strings.ReplaceAll(params, " ", "")
			if name == "gzip" && q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000" {
				return true
			}
		}
	}
	return false
}
