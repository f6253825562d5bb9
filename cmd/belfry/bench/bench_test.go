package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// TestRun goes through a whole round with the real program: every peer has every figure, and
// nothing is left behind.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	program := nodetest.Binary(t)
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	err := Run(t.Context(), Options{Program: program, Rounds: 1, Duration: 100 * time.Millisecond, Rate: 1000, Partitions: 2, JSON: true, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	var res result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		t.Fatal(err)
	}
	for _, m := range res.Measures {
		for _, p := range res.Peers {
			// Why not more: processor time of so short a run may be less than a tick.
			if vs := m.Values[p]; len(vs) != 1 || vs[0] < 0 || vs[0] == 0 && m.Unit != "s/GB" {
				t.Errorf("%s of %s: %v", m.Name, p, vs)
			}
		}
	}
	empty(t, dir)

	out.Reset()
	if err := res.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{consume1K, latency999, "null broker", " ×)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
}

// TestInterrupted ends a run in the middle, as Ctrl-C does.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	program := nodetest.Binary(t)
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		failed <- Run(ctx, Options{Program: program, Duration: time.Minute, Out: &bytes.Buffer{}})
	}()
	deadline := time.Now().Add(time.Minute)
	for !works(dir) {
		if time.Now().After(deadline) {
			t.Fatal("the node made no log")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v", err)
	}
	empty(t, dir)
}

// works tells whether a node below the folder has written messages.
func works(dir string) bool {
	logs, err := filepath.Glob(filepath.Join(dir, "*", "data", "*", "*.log"))
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

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	ts := make([]time.Duration, 1000)
	for i := range ts {
		ts[i] = time.Duration(i+1) * time.Millisecond
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 501, 0.99: 991, 0.999: 1000} {
		if got := quantile(ts, q); got != want {
			t.Errorf("quantile %v = %v, want %v", q, got, want)
		}
	}
}
