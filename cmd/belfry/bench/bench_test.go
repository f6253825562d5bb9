package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// small is a run of a few seconds of everything that needs nothing but Belfry.
func small(t *testing.T) Options {
	t.Helper()
	return Options{
		FreeMB:  -1,
		Program: nodetest.Binary(t), Version: "test", Cache: t.TempDir(), Dir: t.TempDir(), Peers: []string{"null"},
		Rounds: 1, Time: 100 * time.Millisecond, WarmUp: 100 * time.Millisecond,
		Rate: 1000, EndToEndRate: 500, Partitions: 2, LogGB: 0.02, ReadGB: 0.04,
		ManyPartitions: 20, IdleConnections: 20, GrowthPartitions: []int{2, 10}, GrowthConnections: []int{2, 5}, AgentTopics: 5, AgentPeriod: time.Second, ClusterPartitions: 9,
		Out: &bytes.Buffer{},
	}
}

// TestRun goes through a whole round with the real program: every line has a figure where its
// peer took part, goals are judged, and nothing is left behind.
func TestRun(t *testing.T) {
	o := small(t)
	files := t.TempDir()
	o.Profiles = filepath.Join(files, "profiles")
	// Why not the three nodes: TestProfiles starts them, and they take as long as all else.
	o.Only = slices.DeleteFunc(Sections(), func(s string) bool { return s == sectionCluster })
	o.Markdown, o.JSON, o.Curves = filepath.Join(files, "md"), filepath.Join(files, "json"), filepath.Join(files, "svg")
	var out bytes.Buffer
	o.Out = &out
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(o.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var res Result
	if err := json.Unmarshal(b, &res); err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(lines(o), func(l Line) bool { return l.Section == sectionCluster })
	if want := len(all); len(res.Lines) != want {
		t.Errorf("%d lines, want %d", len(res.Lines), want)
	}
	for _, m := range res.Lines {
		rounds := map[string]int{idStart: 2, idMemoryIdle: 2, idClusterIdle: 3} // two processes a round, three clusters
		n := max(rounds[m.ID], 1)
		if m.Section == sectionTools {
			n = 0 // they are Kafka's
		}
		if vs := m.Values[peer.Belfry]; len(vs) != n || slices.ContainsFunc(vs, func(v float64) bool { return v < 0 || v == 0 && !mayBeZero(m) }) {
			t.Errorf("%s: %v, want %d values", m.ID, vs, n)
		}
		if m.Limit != "" && m.Section != sectionTools && len(m.Values[limitColumn]) == 0 {
			t.Errorf("%s has no limit", m.ID)
		}
	}
	for _, want := range []string{"produce, acks=all", "p99.9", "null broker", "≥ 0.7 ×", "goals reached"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	for file, want := range map[string]string{o.Markdown: "| --- |", o.Curves: "<polyline"} {
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s has no %q: %v", file, want, err)
		}
	}
	kept, err := filepath.Glob(filepath.Join(o.Profiles, "*.pprof"))
	if err != nil || len(kept) != 2*len(res.Profiles) {
		t.Errorf("%d profiles are kept of %d loads: %v", len(kept), len(res.Profiles), err)
	}
	empty(t, o.Dir)
}

// mayBeZero: processor time of so short a run may be less than a tick.
func mayBeZero(m *Measure) bool { return m.Zero || m.Unit == "s/GB" || m.Unit == "% of a core" }

// TestInterrupted ends a run in the middle, as Ctrl-C does.
func TestInterrupted(t *testing.T) {
	o := small(t)
	o.Time, o.WarmUp, o.Only = time.Minute, time.Minute, []string{sectionProduce}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- Run(ctx, o) }()
	deadline := time.Now().Add(time.Minute)
	for !works(o.Dir) {
		if time.Now().After(deadline) {
			t.Fatal("the node made no log")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v", err)
	}
	empty(t, o.Dir)
}

// TestPeerMissing goes on without a peer that is not installed, and says so.
func TestPeerMissing(t *testing.T) {
	o := small(t)
	t.Setenv("PATH", "")
	o.Peers, o.Only = []string{"klite", "null"}, []string{sectionFsync}
	var out bytes.Buffer
	o.Out = &out
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "note: klite was not measured: cannot find") {
		t.Errorf("the table does not say it:\n%s", out.String())
	}
}

func TestUnknownNames(t *testing.T) {
	for want, o := range map[string]Options{`section "x"`: {Only: []string{"x"}}, `peer "y"`: {Peers: []string{"y"}}} {
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// works tells whether a node below the folder has written messages.
func works(dir string) bool {
	logs, err := filepath.Glob(filepath.Join(dir, "*", "*", "data", "*", "*.log"))
	if err != nil {
		return false
	}
	for _, name := range logs {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}

func empty(t *testing.T, dir string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		t.Errorf("left behind: %s", e.Name())
	}
}
