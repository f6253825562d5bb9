package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/stats"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a cluster of one broker that grows by ten messages a pass.
type fixed struct {
	mu  sync.Mutex
	end int64
	err error
}

func (f *fixed) Pass(context.Context) (*cluster.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.end += 10
	return &cluster.State{
		Committed: time.Now(), Ended: time.Now(), ClusterID: "the-cluster",
		Brokers: []cluster.Broker{{ID: 7}},
		Topics: []cluster.Topic{{Name: "orders", Partitions: []cluster.Partition{
			{ID: 0, Leader: 7, Replicas: []int32{7}, ISR: []int32{7}, Start: 0, End: f.end}}}},
		GroupsKnown: true,
		Groups: []cluster.Group{{Name: "bill", Members: 1, Known: true,
			Commits: []cluster.Commit{{Topic: "orders", Offset: 4}}}},
		LogDirs: []cluster.LogDirs{{Broker: 7, Dirs: []cluster.LogDir{{Path: "/d",
			Replicas: []cluster.Replica{{Topic: "orders", Bytes: 1000}}}}}},
	}, nil
}

type taker struct {
	name  string
	order *[]string
	mu    sync.Mutex
	all   []*metric.Snapshot
	do    func(ctx context.Context, n int)
}

func (t *taker) Receive(ctx context.Context, s *metric.Snapshot) {
	t.mu.Lock()
	t.all = append(t.all, s)
	n := len(t.all)
	if t.order != nil {
		*t.order = append(*t.order, t.name)
	}
	t.mu.Unlock()
	if t.do != nil {
		t.do(ctx, n)
	}
}

func (t *taker) part() Part { return Part{Name: t.name, Receiver: t} }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// watch runs an agent in a bubble for d.
func watch(t *testing.T, o Options, d time.Duration) *Agent {
	t.Helper()
	o.Logger = quiet()
	if o.Passer == nil {
		o.Passer = &fixed{}
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	time.Sleep(d) // the bubble's clock
	cancel()
	if err := <-over; err != nil {
		t.Errorf("Run gave %v", err)
	}
	return a
}

// TestRoad follows the samples from broker, cluster and machine to all receivers
// and holds every one of them against the catalogue.
func TestRoad(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		broker := stats.New()
		broker.Topic("orders").BytesIn.Add(600)
		broker.Listener("PLAINTEXT", false).Connections.Add(3)
		broker.DirOnline(dir, true)
		broker.Corruption("segment")
		var order []string
		made := func(name string) Part { return (&taker{name: name, order: &order}).part() }
		last := &taker{name: "exporter", order: &order}
		last.do = func(_ context.Context, n int) {
			broker.Topic("orders").BytesIn.Add(600)
			broker.Request(0, 0, 1, 1, time.Millisecond, 3*time.Millisecond)
		}
		watch(t, Options{
			Broker: "7", Statistics: broker, Host: true, DataDirs: []string{dir},
			History: made("history"), Guard: made("guard"), Alarm: made("alarm"),
			Exporters: []Part{last.part()},
			Sources: []Source{{Name: "rules", Samples: func() []metric.Sample {
				return []metric.Sample{{ID: metric.RuleReloadFailures, Labels: metric.Labels(metric.LabelBroker, "7")}}
			}}},
		}, 2*time.Minute+time.Second)
		if !slices.Equal(order[:4], []string{"history", "guard", "alarm", "exporter"}) {
			t.Errorf("receivers came in order %v", order)
		}
		if len(last.all) != 2 {
			t.Fatalf("%d snapshots, want 2", len(last.all))
		}
		s := last.all[1]
		if s.InstanceID != "the-cluster" {
			t.Errorf("instance ID is %q", s.InstanceID)
		}
		holdAgainstCatalog(t, s)
		for id, want := range map[metric.ID]float64{
			metric.BrokerAlive: 1, metric.BrokerConnections: 3, metric.BrokerBytesInRate: 10, metric.TopicBytesInRate: 10,
			metric.BrokerProduceMean: 3, metric.TopicMessagesInRate: 10.0 / 60, metric.GroupMsgs: 26, metric.CurrentTopics: 1,
			metric.BrokerDataSize: 1000, metric.Corruptions: 1, metric.AgentUp: 1, metric.RuleReloadFailures: 0,
		} {
			got := s.Of(id)
			if len(got) != 1 || got[0].Value != want {
				t.Errorf("%s is %v, want %v", id, got, want)
			}
		}
		for _, id := range []metric.ID{metric.BrokerDiskUsage, metric.BrokerMemoryUsage, metric.BrokerHeapUsage, metric.BrokerCPUCoreLoad} {
			if got := s.Of(id); len(got) != 1 || got[0].Value < 0 || id != metric.BrokerCPUCoreLoad && got[0].Value > 100 {
				t.Errorf("%s is %v", id, got)
			}
		}
	})
}

