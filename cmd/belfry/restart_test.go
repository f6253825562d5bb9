package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/outage"
	"github.com/belfry-mq/belfry/cmd/belfry/ledger"
	"github.com/belfry-mq/belfry/cmd/belfry/local"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// home is a cluster of `belfry local` in a directory of its own.
type home struct {
	t        *testing.T
	bin, dir string
}

func newHome(t *testing.T, args ...string) *home {
	h := &home{t: t, bin: nodetest.Binary(t), dir: filepath.Join(t.TempDir(), "cluster")}
	t.Cleanup(func() {
		if t.Failed() {
			for _, s := range h.status() {
				out, err := os.ReadFile(s.Log)
				t.Logf("node %d, %v:\n%s", s.ID, err, out[max(0, len(out)-5000):])
			}
		}
		h.local("down", "--delete")
	})
	h.local(append([]string{"up"}, args...)...)
	return h
}

// local runs `belfry local`, which has to work.
func (h *home) local(args ...string) string {
	h.t.Helper()
	var errOut bytes.Buffer
	cmd := exec.Command(h.bin, append(append([]string{"local"}, args...), "--dir", h.dir)...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("belfry local %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut.String())
	}
	return string(out)
}

func (h *home) status() (states []local.State) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.local("status", "-o", "json")), &states); err != nil {
		h.t.Fatal(err)
	}
	return states
}

func (h *home) seeds() (at []string) {
	for _, s := range h.status() {
		at = append(at, s.Kafka)
	}
	return at
}

func (h *home) pids() (ids []int) {
	for _, s := range h.status() {
		ids = append(ids, s.PID)
	}
	return ids
}

// belfry runs a command on the cluster.
func (h *home) belfry(args ...string) (code int, out string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var b bytes.Buffer
	code = run(ctx, append(args, "--bootstrap-server", strings.Join(h.seeds(), ",")), strings.NewReader(""), &b, &b)
	return code, b.String()
}

// pauses has one producer for each partition, which sends the next message when the one
// before is acknowledged, and keeps the longest time between two acknowledgements.
type pauses struct {
	mu      sync.Mutex
	longest map[int32]time.Duration
	failed  []error
	acked   int
}

func (p *pauses) produce(ctx context.Context, seeds []string, topic string, partition int32) {
	c, err := ledger.Client(seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		p.failed = append(p.failed, err)
		return
	}
	defer c.Close()
	last := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		err := c.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: []byte("pause")}).FirstErr()
		now := time.Now()
		p.mu.Lock()
		switch {
		case err == nil && n > 0:
			p.longest[partition] = max(p.longest[partition], now.Sub(last))
			p.acked++
		case err != nil && ctx.Err() == nil:
			p.failed = append(p.failed, err)
		}
		p.mu.Unlock()
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// measure runs it for some partitions while work does something.
func measure(ctx context.Context, seeds []string, topic string, partitions int32, work func()) *pauses {
	p := &pauses{longest: map[int32]time.Duration{}}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for n := range partitions {
		wg.Go(func() { p.produce(ctx, seeds, topic, n) })
	}
	work()
	cancel()
	wg.Wait()
	return p
}

// TestRollingRestartUnderLoad restarts a cluster of three processes while messages are
// produced with acks=all and min.insync.replicas=2: no produce fails, nothing is lost or
// written twice. Then one node is dead: nothing is safe to stop, and says why.
func TestRollingRestartUnderLoad(t *testing.T) {
	h := newHome(t, "--brokers", "3")
	const partitions = 6
	for _, topic := range []string{"orders", "pulse"} {
		if code, out := h.belfry("topic", "create", topic, "--partitions", fmt.Sprint(partitions), "--replicas", "3", "--set", "min.insync.replicas=2"); code != exitOK {
			t.Fatal(out)
		}
	}
	seeds, before := h.seeds(), h.pids()
	book := ledger.New(ledger.Options{Topic: "orders", Partitions: partitions})
	book.Promise("idem", ledger.Exact)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { book.Produce(ctx, seeds, "idem", 500) })

	var code int
	var out string
	p := measure(t.Context(), seeds, "pulse", partitions, func() {
		code, out = h.belfry("cluster", "restart", "--with", fmt.Sprintf("'%s' local restart {id} --dir '%s'", h.bin, h.dir), "--limit", "40s", "--progress", filepath.Join(t.TempDir(), "progress.json"))
	})
	cancel()
	load.Wait()
	t.Logf("exit code %d, %d acknowledgements, longest pauses %v\n%s", code, p.acked, p.longest, out)
	if code != exitOK || !strings.Contains(out, "all brokers were restarted") {
		t.Fatal("the restart failed")
	}
	for _, err := range p.failed {
		t.Errorf("a produce failed: %v", err)
	}
	for i, pid := range h.pids() {
		if pid == before[i] {
			t.Errorf("node %d was not restarted", i+1)
		}
	}
	if book.Count() == 0 {
		t.Error("nothing was produced")
	}
	if _, err := book.Verify(t.Context(), seeds, "afterwards"); err != nil {
		t.Error(err)
	}
	for _, f := range book.Findings() {
		t.Errorf("%s: %s", f.Kind, f.Text)
	}
	if code, out := h.belfry("cluster", "safe-to-stop"); code != exitOK || strings.Count(out, "yes") != 3 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	h.oneIsDead()
}

