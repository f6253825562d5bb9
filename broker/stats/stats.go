// Package stats is what the broker says about itself: counters, gauges and
// histograms that the data road bumps and others read.
//
// It is not a judge: rates, means and alarms are made by who reads. The road in
// is a method call or an Add from any room of the broker, the roads out are Read
// (typed numbers for the agent), WriteMetrics and Gatherer (Prometheus).
//
// Invariant: a writer never waits. Once a counter exists, adding to it is an
// atomic addition; there is no lock and no allocation on the road of a request.
// Counters only grow; what belongs to a deleted topic vanishes, but what it added
// to the broker's sums stays.
//
// A nil *Broker counts nothing and is safe to call.
package stats

import (
	"sync"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/belfry-mq/belfry/broker/topic"
)

// Counter only grows; Add never waits.
type Counter interface{ Add(int) }

// Gauge moves both ways.
type Gauge interface {
	Add(float64)
	Set(float64)
}

// Broker is the whole of it; safe for concurrent use.
type Broker struct {
	set      *vm.Set
	registry *prometheus.Registry
	began    time.Time

	apis  [maxAPIKey + 2]atomic.Pointer[api] // the last one counts keys that nobody knows
	flush prometheus.Histogram

	requestTime, requestLocal *prometheus.HistogramVec

	sums struct {
		bytesIn, bytesOut, messagesIn *vm.Counter
		flushes, flushNanos           atomic.Int64
		flushErrors                   *vm.Counter
	}

	replication *replication

	mu struct {
		sync.RWMutex
		topics    map[string]*Topic
		listeners map[string]*Listener
		deleted   map[string]*vm.Counter // by reason
		damaged   map[string]*vm.Counter // by place
		dirs      map[string]bool        // online
		why       map[string]string      // a directory is not
		spoiled   map[topic.Partition]SpoiledReplica
		refetched uint64 // replicas
	}
}

// New makes an empty set.
func New() *Broker {
	b := &Broker{set: vm.NewSet(), registry: prometheus.NewRegistry(), began: time.Now()}
	b.mu.topics = map[string]*Topic{}
	b.mu.listeners = map[string]*Listener{}
	b.mu.deleted = map[string]*vm.Counter{}
	b.mu.damaged = map[string]*vm.Counter{}
	b.mu.dirs = map[string]bool{}
	b.mu.why = map[string]string{}
	b.mu.spoiled = map[topic.Partition]SpoiledReplica{}
	b.sums.bytesIn = b.set.NewCounter("belfry_in_bytes_total")
	b.sums.bytesOut = b.set.NewCounter("belfry_out_bytes_total")
	b.sums.messagesIn = b.set.NewCounter("belfry_in_messages_total")
	b.sums.flushErrors = b.set.NewCounter("belfry_flush_errors_total")
	b.replication = newReplication(b.set)
	b.requestTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "belfry_request_duration_seconds",
		Help:    help["belfry_request_duration_seconds"],
		Buckets: requestBuckets(),
	}, []string{"api"})
	b.requestLocal = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "belfry_request_local_duration_seconds",
		Help:    help["belfry_request_local_duration_seconds"],
		Buckets: requestBuckets(),
	}, []string{"api"})
	b.flush = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "belfry_flush_duration_seconds",
		Help:    help["belfry_flush_duration_seconds"],
		Buckets: flushBuckets(),
	})
	b.registry.MustRegister(b.requestTime, b.requestLocal, b.flush)
	return b
}

// requestBuckets reach from an answer out of memory to a long poll that nobody
// fed, with a bound at each half second that clients wait by default.
func requestBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// flushBuckets reach from a disk with a battery to one that is about to fail.
func flushBuckets() []float64 {
	return []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30}
}

// nothing takes what is added to a nil Broker.
type nothing struct{}

func (nothing) Add(int) {}

type noGauge struct{}

func (noGauge) Add(float64) {}
func (noGauge) Set(float64) {}

// both adds to a topic's counter and to the broker's, which outlives it.
type both struct{ topic, broker *vm.Counter }

func (b both) Add(n int) {
	if n <= 0 {
		return // a counter only grows
	}
	b.topic.Add(n)
	b.broker.Add(n)
}

// count refuses to shrink: a negative number would look like 18 quintillion.
type count struct{ *vm.Counter }

func (c count) Add(n int) {
	if n > 0 {
		c.Counter.Add(n)
	}
}
