package demo

import (
	"bytes"
	"context"
	"errors"
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
	"strings"
	"sync"
	"syscall"
	"time"
)

// node is the belfry process that the demo is about.
type node struct {
	program string
	dir     string
	kafka   string // HOST:PORT
	agent   string // HOST:PORT of /metrics and /readyz
	said    tail
}

// newNode chooses addresses and writes the configuration.
func newNode(program, dir string, settings map[string]string) (*node, error) {
	n := &node{program: program, dir: dir}
	var err error
	if n.kafka, err = freeAddress(); err != nil {
		return nil, err
	}
	if n.agent, err = freeAddress(); err != nil {
		return nil, err
	}
	all := maps.Clone(settings)
	all["listeners"] = "PLAINTEXT://" + n.kafka
	all["agent.listen"] = n.agent
	all["log.dirs"] = filepath.Join(dir, "data")
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %q\n", name, all[name])
	}
	if err := os.WriteFile(n.config(), []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write configuration: %w", err)
	}
	return n, nil
}

func (n *node) config() string { return filepath.Join(n.dir, "node.yaml") }

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Limits of a node's start and end.
const (
	readyLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// run runs the process until ctx ends. Errors: it did not start, or ended by itself.
func (n *node) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, n.program, "server", "--config", n.config())
	cmd.Stdout, cmd.Stderr = &n.said, &n.said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	cmd.SysProcAttr = endWithParent()
	runtime.LockOSThread() // Why: Linux means the thread that started the child when it says parent
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if ctx.Err() != nil {
		if errors.Is(err, exec.ErrWaitDelay) {
			return fmt.Errorf("node did not stop within %v\n%s", stopLimit, n.said.String())
		}
		return nil
	}
	return fmt.Errorf("node ended by itself: %v\n%s", err, n.said.String())
}

// ready waits until the node serves.
func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if _, err := n.read(ctx, "/readyz"); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node is not ready: %v\n%s", last, n.said.String())
		case <-tick.C:
		}
	}
}

// pageLimit bounds what is read of a page of the node.
const pageLimit = 16 << 20

func (n *node) read(ctx context.Context, path string) ([]byte, error) {
	return fetch(ctx, n.agent, path)
}

// fetch reads a page of an agent.
func fetch(ctx context.Context, agent, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+agent+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, pageLimit))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailLength {
		t.text = append(t.text[:0], t.text[len(t.text)-tailLength:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
