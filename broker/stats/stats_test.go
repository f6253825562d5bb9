package stats

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/broker/topic"
)

func fill(b *Broker) {
	for _, name := range []string{"orders", "_hidden"} {
		t := b.Topic(name)
		t.BytesIn.Add(100)
		t.BytesOut.Add(50)
		t.MessagesIn.Add(3)
		t.ProduceRequests.Add(2)
		t.FetchRequests.Add(1)
		t.FailedProduce.Add(1)
		t.FailedFetch.Add(1)
		t.RejectedBytes.Add(7)
	}
	b.Request(0, 0, 120, 40, 2*time.Millisecond, 5*time.Millisecond)
	b.Request(0, 56, 120, 40, 2*time.Millisecond, 5*time.Millisecond)
	b.Request(1, 3, 10, 10, time.Millisecond, 500*time.Millisecond)
	b.Request(999, 999, 1, 1, 0, 0)
	l := b.Listener("PUBLIC", true)
	l.Connections.Add(2)
	l.Accepted.Add(3)
	l.Refused.Add(1)
	l.BytesIn.Add(1000)
	l.BytesOut.Add(2000)
	b.Listener("weird\"na\\me\n", false).Accepted.Add(1)
	b.Flush(time.Millisecond, nil)
	b.Flush(0, errors.New("broken"))
	b.DeletedBytes("retention", 11)
	b.DeletedBytes("retention", 11)
	b.Corruption("segment")
	b.DirOnline("/data/a", true)
	b.DirOnline("/data/a", false)
	b.ReplicaDamaged(topic.Partition{Topic: "orders", Partition: 2}, "/data/a", "bytes are missing")
	b.ReplicaDamaged(topic.Partition{Topic: "orders", Partition: 1}, "/data/a", "bytes are missing")
	b.ReplicaDamaged(topic.Partition{Topic: "bills"}, "/data/a", "a check sum is wrong")
	b.ReplicaRefetched()
	b.ReplicaWhole(topic.Partition{Topic: "bills"})
}

func parse(t *testing.T, b *Broker) map[string]*dto.MetricFamily {
	t.Helper()
	var out bytes.Buffer
	b.WriteMetrics(&out)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&out)
	if err != nil {
		t.Fatalf("cannot parse: %v", err)
	}
	return families
}

func TestExposition(t *testing.T) {
	b := New()
	fill(b)
	families := parse(t, b)
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		if want := strings.HasSuffix(name, "_total"); (f.GetType() == dto.MetricType_COUNTER) != want {
			t.Errorf("%s is a %s", name, f.GetType())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == "_hidden" {
					t.Errorf("%s shows an internal topic", name)
				}
			}
		}
	}
	for name, want := range map[string]float64{
		"belfry_in_bytes_total":             200, // internal topics count in the sum
		"belfry_topic_in_bytes_total":       100,
		"belfry_topic_rejected_bytes_total": 7,
		"belfry_deleted_bytes_total":        22,
		"belfry_flush_errors_total":         1,
	} {
		f := families[name]
		if f == nil || len(f.Metric) != 1 || f.Metric[0].GetCounter().GetValue() != want {
			t.Errorf("%s = %v, want %v", name, f, want)
		}
	}
	if got := len(families["belfry_request_errors_total"].GetMetric()); got != 3 {
		t.Errorf("%d series of errors, want 3", got)
	}
	var all bytes.Buffer
	b.WriteAll(&all)
	if !strings.Contains(all.String(), `belfry_topic_in_bytes_total{kafka_topics="_hidden"} 100`) {
		t.Error("WriteAll leaves out internal topics")
	}
	if problems, err := testutil.GatherAndLint(b.Gatherer()); err != nil || len(problems) > 0 {
		t.Errorf("histograms: %v %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(b.Gatherer()); err != nil || n != 7 {
		t.Errorf("%d histograms, %v; want total and local of 3 APIs and flush", n, err)
	}
}

func TestRead(t *testing.T) {
	b := New()
	fill(b)
	r := b.Read()
	if r.BytesIn != 200 || r.BytesOut != 100 || r.MessagesIn != 6 {
		t.Errorf("sums are %d %d %d", r.BytesIn, r.BytesOut, r.MessagesIn)
	}
	want := TopicReading{Name: "orders", BytesIn: 100, BytesOut: 50, MessagesIn: 3, ProduceRequests: 2,
		FetchRequests: 1, FailedProduce: 1, FailedFetch: 1, RejectedBytes: 7}
	if len(r.Topics) != 2 || r.Topics[1] != want {
		t.Errorf("topics are %+v", r.Topics)
	}
	if q := r.Request(0); q.Count != 2 || q.Failed != 1 || q.Total != 10*time.Millisecond || q.Local != 4*time.Millisecond || q.API != "Produce" {
		t.Errorf("produce is %+v", q)
	}
	if q := r.Request(-1); q.Count != 1 || q.API != "Unknown" {
		t.Errorf("unknown keys are %+v", q)
	}
	if q := r.Request(3); q.Count != 0 {
		t.Errorf("metadata, never asked, is %+v", q)
	}
	if l := r.Listeners[0]; l.Name != "PUBLIC" || !l.Public || l.Connections != 2 || l.Accepted != 3 || l.Refused != 1 || l.BytesIn != 1000 || l.BytesOut != 2000 {
		t.Errorf("listener is %+v", l)
	}
	if r.Flushes != 1 || r.FlushErrors != 1 || r.FlushTime != time.Millisecond {
		t.Errorf("flushes are %d %d %v", r.Flushes, r.FlushErrors, r.FlushTime)
	}
	if r.DeletedBytes["retention"] != 22 || r.Corruptions["segment"] != 1 {
		t.Errorf("deleted %v, damaged %v", r.DeletedBytes, r.Corruptions)
	}
	if len(r.Spoiled) != 2 || r.Spoiled[0] != (SpoiledReplica{"orders", 1, "/data/a", "bytes are missing"}) || r.Refetched != 1 {
		t.Errorf("damaged replicas are %+v, begun anew %d", r.Spoiled, r.Refetched)
	}
	if online, ok := r.Dirs["/data/a"]; !ok || online {
		t.Errorf("dirs are %v", r.Dirs)
	}
}