func holdAgainstCatalog(t *testing.T, s *metric.Snapshot) {
	t.Helper()
	for _, sample := range s.Samples {
		if err := metric.Fits(sample); err != nil {
			t.Error(err)
		}
	}
}

// TestLiveInCatalog: what the broker's statistics show is what the catalogue says.
func TestLiveInCatalog(t *testing.T) {
	broker := stats.New()
	tp := broker.Topic("orders")
	tp.BytesIn.Add(1)
	broker.Request(0, 3, 1, 1, 1, 1)
	broker.Listener("PLAINTEXT", false)
	broker.Flush(1, nil)
	broker.DeletedBytes("retention", 1)
	var text bytes.Buffer
	broker.WriteMetrics(&text)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	shown, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	gathered, err := broker.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range gathered {
		shown[f.GetName()] = f
	}
	for name, f := range shown {
		row, ok := metric.Lookup(metric.ID(name))
		labels := []string{metric.LabelBroker} // the exporter puts it in
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		if !ok || !row.Live || f.GetHelp() != row.Help || !slices.Equal(labels, row.Labels) ||
			(f.GetType().String() == "COUNTER") != row.Counter || (f.GetType().String() == "HISTOGRAM") != row.Histogram {
			t.Errorf("%s %v %q %v is %+v in the catalogue", name, f.GetType(), f.GetHelp(), labels, row)
		}
	}
	for _, row := range metric.Catalog() {
		if row.Live && shown[string(row.ID)] == nil {
			t.Errorf("%s is in the catalogue and nowhere shown", row.ID)
		}
	}
}

// TestSidecar: no broker in this process; what protocol tells is there, nothing else.
func TestSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &fixed{}
		last := &taker{name: "exporter"}
		last.do = func(_ context.Context, n int) {
			if n == 1 {
				far.mu.Lock()
				far.err = cluster.ErrUnreachable
				far.mu.Unlock()
			}
		}
		watch(t, Options{Passer: far, Exporters: []Part{last.part()}}, 3*time.Minute+time.Second)
		s := last.all[0]
		for _, sample := range s.Samples {
			for _, l := range sample.Labels {
				if l.Value == "" {
					t.Errorf("%v has an empty label", sample)
				}
			}
		}
		if got := s.Of(metric.BrokerDataSize); len(got) != 1 || got[0].Label(metric.LabelBroker) != "7" {
			t.Errorf("data size is %v", got)
		}
		if len(s.Of(metric.BrokerConnections))+len(s.Of(metric.BrokerMemoryUsage))+len(s.Of(metric.TopicBytesInRate)) > 0 {
			t.Error("a sidecar tells what it cannot know")
		}
		if got := s.Of(metric.BrokerAlive); len(got) != 1 || got[0].Value != 1 {
			t.Errorf("broker_alive is %v", got)
		}
		if got := last.all[1].Of(metric.BrokerAlive); len(got) != 1 || got[0].Value != 1 {
			t.Errorf("broker_alive after one pass that failed is %v", got)
		}
		gone := last.all[2]
		if got := gone.Of(metric.BrokerAlive); len(got) != 1 || got[0].Value != 0 {
			t.Errorf("broker_alive of a cluster that went away is %v", got)
		}
		if len(gone.Of(metric.CurrentTopics))+len(gone.Of(metric.MessagesRemained)) > 0 {
			t.Error("ghosts of a cluster that went away")
		}
	})
}

