package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStatusMiB(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t  4096 kB\nVmRSS:\t    1536 kB\n"
	if got := statusMiB(status, "VmRSS"); got != 1.5 {
		t.Errorf("VmRSS = %v, want 1.5", got)
	}
	if got := statusMiB(status, "VmSwap"); got != 0 {
		t.Errorf("a field that is not there = %v", got)
	}
}

func TestStatCPU(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 1": 1750 * time.Millisecond,
		"7 (x) S 1 2": 0,
		"":            0,
		"7 (x) S 1 7 7 0 -1 4194304 100 0 0 0 a 25 0 0 20 0": 0,
	} {
		if got := statCPU(stat); got != want {
			t.Errorf("%q: %v, want %v", stat, got, want)
		}
	}
}

// TestStart goes through the life of a process: an answer, memory, kill -9, another start over
// the same folder, and nothing left behind.
func TestStart(t *testing.T) {
	root := t.TempDir()
	p, err := Start(t.Context(), sleeper(func(string) error { return nil }), root)
	if err != nil {
		t.Fatal(err)
	}
	if p.Memory("VmRSS") <= 0 || p.Started <= 0 {
		t.Errorf("memory %v, started in %v", p.Memory("VmRSS"), p.Started)
	}
	first := p.cmd.Process.Pid
	p.Kill()
	if err := p.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.cmd.Process.Pid == first {
		t.Error("it is still the same process")
	}
	p.Stop()
	p.Stop()
	empty(t, root)
}

// TestStartFails tells what a process that ends at once has said, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	root := t.TempDir()
	s := sleeper(func(string) error { return os.ErrDeadlineExceeded })
	s.prepare = func(_ context.Context, dir string, _ addresses) ([]string, error) {
		return []string{"sh", "-c", "echo no such luck; exit 3"}, nil
	}
	_, err := Start(t.Context(), s, root)
	if err == nil || !strings.Contains(err.Error(), "it has ended") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("got %v", err)
	}
	empty(t, root)
}

func sleeper(speaks func(string) error) Spec {
	return Spec{Name: "sleeper", speaks: speaks, prepare: func(_ context.Context, dir string, _ addresses) ([]string, error) {
		return []string{"sleep", "60"}, os.WriteFile(filepath.Join(dir, "x"), nil, 0o600)
	}}
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

// TestFind takes a program from the cache and tells the version that its build tells.
func TestFind(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("PATH", "")
	if _, err := KliteBroker(cache); err == nil || !strings.Contains(err.Error(), "cannot find \"klite\"") {
		t.Errorf("without a program: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"klite", NATSRelease + "/nats-server", KafkaExporter, KMinion} {
		path := filepath.Join(cache, "peers", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	a := addresses{client: "127.0.0.1:1001", second: "127.0.0.1:1002", controller: "127.0.0.1:1003"}
	specs := []Spec{BelfryNode("belfry", "v1", Setting{"agent.period", "5s"}), BelfryBroker("belfry", "v1"), NullBroker("belfry", "v1", 6)}
	for _, find := range []func() (Spec, error){
		func() (Spec, error) { return KliteBroker(cache) },
		func() (Spec, error) { return NATSServer(cache, true) },
		func() (Spec, error) { return Exporter(cache, KafkaExporter, "127.0.0.1:1003") },
		func() (Spec, error) { return Exporter(cache, KMinion, "127.0.0.1:1003") },
	} {
		s, err := find()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(s.Version, "go1.") {
			t.Errorf("%s: version %q", s.Name, s.Version)
		}
		specs = append(specs, s)
	}
	for _, s := range specs {
		onlyOnLoopback(t, s, a)
	}
}

// onlyOnLoopback looks for the peer's own address in its command line and files, and for no other.
func onlyOnLoopback(t *testing.T, s Spec, a addresses) {
	t.Helper()
	dir := t.TempDir()
	argv, err := s.prepare(t.Context(), dir, a)
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	text := strings.Join(argv, " ")
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		text += "\n" + string(b)
	}
	if !strings.Contains(text, "1001") || !strings.Contains(text, "127.0.0.1") || strings.Contains(text, "0.0.0.0") {
		t.Errorf("%s is configured with\n%s", s.Name, text)
	}
}