// TestDroppedTopic: a deleted topic leaves no series behind, and the broker's sums do not shrink.
func TestDroppedTopic(t *testing.T) {
	b := New()
	old := b.Topic("t")
	old.BytesIn.Add(5)
	b.DropTopic("t")
	b.DropTopic("never there")
	old.BytesIn.Add(5) // a fetch that was under way
	if f := parse(t, b)["belfry_topic_in_bytes_total"]; f != nil {
		t.Errorf("a ghost: %v", f)
	}
	r := b.Read()
	if len(r.Topics) != 0 || r.BytesIn != 10 {
		t.Errorf("got topics %v and %d bytes, want none and 10", r.Topics, r.BytesIn)
	}
	b.Topic("t").BytesIn.Add(1)
	if r := b.Read(); r.Topics[0].BytesIn != 1 || r.BytesIn != 11 {
		t.Errorf("the topic made again has %d bytes, the broker %d", r.Topics[0].BytesIn, r.BytesIn)
	}
}

func TestCountersOnlyGrow(t *testing.T) {
	b := New()
	tp := b.Topic("t")
	for _, c := range []Counter{tp.BytesIn, tp.RejectedBytes, b.Listener("l", false).BytesIn} {
		c.Add(5)
		c.Add(-3)
	}
	b.DeletedBytes("retention", -4)
	b.Request(0, 0, -1, -1, -time.Second, -time.Second)
	r := b.Read()
	if r.Topics[0].BytesIn != 5 || r.BytesIn != 5 || r.Topics[0].RejectedBytes != 5 || r.Listeners[0].BytesIn != 5 {
		t.Errorf("a counter shrank: %+v", r)
	}
	if q := r.Request(0); q.Total != 0 || q.BytesIn != 0 || len(r.DeletedBytes) != 0 {
		t.Errorf("a negative number was counted: %+v", q)
	}
}

func TestListenerIsKept(t *testing.T) {
	b := New()
	b.Listener("l", false).Accepted.Add(1)
	b.Listener("l", true).Accepted.Add(1)
	if l := b.Read().Listeners; len(l) != 1 || l[0].Accepted != 2 || !l[0].Public {
		t.Errorf("listeners are %+v", l)
	}
}

// TestNil: rooms whose tests count nothing pass nil.
func TestNil(t *testing.T) {
	var b *Broker
	fill(b)
	b.DropTopic("orders")
	b.Listener("x", false).Connections.Set(1)
	var out bytes.Buffer
	b.WriteMetrics(&out)
	if out.Len() != 0 {
		t.Errorf("a nil broker says %q", out.String())
	}
	if families, err := b.Gatherer().Gather(); err != nil || len(families) != 0 {
		t.Errorf("a nil broker gathers %v, %v", families, err)
	}
	if r := b.Read(); len(r.Topics) != 0 || r.BytesIn != 0 {
		t.Errorf("a nil broker reads %+v", r)
	}
}

// TestNoAllocation holds the promise of the package comment.
func TestNoAllocation(t *testing.T) {
	b := New()
	fill(b)
	tp, l := b.Topic("orders"), b.Listener("PUBLIC", true)
	if n := testing.AllocsPerRun(100, func() {
		b.Request(0, 0, 100, 50, time.Millisecond, 2*time.Millisecond)
		b.Request(0, 56, 100, 50, time.Millisecond, 2*time.Millisecond)
		b.Request(1000, 999, 100, 50, time.Millisecond, 2*time.Millisecond)
		tp.BytesIn.Add(1)
		tp.ProduceRequests.Add(1)
		l.BytesIn.Add(1)
		l.Connections.Add(1)
		b.Flush(time.Millisecond, nil)
		b.DeletedBytes("retention", 1)
	}); n != 0 {
		t.Errorf("%v allocations a request, want none", n)
	}
}

func TestConcurrent(t *testing.T) {
	b := New()
	const writers, each = 8, 500
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for i := range each {
				b.Topic("kept").BytesIn.Add(1)
				b.Topic("dropped").BytesIn.Add(1)
				b.Request(int16(i%80), int16(i%4), 1, 1, 1, 1)
				b.Corruption("index")
				if i%50 == 0 {
					b.DropTopic("dropped")
					b.Read()
					b.WriteMetrics(io.Discard)
				}
			}
		})
	}
	group.Wait()
	r := b.Read()
	var requests uint64
	for _, q := range r.Requests {
		requests += q.Count
	}
	if r.BytesIn != 2*writers*each || requests != writers*each || r.Corruptions["index"] != writers*each {
		t.Errorf("lost counts: %d bytes, %d requests, %v", r.BytesIn, requests, r.Corruptions)
	}
	for _, tp := range r.Topics {
		if tp.Name == "kept" && tp.BytesIn != writers*each {
			t.Errorf("kept has %d", tp.BytesIn)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	s := New()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Request(0, 0, 100, 50, time.Millisecond, 2*time.Millisecond)
		}
	})
}
