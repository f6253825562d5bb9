package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBelfryCluster writes three configurations that name each other.
func TestBelfryCluster(t *testing.T) {
	s := BelfryClusterProfiled("belfry", "v1", Setting{"broker.session.timeout.ms", "9000"})
	all := threeAddresses()
	for id := 1; id <= ClusterSize; id++ {
		dir := t.TempDir()
		argv, err := s.prepare(t.Context(), id, dir, all)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(argv, " "); !strings.HasSuffix(got, "--profiles "+all[id-1].profiles) {
			t.Errorf("node %d is started by %q", id, got)
		}
		b, err := os.ReadFile(filepath.Join(dir, "node.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			fmt.Sprintf("node.id: \"%d\"\n", id), fmt.Sprintf("PLAINTEXT://127.0.0.1:10%d1\n", id),
			`controller.quorum.voters: "1@127.0.0.1:1012,2@127.0.0.1:1022,3@127.0.0.1:1032"`, `broker.session.timeout.ms: "9000"`,
		} {
			if !strings.Contains(string(b), want) {
				t.Errorf("node %d: no %q in\n%s", id, want, b)
			}
		}
	}
}

// TestKafkaProperties name all controllers, and the node's own addresses.
func TestKafkaProperties(t *testing.T) {
	all := threeAddresses()
	text := kafkaProperties(2, "/dir", all[1], []string{all[0].controller, all[1].controller, all[2].controller})
	for _, want := range []string{
		"\nnode.id=2\n", "\ncontroller.quorum.bootstrap.servers=127.0.0.1:1012,127.0.0.1:1022,127.0.0.1:1032\n",
		"\nlisteners=PLAINTEXT://127.0.0.1:1021,CONTROLLER://127.0.0.1:1022\n", "\nlog.dirs=/dir/data\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func threeAddresses() (all []addresses) {
	for id := 1; id <= ClusterSize; id++ {
		at := func(n int) string { return fmt.Sprintf("127.0.0.1:10%d%d", id, n) }
		all = append(all, addresses{client: at(1), controller: at(2), second: at(3), profiles: at(4)})
	}
	return all
}

// TestSteadyAddresses are all different, and none is among those that the system gives away.
func TestSteadyAddresses(t *testing.T) {
	free, seen := steadyAddresses(), map[string]bool{}
	for range 50 {
		a, err := free()
		if err != nil {
			t.Fatal(err)
		}
		var port int
		if _, err := fmt.Sscanf(a, "127.0.0.1:%d", &port); err != nil || port < firstPort || port >= lastPort || seen[a] {
			t.Errorf("got %s", a)
		}
		seen[a] = true
	}
}

// TestClusterFails tells what each node has said, and leaves nothing behind.
func TestClusterFails(t *testing.T) {
	root := t.TempDir()
	_, err := StartCluster(t.Context(), ClusterSpec{Name: "three", prepare: func(_ context.Context, id int, _ string, _ []addresses) ([]string, error) {
		return []string{"sh", "-c", fmt.Sprintf("echo luck %d is out; exit 3", id)}, nil
	}}, root)
	if err == nil || !strings.Contains(err.Error(), "it has ended") || !strings.Contains(err.Error(), "node 3:\nluck 3 is out") {
		t.Errorf("got %v", err)
	}
	empty(t, root)
}

// TestTerminate lets a process end in its own way.
func TestTerminate(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Fatal(err)
	}
	s := sleeper(func(string) error { return nil })
	s.prepare = func(context.Context, string, addresses) ([]string, error) {
		return []string{"sh", "-c", "trap 'echo as you wish; exit 0' TERM; echo here; while :; do sleep 0.01; done"}, nil
	}
	p, err := Start(t.Context(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	for !strings.Contains(p.Said(), "here") {
		if t.Context().Err() != nil {
			t.Fatal("it did not start")
		}
	}
	if p.Proportional() <= 0 {
		t.Error("it has no memory")
	}
	if err := p.Terminate(t.Context()); err != nil || !strings.Contains(p.Said(), "as you wish") {
		t.Errorf("%v: %s", err, p.Said())
	}
}
