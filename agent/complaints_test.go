package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/collect"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/broker/stats"
	exporter "github.com/belfry-mq/belfry/exporters/prometheus"
)

// TestComplaints lists what users of today's tools complain about, and the rules that go with
// the documented set, and where each is tested: a file and a line of it.
func TestComplaints(t *testing.T) {
	for _, c := range []struct{ complaint, file, line string }{
		// What users of today's tools complain about.
		{"negative lag", "cluster/pass_test.go", "func TestCommitsBeforeEnds("},
		{"negative lag: a log that was cut", "collect/testdata/lag.txt", "# A commit past the end (a cut log) is lag 0, never negative, and is counted."},
		{"negative anything on a real node", "../cmd/belfry/truth/truth_test.go", "func (w *world) always("},
		{"lag that vanishes when members leave", "collect/testdata/lag.txt", "# Lag does not vanish when the members leave."},
		{"lag that vanishes, on a real node", "../cmd/belfry/truth/truth_test.go", "a lag that stays though all members have left"},
		{"ghosts of deleted groups and topics", "collect/testdata/names.txt", "# What is deleted is gone from the next sample"},
		{"ghosts on a real node, live series too", "../cmd/belfry/truth/truth_test.go", "func (w *world) ghosts("},
		{"ghosts of a cluster that went away", "agent_test.go", "func TestSidecar("},
		{"a leak that grows each scrape", "complaints_test.go", "func TestAThousandScrapesLeaveNothingBehind("},
		{"a leak that grows with what comes and goes", "collect/cluster_test.go", "func TestNoLeak("},
		{"time-outs at 10 000 partitions: reading", "cluster/pass_test.go", "func TestTenThousandPartitions("},
		{"time-outs at 10 000 partitions: reckoning and showing", "complaints_test.go", "func TestTenThousandPartitions("},
		{"cardinality without a way to limit it", "collect/testdata/limit.txt", "# Too many series: those of single partitions go"},
		{"lag in seconds missing or wrong", "collect/testdata/lagtime.txt", "# Lag in time: when did the next message to consume come in?"},
		{"no committed offset shown as huge lag", "collect/testdata/lag.txt", "# one with members and no commits has no lag"},
		{"false errors at low traffic: no request, no mean", "collect/broker_test.go", "func TestBroker("},
		{"false errors at low traffic: no I/O, no await", "collect/machine_test.go", "func TestAwaits("},
		{"false death of a slow broker", "alive_test.go", "func TestSlowIsNotDead("},
		{"false life of a broker that refuses", "collect/patience_test.go", "func TestASlowBrokerIsNotADeadOne("},
		{"false resolve and flapping when data is missing", "alarm/testdata/nodata.txt", "# Three absent periods are no-data; an alarm stays firing"},
		{"flapping of what cannot be read", "collect/testdata/missing.txt", "# A missing reading is absent, and so is every sum it belongs to."},
		{"duplicate pages", "notify/engine_test.go", "func TestARestartRepeatsAndLosesNothing("},
		{"dead and never-firing rules", "alarm/evaluator_test.go", "func TestBuiltInRulesFitTheCatalogue("},
		{"latching rules", "alarm/testdata/states.txt", "# N bad periods in a row make an alarm, one good one ends it."},
		{"self-healing done twice or lost", "guard/guard_test.go", "func TestRestartInTheBandKeepsTheRefusal("},
		{"timestamps on cached samples", "../exporters/prometheus/exporter_test.go", "func TestOldSnapshotEnds("},
		{"timestamps on any sample of a real node", "../cmd/belfry/truth/truth_test.go", "has a time stamp"},

		// Rules that go with the set.
		{"cluster-wide series from exactly one node", "collect/testdata/once.txt", "# Three brokers, this one is 1: cluster-wide series come from one node"},
		{"another takes over within one period", "collect/testdata/once.txt", "# The node that emitted died: this one takes over at once"},
		{"internal names are left out by default", "collect/testdata/names.txt", "# Internal names are left out by default"},
		{"include_internal shows them", "../cmd/belfry/truth/truth_test.go", "func (w *world) internal("},
		{"no commit and no member: no series", "collect/testdata/lag.txt", "# A group that never committed and has no member has no series"},
		{"a broker that cannot be reached is absent, not 0", "cluster/pass_test.go", "func TestErrorsAreUnknown("},
		{"a disk statistic that the kernel does not give is absent", "collect/machine_test.go", "func TestDevices("},
		{"committed offsets are read before end offsets", "cluster/pass_test.go", "func TestCommitsBeforeEnds("},
		{"rates over the true elapsed time", "collect/testdata/rates.txt", "# After a break the rate is over both periods"},
		{"no negative or huge rate after a restart", "truth_test.go", "func TestSidecarOverRestart("},
		{"a dead broker is reported by the others", "collect/testdata/alive.txt", "# Of another broker the cluster's word is enough"},
		{"everything else under our own prefix, well formed", "../cmd/belfry/truth/truth_test.go", "func (w *world) linted("},
	} {
		text, err := os.ReadFile(filepath.FromSlash(c.file))
		if err != nil {
			t.Errorf("%s: %v", c.complaint, err)
			continue
		}
		if !strings.Contains(string(text), c.line) {
			t.Errorf("%s: %s has no %q any more", c.complaint, c.file, c.line)
		}
	}
}