// TestBadReceivers: one that panics and one that hangs cost the others nothing.
func TestBadReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mad := &taker{name: "mad", do: func(_ context.Context, n int) {
			if n < 3 {
				panic("BUG: mad")
			}
		}}
		deaf := &taker{name: "deaf", do: func(_ context.Context, n int) {
			if n == 1 {
				time.Sleep(100 * time.Second)
			}
		}}
		fine := &taker{name: "fine"}
		watch(t, Options{Broker: "7", History: mad.part(), Guard: deaf.part(), Exporters: []Part{fine.part()}}, 4*time.Minute+10*time.Second)
		if len(fine.all) != 4 || len(mad.all) != 4 || len(deaf.all) != 3 {
			t.Fatalf("fine got %d, mad %d, deaf %d snapshots; want 4, 4, 3", len(fine.all), len(mad.all), len(deaf.all))
		}
		value := func(id metric.ID, name string) float64 {
			for _, s := range fine.all[3].Of(id) {
				if s.Label(metric.LabelPart) == name {
					return s.Value
				}
			}
			return -1
		}
		if got := value(metric.PartRestarts, "mad"); got != 2 {
			t.Errorf("%v failures counted, want 2", got)
		}
		if got := value(metric.PartSkips, "deaf"); got != 1 {
			t.Errorf("%v skips counted, want 1", got)
		}
		for i, s := range fine.all {
			if s.Missed != 0 {
				t.Errorf("snapshot %d missed %d ticks", i, s.Missed)
			}
		}
	})
}

// TestBackOff: a part that fails is started again, later each time.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var at []time.Duration
		bad := Part{Name: "bad", Runner: runner(func(context.Context) error {
			at = append(at, time.Since(begun))
			if len(at)%2 == 0 {
				panic("BUG: bad")
			}
			return errors.New("broken")
		})}
		watch(t, Options{Alarm: bad}, 20*time.Second)
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("started at %v, want %v", at, want)
		}
	})
}

// TestOrderOfEnds: who tells on ends after who tells.
func TestOrderOfEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		made := func(name string, last time.Duration) Part {
			return Part{Name: name, Runner: runner(func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(last)
				order = append(order, name)
				return nil
			}), Receiver: receiver(func(context.Context, *metric.Snapshot) {})}
		}
		watch(t, Options{History: made("history", 3*time.Second), Alarm: made("alarm", 2*time.Second),
			Exporters: []Part{made("notify", time.Second), made("exporter", 0)}}, 90*time.Second)
		if !slices.Equal(order, []string{"history", "alarm", "notify", "exporter"}) {
			t.Errorf("ended in the order %v", order)
		}
	})
}

func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := watch(t, Options{}, 90*time.Second)
		if why := a.Stalled(); why != nil {
			t.Errorf("stalled: %v", why)
		}
		time.Sleep(4 * time.Minute)
		if why := a.Stalled(); len(why) != 1 || !strings.Contains(why[0], "no snapshot") {
			t.Errorf("after four silent minutes: %v", why)
		}
	})
}

func TestRefusedOptions(t *testing.T) {
	log, passer := quiet(), &fixed{}
	two := (&taker{name: "same"}).part()
	for name, o := range map[string]Options{
		"no logger":     {Passer: passer},
		"no cluster":    {Logger: log},
		"no broker ID":  {Logger: log, Passer: passer, Statistics: stats.New()},
		"same names":    {Logger: log, Passer: passer, History: two, Guard: two},
		"no name":       {Logger: log, Passer: passer, History: (&taker{}).part()},
		"short period":  {Logger: log, Passer: passer, Period: time.Millisecond},
		"source's name": {Logger: log, Passer: passer, Sources: []Source{{Name: "cluster"}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
