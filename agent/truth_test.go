package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/brokertest"
	exporter "github.com/belfry-mq/belfry/exporters/prometheus"
)

// ledger keeps all snapshots, so that rates can be added up again.
type ledger struct {
	mu  sync.Mutex
	all []*metric.Snapshot
}

func (l *ledger) Receive(_ context.Context, s *metric.Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

func (l *ledger) snapshots() []*metric.Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *ledger) last() *metric.Snapshot {
	all := l.snapshots()
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// total adds up a rate over all periods: what it must give is what was moved.
func (l *ledger) total(id metric.ID, labels ...string) float64 {
	var sum float64
	for _, s := range l.snapshots() {
		if v, ok := value(s, id, labels...); ok {
			sum += v * s.Elapsed.Seconds()
		}
	}
	return sum
}

func value(s *metric.Snapshot, id metric.ID, labels ...string) (float64, bool) {
	for _, x := range s.Of(id) {
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && x.Label(labels[i]) == labels[i+1]
		}
		if match {
			return x.Value, true
		}
	}
	return 0, false
}

const (
	instance  = metric.LabelInstance
	onBroker  = metric.LabelBroker
	onTopic   = metric.LabelTopic
	partition = metric.LabelPartition
	onGroup   = metric.LabelGroup
)

// world is a broker with its agent, and what clients did to it.
type world struct {
	t      *testing.T
	node   *brokertest.Broker
	ledger *ledger
	show   *exporter.Exporter
	admin  *kadm.Client
	client *kgo.Client
	open   atomic.Int64 // connections of clients
}

// OnBrokerConnect and OnBrokerDisconnect count what clients opened.
func (w *world) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		w.open.Add(1)
	}
}

func (w *world) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { w.open.Add(-1) }

func build(t *testing.T) *world {
	w := &world{t: t, node: brokertest.Start(t), ledger: &ledger{}}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	id := fmt.Sprint(w.node.Node())
	var err error
	w.show, err = exporter.New(exporter.Options{
		InstanceID: w.node.ClusterID, Broker: id, Logger: log,
		Writers:   []func(io.Writer){w.node.Stats().WriteMetrics},
		Gatherers: []prometheus.Gatherer{w.node.Stats().Gatherer()},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{
		Logger: log, Period: time.Second, Deadline: time.Second, Broker: id, InstanceID: w.node.ClusterID,
		Statistics: w.node.Stats(), Host: true, DataDirs: []string{w.node.DataDir()},
		StorageCapacity: func() int64 { return 64 << 20 },
		Cluster: cluster.Options{Seeds: []string{w.node.Addr()}, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return w.node.Dial(ctx) // the agent is no client
		}},
		History:   agent.Part{Name: "ledger", Receiver: w.ledger},
		Exporters: []agent.Part{{Name: "prometheus", Receiver: w.show}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.node.Addr()), kgo.WithHooks(w), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	w.admin = kadm.NewClient(w.client)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// create makes a topic with one replica.
func (w *world) create(name string, partitions int32) {
	w.t.Helper()
	_, err := w.admin.CreateTopic(w.t.Context(), partitions, 1, nil, name)
	w.must(err)
}

func (w *world) produce(topic string, partition int32, n int) {
	w.t.Helper()
	var all []*kgo.Record
	for range n {
		all = append(all, &kgo.Record{Topic: topic, Partition: partition, Value: make([]byte, 500)})
	}
	w.must(w.client.ProduceSync(w.t.Context(), all...).FirstErr())
}

// consume reads n records of a topic from the start.
func (w *world) consume(topic string, n int) {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.node.Addr()), kgo.WithHooks(w), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	w.must(err)
	defer c.Close()
	for got := 0; got < n; {
		f := c.PollFetches(w.t.Context())
		w.must(f.Err())
		got += f.NumRecords()
	}
}

func (w *world) commit(group, topic string, partition int32, offset int64) {
	w.t.Helper()
	var o kadm.Offsets
	o.AddOffset(topic, partition, offset, -1)
	w.must(w.admin.CommitAllOffsets(w.t.Context(), group, o))
}

// logBytes sums the log files of the topic's partitions on disk, by length of
// what is in them.
func (w *world) logBytes() int64 {
	w.t.Helper()
	var sum int64
	dirs, err := w.admin.DescribeAllLogDirs(w.t.Context(), nil)
	w.must(err)
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) { sum += p.Size })
	})
	var onDisk int64
	w.must(filepath.WalkDir(w.node.DataDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") {
			return err
		}
		info, err := d.Info()
		onDisk += info.Size()
		return err
	}))
	if sum > onDisk {
		w.t.Errorf("the broker tells %d bytes of logs, there are %d on disk", sum, onDisk)
	}
	return sum
}

