package api

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Client metrics (KIP-714): an operator subscribes to what clients measure, clients
// ask which of it is wanted of them and push it. What is pushed is checked and
// dropped: nothing here reads it. Each push is counted as a request of PushTelemetry,
// with its bytes, in the node's statistics.

const (
	// maxTelemetry is the largest push, compressed. Why below 1 MiB: that is the largest
	// frame of all APIs but Produce, and the push has a header.
	maxTelemetry = 1<<20 - 4096
	// maxTelemetryDecompressed is what a push may grow to.
	maxTelemetryDecompressed = 16 << 20
	// idleTelemetry is when a client of whom nothing is wanted asks again.
	// Source: KIP-714, default of interval.ms.
	idleTelemetry = 5 * time.Minute
	// maxPushers is how many clients' last pushes are remembered; one that is forgotten
	// may push once more than it should.
	maxPushers = 10_000
	// everyMetric asks for all metrics. Source: Kafka, ClientMetricsConfigs.
	everyMetric = "*"
)

// telemetryCodecs are accepted, the first one preferred.
var telemetryCodecs = [...]record.Codec{record.Zstd, record.LZ4, record.Gzip, record.Snappy}

// telemetry remembers who pushed when.
type telemetry struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		of    uint64 // index of the image that subs are of
		subs  []subscription
		byID  map[topic.ID]*list.Element // of order; each holds a *pusher
		order list.List                  // front = pushed last
	}
}

type pusher struct {
	id    topic.ID
	at    time.Time
	ended bool
}

// subscription is one wish of an operator.
type subscription struct {
	metrics  []string
	interval time.Duration
	match    map[string]*regexp.Regexp
}

func newTelemetry(now func() time.Time) *telemetry {
	t := &telemetry{now: now}
	t.mu.byID = map[topic.ID]*list.Element{}
	return t
}

// asked is what one client is asked for.
type asked struct {
	id       int32
	metrics  []string
	interval time.Duration
}

// subscriptions gives all wishes of an image.
func (t *telemetry) subscriptions(img *metadata.Image) []subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.of == img.Index() {
		return t.mu.subs
	}
	var subs []subscription
	for _, res := range img.Configured(metadata.ClientMetricsResource) {
		v := config.MetricsValues(img.Config(res))
		match, err := config.ParseMatch(v.String("match"))
		if err != nil {
			continue // came in under an older table: it matches nobody
		}
		subs = append(subs, subscription{v.List("metrics"), v.Duration("interval.ms"), match})
	}
	t.mu.of, t.mu.subs = img.Index(), subs
	return subs
}

// matches tells whether a client with these attributes is meant.
func (s *subscription) matches(client map[string]string) bool {
	for name, re := range s.match {
		if !re.MatchString(client[name]) {
			return false
		}
	}
	return true
}

// of puts together what is asked of a client. Its ID changes when that does, and so
// tells a client that asks with an old one.
func (t *telemetry) of(img *metadata.Image, client map[string]string) asked {
	a := asked{metrics: []string{}, interval: idleTelemetry}
	for _, s := range t.subscriptions(img) {
		if len(s.metrics) == 0 || !s.matches(client) {
			continue
		}
		if len(a.metrics) == 0 || s.interval < a.interval {
			a.interval = s.interval
		}
		a.metrics = append(a.metrics, s.metrics...)
	}
	slices.Sort(a.metrics)
	a.metrics = slices.Compact(a.metrics)
	if slices.Contains(a.metrics, everyMetric) {
		a.metrics = []string{everyMetric}
	}
	sum := crc32.NewIEEE()
	for _, m := range a.metrics {
		sum.Write(append([]byte(m), 0))
	}
	a.id = int32(crc32.Update(sum.Sum32(), crc32.IEEETable, binary.BigEndian.AppendUint64(nil, uint64(a.interval))))
	return a
}

