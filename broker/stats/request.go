package stats

import (
	"strconv"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// Codes from minCode to maxCode have a counter each; others share one.
// Source: Kafka protocol, error codes −1 … 133.
const (
	minCode = -1
	maxCode = 160
)

// api is what is counted of one Kafka API.
type api struct {
	name                  string
	total, local          prometheus.Observer
	bytesIn, bytesOut     *vm.Counter
	count, failed         atomic.Int64
	totalNanos, localNano atomic.Int64
	errors                [maxCode - minCode + 2]atomic.Pointer[vm.Counter]
}

// Request notes one answered request: its API key, its error code (0 none), queue+work+wait time.
//
// local is the time the broker worked, total the whole time from the read request
// to the answer handed over. It never waits and, after the first request of its
// kind, allocates nothing.
func (b *Broker) Request(key int16, code int16, bytesIn, bytesOut int, local, total time.Duration) {
	if b == nil {
		return
	}
	a := b.api(key)
	local, total = max(local, 0), max(total, 0)
	a.count.Add(1)
	a.localNano.Add(int64(local))
	a.totalNanos.Add(int64(total))
	a.total.Observe(total.Seconds())
	a.local.Observe(local.Seconds())
	a.bytesIn.Add(max(bytesIn, 0))
	a.bytesOut.Add(max(bytesOut, 0))
	if code != 0 {
		a.failed.Add(1)
		b.errorCounter(a, code).Add(1)
	}
}

func (b *Broker) api(key int16) *api {
	i := int(key)
	if i < 0 || i > maxAPIKey {
		i = maxAPIKey + 1
	}
	if a := b.apis[i].Load(); a != nil {
		return a
	}
	// Two first requests may build it twice; both get the same counters, and one
	// of the structs is dropped before anything was added to it.
	name := apiName(key)
	a := &api{
		name:     name,
		total:    b.requestTime.WithLabelValues(name),
		local:    b.requestLocal.WithLabelValues(name),
		bytesIn:  b.set.GetOrCreateCounter(series("belfry_request_bytes_total", labelAPI, name)),
		bytesOut: b.set.GetOrCreateCounter(series("belfry_response_bytes_total", labelAPI, name)),
	}
	if !b.apis[i].CompareAndSwap(nil, a) {
		return b.apis[i].Load()
	}
	return a
}

func (b *Broker) errorCounter(a *api, code int16) *vm.Counter {
	other := len(a.errors) - 1
	i := int(code) - minCode
	if i < 0 || i > other {
		i = other
	}
	if c := a.errors[i].Load(); c != nil {
		return c
	}
	label := "other"
	if i != other {
		label = strconv.Itoa(int(code))
	}
	c := b.set.GetOrCreateCounter(series("belfry_request_errors_total", labelAPI, a.name, labelCode, label))
	a.errors[i].Store(c)
	return c
}
