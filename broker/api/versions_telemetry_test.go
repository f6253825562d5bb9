package api_test

import (
	"bytes"
	"compress/gzip"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// subscribe sets (or, with nil, deletes) settings of a subscription to client metrics.
func (c *rawClient) subscribe(name string, settings map[string]*string) {
	c.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeClientMetrics, name
	for k, v := range settings {
		one := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		one.Name, one.Value = k, v
		if v == nil {
			one.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		res.Configs = append(res.Configs, one)
	}
	req.Resources = append(req.Resources, res)
	if e := c.ask(req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]; e.ErrorCode != 0 {
		c.t.Fatalf("cannot subscribe: %s", *e.ErrorMessage)
	}
}

func (c *rawClient) wanted(id [16]byte) *kmsg.GetTelemetrySubscriptionsResponse {
	c.t.Helper()
	req := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
	req.ClientInstanceID = id
	return c.ask(req).(*kmsg.GetTelemetrySubscriptionsResponse)
}

func askGetTelemetrySubscriptions(t *testing.T, w *world, v int16) {
	none := w.raw.wanted([16]byte{})
	if code(t, none.ErrorCode, nil); none.ClientInstanceID == [16]byte{} || len(none.RequestedMetrics) != 0 || none.PushIntervalMillis != 300_000 {
		t.Errorf("nothing is subscribed to: %+v", none)
	}
	if !slices.Equal(none.AcceptedCompressionTypes, []int8{4, 3, 1, 2}) || none.TelemetryMaxBytes <= 0 || !none.DeltaTemporality {
		t.Errorf("how to push: %+v", none)
	}
	s := kmsg.StringPtr
	w.raw.subscribe("one", map[string]*string{"metrics": s("org.apache.kafka.producer.,org.apache.kafka.consumer."), "interval.ms": s("60000"), "match": s("client_id=r.w,client_source_address=127\\.0\\.0\\.1")})
	w.raw.subscribe("two", map[string]*string{"metrics": s("org.apache.kafka.producer."), "interval.ms": s("30000")})
	w.raw.subscribe("other", map[string]*string{"metrics": s("*"), "match": s("client_id=ra")})
	w.raw.subscribe("empty", map[string]*string{"interval.ms": s("100")})
	both := w.raw.wanted(none.ClientInstanceID)
	if !slices.Equal(both.RequestedMetrics, []string{"org.apache.kafka.consumer.", "org.apache.kafka.producer."}) || both.PushIntervalMillis != 30_000 ||
		both.ClientInstanceID != none.ClientInstanceID || both.SubscriptionID == none.SubscriptionID {
		t.Errorf("two subscriptions: %+v", both)
	}
	w.raw.subscribe("other", map[string]*string{"match": s("client_id=raw")})
	if all := w.raw.wanted(none.ClientInstanceID); !slices.Equal(all.RequestedMetrics, []string{"*"}) {
		t.Errorf("all metrics: %+v", all)
	}
	for _, name := range []string{"one", "two", "other", "empty"} {
		w.raw.subscribe(name, map[string]*string{"metrics": nil, "interval.ms": nil, "match": nil})
	}
	if again := w.raw.wanted(none.ClientInstanceID); again.SubscriptionID != none.SubscriptionID {
		t.Errorf("no subscription any more: %+v", again)
	}
}

func askPushTelemetry(t *testing.T, w *world, v int16) {
	w.raw.subscribe("push", map[string]*string{"metrics": kmsg.StringPtr("*"), "interval.ms": kmsg.StringPtr("3600000")})
	defer w.raw.subscribe("push", map[string]*string{"metrics": nil, "interval.ms": nil})
	push := func(change func(*kmsg.PushTelemetryRequest)) int16 {
		got := w.raw.wanted([16]byte{})
		req := kmsg.NewPtrPushTelemetryRequest()
		req.Version, req.ClientInstanceID, req.SubscriptionID, req.Metrics = v, got.ClientInstanceID, got.SubscriptionID, []byte("metrics")
		change(req)
		return w.raw.ask(req).(*kmsg.PushTelemetryResponse).ErrorCode
	}
	var id [16]byte
	code(t, push(func(r *kmsg.PushTelemetryRequest) { id = r.ClientInstanceID }), nil)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.ClientInstanceID = id }), kerr.ThrottlingQuotaExceeded)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.ClientInstanceID, r.Terminating = id, true }), nil)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.ClientInstanceID, r.Terminating = id, true }), kerr.InvalidRequest)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.ClientInstanceID = [16]byte{} }), kerr.InvalidRequest)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.SubscriptionID++ }), kerr.UnknownSubscriptionID)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.CompressionType = 9 }), kerr.UnsupportedCompressionType)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.CompressionType = 4 }), kerr.InvalidRecord)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.Metrics = make([]byte, 1<<20-2000) }), kerr.TelemetryTooLarge)
	// 20 MB of zeroes in 20 kB.
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.CompressionType, r.Metrics = 1, gzipped(t, 20<<20) }), kerr.TelemetryTooLarge)
	code(t, push(func(r *kmsg.PushTelemetryRequest) { r.CompressionType, r.Metrics = 1, gzipped(t, 1<<20) }), nil)
}

// Subscriptions are part of the cluster: they are there after a restart.
func TestSubscriptionsAreKept(t *testing.T) {
	node := brokertest.Start(t)
	dialRaw(t, node.Addr()).subscribe("kept", map[string]*string{"metrics": kmsg.StringPtr("a."), "interval.ms": kmsg.StringPtr("1234")})
	node.Restart(nil, nil)
	if got := dialRaw(t, node.Addr()).wanted([16]byte{}); !slices.Equal(got.RequestedMetrics, []string{"a."}) || got.PushIntervalMillis != 1234 {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestPushersAreBounded(t *testing.T) {
	node := brokertest.Start(t)
	raw := dialRaw(t, node.Addr())
	raw.subscribe("all", map[string]*string{"metrics": kmsg.StringPtr("*")})
	want := raw.wanted([16]byte{1})
	push := func(n int) int16 {
		req := kmsg.NewPtrPushTelemetryRequest()
		req.ClientInstanceID, req.SubscriptionID = [16]byte{byte(n), byte(n >> 8), 1}, want.SubscriptionID
		return raw.ask(req).(*kmsg.PushTelemetryResponse).ErrorCode
	}
	for n := range 10_001 {
		if got := push(n); got != 0 {
			t.Fatalf("client %d: code %d", n, got)
		}
	}
	code(t, push(10_000), kerr.ThrottlingQuotaExceeded)
	code(t, push(0), nil) // forgotten
}

// gzipped gives n zeroes, compressed.
func gzipped(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