// oneIsDead kills node 2 and asks about node 1.
func (h *home) oneIsDead() {
	t := h.t
	h.local("kill", "2")
	why := []outage.Kind{outage.Quorum, outage.UnderMinISR, outage.BrokerDown, outage.NotInSync}
	kinds := func(v outage.Verdict) (all []outage.Kind) {
		for _, r := range v.Reasons {
			all = append(all, r.Kind)
		}
		return all
	}
	// Why asked again: the dead one may have been the controller, and nobody knows it is dead at once.
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !holds(); <-time.After(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	var code int
	var out string
	until("the command does not say why node 1 must not be stopped", func() bool {
		code, out = h.belfry("cluster", "safe-to-stop", "--broker", "1", "-o", "json")
		var vs []outage.Verdict
		body, _, _ := strings.Cut(out, "\nbelfry: ")
		return code == exitFailed && json.Unmarshal([]byte(body), &vs) == nil && len(vs) == 1 && slices.Equal(kinds(vs[0]), why)
	})
	at := h.status()[0].Metrics
	until("node 1 does not say why it must not be stopped", func() bool {
		status, v := h.page(at, "")
		return status == http.StatusServiceUnavailable && v.Broker == 1 && !v.Safe && slices.Equal(kinds(v), why)
	})
	until("node 1 does not say that the dead one may be stopped", func() bool {
		status, v := h.page(at, "?broker=2")
		return status == http.StatusOK && v.Broker == 2 && v.Safe && len(v.Notes) == 1
	})
	// The dead one is to be started first; as it does not come back, no other is touched.
	before := h.pids()
	code, out = h.belfry("cluster", "restart", "--with", "true", "--limit", "1s", "--progress", filepath.Join(t.TempDir(), "progress.json"))
	if code != exitFailed || !strings.Contains(out, "broker 2 is not back within 1s") || !strings.Contains(out, "Restarted are: none") || !slices.Equal(before, h.pids()) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// page asks a node over HTTP.
func (h *home) page(at, query string) (status int, v outage.Verdict) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+at+"/safe-to-stop"+query, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, v
}

// TestDifferentFilesAreTold: a setting that must be the same everywhere is not: the logs,
// the command and the metric say so.
func TestDifferentFilesAreTold(t *testing.T) {
	c := nodetest.Form(t, 3, func(id int) nodetest.Options {
		settings := map[string]string{"controlled.shutdown.timeout.ms": "1000", "agent.period": "1s", "min.insync.replicas": "2"}
		if id == 3 {
			settings["min.insync.replicas"] = "1"
		}
		return nodetest.Options{Settings: settings}
	})
	c.Start()
	what := `min.insync.replicas is \"2\" on node 1, \"2\" on node 2, \"1\" on node 3; give every node the same value in its file and restart it`
	for i, n := range c.Nodes {
		for end := time.Now().Add(30 * time.Second); !strings.Contains(n.Log(), what); <-time.After(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("node %d does not say it:\n%s", i+1, n.Log())
			}
		}
	}
	code, out, _ := cli(t, c.Nodes[0], "", "cluster", "differences", "-o", "csv")
	if want := "setting,node,value\nmin.insync.replicas,1,2\nmin.insync.replicas,2,2\nmin.insync.replicas,3,1\n"; code != exitFailed || out != want {
		t.Errorf("exit code %d\n%s", code, out)
	}
	said := func() (n int) {
		for _, node := range c.Nodes {
			if _, body := node.HTTP("/metrics"); strings.Contains(body, "\nbelfry_settings_differ{") && strings.Contains(body, "} 1\n") {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(30 * time.Second); said() == 0; <-time.After(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no node has the metric")
		}
	}
	if code, out, _ := cli(t, c.Nodes[0], "", "cluster", "safe-to-stop", "--broker", "1"); code != exitOK || !strings.Contains(out, "min.insync.replicas is not the same everywhere") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestSplitWords(t *testing.T) {
	for text, want := range map[string][]string{
		"ssh {host} systemctl restart belfry": {"ssh", "{host}", "systemctl", "restart", "belfry"},
		`  sh -c 'a  "b" c' ""x `:             {"sh", "-c", `a  "b" c`, "x"},
		`a ''`:                                {"a", ""},
	} {
		if got, err := splitWords(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "  ", "a 'b"} {
		if got, err := splitWords(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	m := cluster.Member{Broker: cluster.Broker{ID: 3, Host: "h-1.example", Port: 9092}}
	got, err := fillIn([]string{"ssh", "root@{host}", "x{id}", "{port}"}, m)
	if err != nil || !slices.Equal(got, []string{"ssh", "root@h-1.example", "x3", "9092"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, host := range []string{"-oProxyCommand=x", "a b", "", "a;b"} {
		m.Host = host
		if got, err := fillIn([]string{"ssh", "{host}"}, m); err == nil {
			t.Errorf("host %q gives %q", host, got)
		}
	}
}