// truth is what one series must be.
type truth struct {
	id     metric.ID
	want   float64
	labels []string
}

// truths follow from what TestTruth does.
func truths(id string) []truth {
	return []truth{
		{metric.CurrentTopics, 2, nil}, {metric.CurrentPartitions, 3, nil}, {metric.GroupMsgs, 180, nil},
		{metric.BrokerAlive, 1, []string{onBroker, id}},
		{metric.TopicMessages, 370, []string{onTopic, "orders"}},
		{metric.PartitionMessages, 300, []string{onTopic, "orders", partition, "0"}},
		{metric.PartitionMessages, 70, []string{onTopic, "orders", partition, "1"}},
		{metric.ProducedMessages, 300, []string{onTopic, "orders", partition, "0"}},
		{metric.ProducedMessages, 100, []string{onTopic, "orders", partition, "1"}},
		{metric.MessagesConsumed, 120, []string{onGroup, "bill", onTopic, "orders", partition, "0"}},
		{metric.MessagesRemained, 180, []string{onGroup, "bill", onTopic, "orders", partition, "0"}},
		{metric.MessagesRemained, 0, []string{onGroup, "bill", onTopic, "orders", partition, "1"}},
		{metric.MessagesRemained, 0, []string{onGroup, "mail", onTopic, "orders", partition, "0"}},
		{metric.TopicMessagesConsumed, 220, []string{onGroup, "bill", onTopic, "orders"}},
		{metric.TopicMessagesRemained, 180, []string{onGroup, "bill", onTopic, "orders"}},
		{metric.ConsumerMessagesConsumed, 220, []string{onGroup, "bill"}},
		{metric.ConsumerMessagesRemained, 180, []string{onGroup, "bill"}},
		{metric.ConsumerMessagesRemained, 0, []string{onGroup, "mail"}},
		// rates: all over, idle again
		{metric.TopicMessagesInRate, 0, []string{onTopic, "orders"}},
		{metric.TopicBytesInRate, 0, []string{onTopic, "orders"}},
		{metric.BrokerMessagesInRate, 0, []string{onBroker, id}},
		{metric.BrokerBytesInRate, 0, []string{onBroker, id}},
		{metric.BrokerBytesOutRate, 0, []string{onBroker, id}},
		{metric.BrokerPublicBytesInRate, 0, []string{onBroker, id}},
		{metric.BrokerPublicBytesOutRate, 0, []string{onBroker, id}},
	}
}

// TestTruth compares every documented metric with what clients did.
func TestTruth(t *testing.T) {
	w := build(t)
	brokertest.Eventually(t, "first snapshot", func() bool { return w.ledger.last() != nil })
	w.create("orders", 2)
	w.create("_own", 1)
	w.produce("orders", 0, 300)
	w.produce("orders", 1, 100)
	w.produce("_own", 0, 50)
	w.consume("orders", 400)
	w.commit("bill", "orders", 0, 120)
	w.commit("bill", "orders", 1, 100)
	w.commit("mail", "orders", 0, 300)
	_, err := w.admin.DeleteRecords(t.Context(), kadm.Offsets{"orders": {1: kadm.Offset{Topic: "orders", Partition: 1, At: 30, LeaderEpoch: -1}}})
	w.must(err)

	id := fmt.Sprint(w.node.Node())
	settled := truths(id)
	var wrong string
	holds := func() bool {
		wrong = ""
		s := w.ledger.last()
		for _, c := range settled {
			if got, ok := value(s, c.id, c.labels...); !ok || got != c.want {
				wrong += fmt.Sprintf("%s%v is %v (%v), want %v\n", c.id, c.labels, got, ok, c.want)
			}
		}
		if got, ok := value(s, metric.BrokerConnections, onBroker, id); !ok || got != float64(w.open.Load()) {
			wrong += fmt.Sprintf("broker_connections is %v (%v), clients have %d\n", got, ok, w.open.Load())
		}
		return wrong == ""
	}
	deadline := time.Now().Add(15 * time.Second)
	for !holds() && time.Now().Before(deadline) {
		next(w)
	}
	if wrong != "" {
		t.Fatal(wrong)
	}
	w.totals(id)
	w.machine(id)
	w.hidden()
	w.scraped()
}