// crowd is a cluster of n partitions in topics of ten, each consumed by some groups.
type crowd struct{ state *cluster.State }

func newCrowd(n, groups int) crowd {
	s := &cluster.State{ClusterID: "the-cluster", GroupsKnown: true, Brokers: []cluster.Broker{{ID: 7}}, LogDirs: []cluster.LogDirs{{Broker: 7}}}
	for i := range n / 10 {
		tp := cluster.Topic{Name: fmt.Sprintf("topic-%05d", i)}
		for p := range int32(10) {
			tp.Partitions = append(tp.Partitions, cluster.Partition{ID: p, Leader: 7, Replicas: []int32{7}, ISR: []int32{7}, End: 100})
		}
		s.Topics = append(s.Topics, tp)
	}
	for i := range groups {
		g := cluster.Group{Name: fmt.Sprintf("group-%03d", i), Known: true}
		for _, tp := range s.Topics {
			for p := range int32(10) {
				g.Commits = append(g.Commits, cluster.Commit{Topic: tp.Name, Partition: p, Offset: 40})
			}
		}
		s.Groups = append(s.Groups, g)
	}
	return crowd{s}
}

// Pass gives the same state as of now.
func (c crowd) Pass(context.Context) (*cluster.State, error) {
	s := *c.state
	s.Committed, s.Ended = time.Now(), time.Now()
	return &s, nil
}

// scraped is the road of a sample without its clock: collectors, snapshot, page.
type scraped struct {
	t          *testing.T
	collectors []sampler.Collector
	show       *exporter.Exporter
}

func newScraped(t *testing.T, c crowd) *scraped {
	broker := stats.New()
	for _, tp := range c.state.Topics {
		broker.Topic(tp.Name).BytesIn.Add(100)
	}
	broker.Request(0, 0, 1, 1, 1, 1)
	show, err := exporter.New(exporter.Options{
		InstanceID: func() string { return "the-cluster" }, Broker: "7", Logger: quiet(),
		Writers:   []func(io.Writer){broker.WriteMetrics},
		Gatherers: []prometheus.Gatherer{broker.Gatherer()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &scraped{t: t, show: show, collectors: []sampler.Collector{
		collect.NewCluster(collect.ClusterOptions{Passer: c, Broker: "7", Statistics: broker}),
		collect.NewBroker("7", broker), collect.NewHost("7"), collect.NewRuntime("7"), collect.NewProcess("7"),
	}}
}

// tick makes a snapshot and hands it on.
func (s *scraped) tick() {
	s.t.Helper()
	snap := &metric.Snapshot{InstanceID: "the-cluster", Start: time.Now(), End: time.Now().Add(time.Minute), Elapsed: time.Minute}
	for _, c := range s.collectors {
		samples, err := c.Collect(s.t.Context(), sampler.Period{Elapsed: time.Minute})
		if err != nil {
			s.t.Fatal(err)
		}
		snap.Samples = append(snap.Samples, samples...)
	}
	snap.Samples, _ = metric.Arrange(snap.Samples)
	s.show.Receive(s.t.Context(), snap)
}

// TestAThousandScrapesLeaveNothingBehind: neither memory nor goroutines grow with scrapes and
// periods.
func TestAThousandScrapesLeaveNothingBehind(t *testing.T) {
	s := newScraped(t, newCrowd(200, 2))
	server := httptest.NewServer(Handler(Endpoints{Metrics: s.show}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	round := func(n int) {
		for i := range n {
			if i%5 == 0 {
				s.tick()
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
			}
			r, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			size, err := io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if err != nil || size < 100_000 || r.StatusCode != http.StatusOK {
				t.Fatalf("%d with %d bytes, %v", r.StatusCode, size, err)
			}
		}
	}
	// connections end a moment after their last byte: the least of a while counts
	settled := func() (heap, goroutines int) {
		heap, goroutines = 1<<62, 1<<62
		for range 20 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap, goroutines = min(heap, int(m.HeapAlloc)), min(goroutines, runtime.NumGoroutine())
			<-time.After(5 * time.Millisecond)
		}
		return heap, goroutines
	}
	round(150) // more than any ring or pool needs to be full
	heap, goroutines := settled()
	round(1000)
	heapAfter, goroutinesAfter := settled()
	if goroutinesAfter > goroutines+2 {
		t.Errorf("%d goroutines became %d", goroutines, goroutinesAfter)
	}
	if heapAfter > heap+512<<10 {
		t.Errorf("%d bytes of heap became %d", heap, heapAfter)
	}
}

// TestTenThousandPartitions: a period of 10 000 partitions with three groups on each is
// reckoned and shown well within it, even on a busy machine.
func TestTenThousandPartitions(t *testing.T) {
	s := newScraped(t, newCrowd(10_000, 3))
	begun := time.Now()
	s.tick()
	w := httptest.NewRecorder()
	Handler(Endpoints{Metrics: s.show}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	took := time.Since(begun)
	if n := strings.Count(w.Body.String(), "\nmessages_remained{"); n != 30_000 {
		t.Errorf("%d series of lag, want 30 000", n)
	}
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	t.Logf("%d kB in %v", w.Body.Len()>>10, took)
}
