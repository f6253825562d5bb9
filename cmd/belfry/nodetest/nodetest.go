// Package nodetest runs the real program as a process for tests, as httptest runs a server:
// it builds the binary once, starts nodes on loopback, kills and restarts them.
//
// It is for tests only. Invariant: every process it starts has ended when the test has.
package nodetest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
)

// startLimit is the longest that a node may take to be ready; a healthy one needs well under a second.
const startLimit = 60 * time.Second

// stopLimit is the longest that a node may take to shut down.
const stopLimit = 60 * time.Second

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "belfry-bin-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "belfry")
	args := []string{"build", "-o", bin}
	if tags := os.Getenv("BELFRY_TEST_TAGS"); tags != "" {
		args = append(args, "-tags", tags)
	}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/belfry-mq/belfry/cmd/belfry")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build belfry: %w\n%s", err, out)
	}
	return bin, nil
})

// Binary gives the program, built once a test process, with the tags that BELFRY_TEST_TAGS names.
func Binary(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Options of a node. The zero value is a fresh node on free ports.
type Options struct {
	Agent    bool              // run `belfry agent` instead: Kafka is nobody's address then, Dir holds the agent's state
	Dir      string            // data directory; "" = a new temporary one
	Settings map[string]string // configuration over the harness's own (listeners, log.dirs, agent.listen; of an agent agent.state.dir, agent.listen)
	Env      []string          // added to the environment
	Args     []string          // added to `belfry server --config FILE`
	Output   io.Writer         // gets all that the node prints, too; nil = nobody
	// Host is the address the node listens at, at ports of its own; "" = 127.0.0.1 at free ports.
	Host string
	// Namespace names the network namespace (of ip netns) the node runs in; "" = the test's own.
	Namespace string
}

// Node is one running process. Its addresses stay the same over restarts.
type Node struct {
	Kafka   string // HOST:PORT
	Metrics string // HOST:PORT
	// Controller is where a node of a cluster listens to the others, HOST:PORT.
	Controller string
	Dir        string
	Config     string // path of the configuration file

	t    testing.TB
	opts Options
	log  *tail
	mu   struct {
		sync.Mutex
		cmd  *exec.Cmd
		gone chan struct{} // closed when the process has ended
		err  error         // how it ended; valid once gone is closed
	}
}

// Start runs a node and waits until it is ready.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	n := New(t, o)
	n.Launch()
	n.WaitReady()
	return n
}

// New prepares a node without starting it.
func New(t testing.TB, o Options) *Node {
	t.Helper()
	n := &Node{t: t, opts: o, Dir: o.Dir, log: &tail{}}
	if n.Dir == "" {
		n.Dir = t.TempDir()
	}
	if o.Host != "" {
		n.Kafka, n.Controller, n.Metrics = net.JoinHostPort(o.Host, "9092"), net.JoinHostPort(o.Host, "9093"), net.JoinHostPort(o.Host, "9100")
	} else {
		n.Kafka, n.Controller, n.Metrics = port.Addr(t), port.Addr(t), port.Addr(t)
	}
	n.Config = filepath.Join(t.TempDir(), "node.yaml")
	n.WriteConfig(o.Settings)
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("last output of the node at %s:\n%s", n.Kafka, n.log.String())
		}
	})
	return n
}