// next waits for one more snapshot.
func next(w *world) {
	w.t.Helper()
	old := w.ledger.last()
	brokertest.Eventually(w.t, "another snapshot", func() bool { return w.ledger.last() != old })
}

func (w *world) near(what string, got, want, tolerance float64) {
	w.t.Helper()
	if math.Abs(got-want) > want*tolerance {
		w.t.Errorf("%s adds up to %v, want about %v", what, got, want)
	}
}

// totals adds rates up over the whole time. Each collector divides by its own
// time between readings, a little off the snapshot's.
func (w *world) totals(id string) {
	w.t.Helper()
	for _, s := range w.ledger.last().Of(metric.CollectorTimeouts) {
		if s.Value > 0 {
			w.t.Logf("this machine is too busy to sample each second (%v): rates are not added up", s)
			return
		}
	}
	w.near("topic_messages_in_rate", w.ledger.total(metric.TopicMessagesInRate, onTopic, "orders"), 400, .1)
	w.near("broker_messages_in_rate", w.ledger.total(metric.BrokerMessagesInRate, onBroker, id), 450, .1)
	counted := w.node.Stats().Read()
	for _, tp := range counted.Topics {
		if tp.Name != "orders" {
			continue
		}
		if payload := uint64(400 * 500); tp.BytesIn < payload || tp.BytesIn > payload*5/4 || tp.BytesOut < tp.BytesIn {
			w.t.Errorf("bytes in %d, out %d; %d were sent and read", tp.BytesIn, tp.BytesOut, payload)
		}
		if got, ok := value(w.ledger.last(), metric.TopicDataSize, onTopic, "orders"); !ok || got != float64(tp.BytesIn) {
			w.t.Errorf("topic_data_size is %v, %v; %d bytes were produced", got, ok, tp.BytesIn)
		}
		w.near("topic_bytes_in_rate", w.ledger.total(metric.TopicBytesInRate, onTopic, "orders"), float64(tp.BytesIn), .1)
		w.near("topic_bytes_out_rate", w.ledger.total(metric.TopicBytesOutRate, onTopic, "orders"), float64(tp.BytesOut), .1)
	}
	w.near("broker_bytes_in_rate", w.ledger.total(metric.BrokerBytesInRate, onBroker, id), float64(counted.BytesIn), .1)
	w.near("broker_bytes_out_rate", w.ledger.total(metric.BrokerBytesOutRate, onBroker, id), float64(counted.BytesOut), .1)
	size := float64(w.logBytes())
	if got, ok := value(w.ledger.last(), metric.BrokerDataSize, onBroker, id); !ok || got != size {
		w.t.Errorf("broker_data_size is %v, %v; want %v", got, ok, size)
	}
	var produce, fetch bool
	for _, s := range w.ledger.snapshots() {
		p, ok := value(s, metric.BrokerProduceMean, onBroker, id)
		produce = produce || ok && p > 0 && p < 10000
		f, ok := value(s, metric.BrokerFetchMean, onBroker, id)
		fetch = fetch || ok && f > 0 && f < 10000
	}
	if !produce || !fetch {
		w.t.Errorf("means: produce %v, fetch %v", produce, fetch)
	}
}

func (w *world) machine(id string) {
	w.t.Helper()
	s := w.ledger.last()
	for _, c := range []struct {
		id       metric.ID
		min, max float64
	}{
		{metric.BrokerCPUCoreLoad, 0, 1000}, {metric.BrokerCPUUsage, 0, 100},
		{metric.BrokerMemoryUsage, 0.1, 100}, {metric.BrokerHeapUsage, 0, 100}, {metric.BrokerDiskUsage, 0.1, 100},
		{metric.BrokerTotalBytesInRate, 0, 1e12}, {metric.BrokerTotalBytesOutRate, 0, 1e12},
	} {
		if got, ok := value(s, c.id, onBroker, id); !ok || got < c.min || got > c.max {
			w.t.Errorf("%s is %v, %v", c.id, got, ok)
		}
	}
}

func (w *world) hidden() {
	w.t.Helper()
	for _, x := range w.ledger.last().Samples {
		if name := x.Label(onTopic); strings.HasPrefix(name, "_") {
			w.t.Errorf("%v shows an internal topic", x)
		}
		if err := metric.Fits(x); err != nil {
			w.t.Error(err)
		}
		if x.Value < 0 {
			w.t.Errorf("%v is negative", x)
		}
	}
}