// pushed notes a push.
//
// Errors: THROTTLING_QUOTA_EXCEEDED when it comes too soon after the one before,
// INVALID_REQUEST after the one that should have been the last.
func (t *telemetry) pushed(id topic.ID, interval time.Duration, last bool) error {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.mu.byID[id]
	if e == nil {
		if t.mu.order.Len() >= maxPushers {
			oldest := t.mu.order.Back()
			delete(t.mu.byID, oldest.Value.(*pusher).id)
			t.mu.order.Remove(oldest)
		}
		t.mu.byID[id] = t.mu.order.PushFront(&pusher{id, now, last})
		return nil
	}
	p := e.Value.(*pusher)
	switch {
	case p.ended:
		return refuse(kerr.InvalidRequest, "the client has pushed its last metrics already")
	case !last && now.Sub(p.at) < interval/2: // half: what was late on the way makes the next one look early
		return refuse(kerr.ThrottlingQuotaExceeded, fmt.Sprintf("metrics are wanted every %v only", interval))
	}
	p.at, p.ended = now, last
	t.mu.order.MoveToFront(e)
	return nil
}

// attributes are what subscriptions choose clients by. Source: KIP-714.
func attributes(r *wire.Request, id topic.ID) map[string]string {
	c := map[string]string{
		"client_instance_id":      id.String(),
		"client_software_name":    r.Session.Software,
		"client_software_version": r.Session.SoftwareVersion,
	}
	if r.ClientID != nil {
		c["client_id"] = *r.ClientID
	}
	if r.Session.Remote != nil {
		if host, port, err := net.SplitHostPort(r.Session.Remote.String()); err == nil {
			c["client_source_address"], c["client_source_port"] = host, port
		}
	}
	return c
}

// getTelemetrySubscriptions answers GetTelemetrySubscriptions 0: what the client is to
// measure and how often. A client without an ID gets one.
func (a *API) getTelemetrySubscriptions(r *wire.Request) {
	req := r.Body.(*kmsg.GetTelemetrySubscriptionsRequest)
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	id := topic.ID(req.ClientInstanceID)
	if id.IsZero() {
		id = topic.NewID()
	}
	want := a.telemetry.of(a.image(), attributes(r, id))
	resp.ClientInstanceID, resp.SubscriptionID, resp.RequestedMetrics = id, want.id, want.metrics
	resp.PushIntervalMillis = int32(want.interval.Milliseconds())
	resp.TelemetryMaxBytes, resp.DeltaTemporality = maxTelemetry, true
	for _, c := range telemetryCodecs {
		resp.AcceptedCompressionTypes = append(resp.AcceptedCompressionTypes, int8(c))
	}
	r.Answer(wire.Message(resp, 0))
}

// pushTelemetry answers PushTelemetry 0: the metrics are looked at as far as sizes go,
// and dropped.
func (a *API) pushTelemetry(r *wire.Request) {
	req := r.Body.(*kmsg.PushTelemetryRequest)
	resp := kmsg.NewPtrPushTelemetryResponse()
	resp.ErrorCode, _ = a.answer("PushTelemetry", a.push(r, req))
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

func (a *API) push(r *wire.Request, req *kmsg.PushTelemetryRequest) error {
	id := topic.ID(req.ClientInstanceID)
	if id.IsZero() {
		return refuse(kerr.InvalidRequest, "a push needs the client's instance ID; GetTelemetrySubscriptions gives one")
	}
	want := a.telemetry.of(a.image(), attributes(r, id))
	codec := record.Codec(req.CompressionType)
	switch {
	case want.id != req.SubscriptionID:
		return refuse(kerr.UnknownSubscriptionID, "what is wanted has changed: ask again")
	case codec != record.None && !slices.Contains(telemetryCodecs[:], codec):
		return refuse(kerr.UnsupportedCompressionType, fmt.Sprintf("compression type %d is unknown", req.CompressionType))
	case len(req.Metrics) > maxTelemetry:
		return refuse(kerr.TelemetryTooLarge, fmt.Sprintf("%d bytes of metrics; %d is the limit", len(req.Metrics), maxTelemetry))
	}
	if err := a.telemetry.pushed(id, want.interval, req.Terminating); err != nil {
		return err
	}
	if len(req.Metrics) == 0 {
		return nil
	}
	a.heavy <- struct{}{}
	defer func() { <-a.heavy }()
	_, err := record.Measure(codec, req.Metrics, maxTelemetryDecompressed)
	switch codeOf(err) {
	case kerr.MessageTooLarge.Code:
		return refuse(kerr.TelemetryTooLarge, err.Error())
	case kerr.CorruptMessage.Code:
		return refuse(kerr.InvalidRecord, err.Error())
	}
	return err
}