// WriteConfig writes the configuration file: the harness's own settings with the given ones over them.
func (n *Node) WriteConfig(settings map[string]string) {
	n.t.Helper()
	all := map[string]string{
		"listeners":    "PLAINTEXT://" + n.Kafka,
		"agent.listen": n.Metrics,
		"log.dirs":     filepath.Join(n.Dir, "data"),
	}
	if n.opts.Agent {
		all = map[string]string{"agent.listen": n.Metrics, "agent.state.dir": filepath.Join(n.Dir, "agent")}
	}
	maps.Copy(all, settings)
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strconv.Quote(all[name]))
	}
	if err := os.WriteFile(n.Config, b.Bytes(), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// Launch starts the process without waiting for it to be ready.
func (n *Node) Launch() {
	n.t.Helper()
	name := "server"
	if n.opts.Agent {
		name = "agent"
	}
	line := append([]string{Binary(n.t), name, "--config", n.Config}, n.opts.Args...)
	if n.opts.Namespace != "" {
		// Why nsenter: it replaces itself by the node, so that the process is the node's.
		line = append([]string{"nsenter", "--net=/run/netns/" + n.opts.Namespace, "--"}, line...)
	}
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), n.opts.Env...)
	var output io.Writer = n.log
	if n.opts.Output != nil {
		output = io.MultiWriter(n.log, n.opts.Output)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent()
	runtime.LockOSThread() // Why: the parent-death signal is bound to the thread that starts the child
	err := cmd.Start()
	runtime.UnlockOSThread()
	if err != nil {
		n.t.Fatal(err)
	}
	gone := make(chan struct{})
	n.mu.Lock()
	n.mu.cmd, n.mu.gone = cmd, gone
	n.mu.Unlock()
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		n.mu.err = err
		n.mu.Unlock()
		close(gone)
	}()
}

// WaitReady waits until /readyz says yes; a process that ends before fails the test with its output.
func (n *Node) WaitReady() {
	n.t.Helper()
	deadline := time.Now().Add(startLimit)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-n.gone():
			n.t.Fatalf("the node ended before it was ready: %v\n%s", n.ExitError(), n.log.String())
		case <-poll.C:
		}
		if code, _ := n.HTTP("/readyz"); code == http.StatusOK {
			return
		}
	}
	_, body := n.HTTP("/readyz")
	n.t.Fatalf("the node was not ready within %v: %s\n%s", startLimit, body, n.log.String())
}

// HTTP asks the metrics port; code 0 means no answer.
func (n *Node) HTTP(path string) (code int, body string) {
	c := http.Client{Timeout: 10 * time.Second}
	r, err := c.Get("http://" + n.Metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(b)
}

func (n *Node) process() (*exec.Cmd, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.cmd, n.mu.gone
}

func (n *Node) gone() chan struct{} {
	_, gone := n.process()
	return gone
}

// Gone is closed when the process has ended.
func (n *Node) Gone() <-chan struct{} { return n.gone() }

// ExitError tells how the process ended; nil for exit code 0. Requires: Gone is closed.
func (n *Node) ExitError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

// PID is the process's ID.
func (n *Node) PID() int {
	cmd, _ := n.process()
	return cmd.Process.Pid
}

// Signal sends one to the process.
func (n *Node) Signal(s os.Signal) {
	n.t.Helper()
	cmd, _ := n.process()
	if err := cmd.Process.Signal(s); err != nil {
		n.t.Errorf("cannot signal the node: %v", err)
	}
}

// Kill ends the process as a power cut would, as far as a process can tell, and waits for its end.
func (n *Node) Kill() {
	cmd, gone := n.process()
	if cmd == nil {
		return
	}
	select {
	case <-gone:
		return
	default:
	}
	_ = cmd.Process.Kill() // it may have ended by itself just now
	<-gone
}

// Stop asks the process to end and fails the test if it does not do so cleanly.
func (n *Node) Stop() {
	n.t.Helper()
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.gone():
		if err := n.ExitError(); err != nil {
			n.t.Errorf("the node ended with %v\n%s", err, n.log.String())
		}
	case <-time.After(stopLimit):
		n.t.Errorf("the node did not end within %v\n%s", stopLimit, n.log.String())
		n.Kill()
	}
}

// Restart launches an ended process again and waits until it is ready.
func (n *Node) Restart() {
	n.t.Helper()
	n.Launch()
	n.WaitReady()
}

// Log gives the last output.
func (n *Node) Log() string { return n.log.String() }

// tail keeps the last output of a process.
type tail struct {
	mu struct {
		sync.Mutex
		b []byte
	}
}

const tailBytes = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.b = append(t.mu.b, b...)
	if over := len(t.mu.b) - tailBytes; over > 0 {
		t.mu.b = append(t.mu.b[:0], t.mu.b[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.mu.b))
}