// scraped looks at the same through the exporter, and lets a topic and a group go.
func (w *world) scraped() {
	w.t.Helper()
	families := w.scrape()
	w.linted()
	for _, name := range []string{"topic_messages", "messages_remained", "belfry_request_duration_seconds", "belfry_topic_in_bytes_total", "belfry_flush_duration_seconds"} {
		f := families[name]
		if f == nil {
			w.t.Errorf("%s is not shown", name)
			continue
		}
		id := ""
		for _, l := range f.Metric[0].Label {
			if l.GetName() == instance {
				id = l.GetValue()
			}
		}
		if id != w.node.ClusterID() {
			w.t.Errorf("%s is of instance %q", name, id)
		}
	}
	_, err := w.admin.DeleteTopics(w.t.Context(), "orders")
	w.must(err)
	_, err = w.admin.DeleteGroups(w.t.Context(), "mail")
	w.must(err)
	next(w)
	next(w)
	for name, f := range w.scrape() {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == onTopic && l.GetValue() == "orders" || l.GetName() == onGroup && l.GetValue() == "mail" {
					w.t.Errorf("a ghost: %s%v", name, m.Label)
				}
			}
		}
	}
}

// linted lets Prometheus' own linter look at all of our own metrics of a real node.
func (w *world) linted() {
	w.t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		w.t.Log("no promtool on this machine: only the parsers looked at the text")
		return
	}
	command := exec.Command(tool, "check", "metrics")
	var page bytes.Buffer
	w.must(w.show.Write(&page, expfmt.NewFormat(expfmt.TypeTextPlain)))
	command.Stdin = &page
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) { // 3: it does not like something
		w.t.Fatalf("promtool: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "belfry_") {
			w.t.Errorf("promtool: %s", line)
		}
	}
}

func (w *world) scrape() map[string]*dto.MetricFamily {
	w.t.Helper()
	rec := httptest.NewRecorder()
	agent.Handler(agent.Endpoints{Metrics: w.show}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	w.must(err)
	return families
}

// TestSidecarOverRestart watches a node from outside while it goes away and comes
// back: told dead, told alive, and no rate is negative or huge.
func TestSidecarOverRestart(t *testing.T) {
	w := &world{t: t, node: brokertest.Start(t), ledger: &ledger{}}
	a, err := agent.New(agent.Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Period: time.Second, Deadline: time.Second,
		Cluster: cluster.Options{Seeds: []string{w.node.Addr()}},
		Alarm:   agent.Part{Name: "ledger", Receiver: w.ledger},
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	defer func() {
		cancel()
		w.must(<-over)
	}()
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.node.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.must(err)
	defer w.client.Close()
	w.admin = kadm.NewClient(w.client)
	w.create("orders", 1)
	w.produce("orders", 0, 500)

	alive := func(want float64) func() bool {
		return func() bool {
			got, ok := value(w.ledger.last(), metric.BrokerAlive)
			return ok && got == want
		}
	}
	produced := func(want float64) func() bool {
		return func() bool {
			got, ok := value(w.ledger.last(), metric.ProducedMessages, onTopic, "orders")
			return ok && got == want
		}
	}
	brokertest.Eventually(t, "500 messages", produced(500))
	w.node.Restart(func() { brokertest.Eventually(t, "a dead broker", alive(0)) }, nil)
	brokertest.Eventually(t, "a broker back to life", alive(1))
	w.produce("orders", 0, 100)
	brokertest.Eventually(t, "600 messages", produced(600))
	for _, s := range w.ledger.snapshots() {
		if s.InstanceID != "" && s.InstanceID != w.node.ClusterID() {
			t.Errorf("instance %q, the cluster is %q", s.InstanceID, w.node.ClusterID())
		}
		for _, x := range s.Samples {
			if err := metric.Fits(x); err != nil {
				t.Error(err)
			}
			if x.Value < 0 || x.ID == metric.TopicMessagesInRate && x.Value*s.Elapsed.Seconds() > 900 {
				t.Errorf("%v over the restart", x)
			}
			if x.ID == metric.BrokerConnections || x.ID == metric.BrokerDiskUsage {
				t.Errorf("a sidecar tells what it cannot know: %v", x)
			}
		}
	}
}
