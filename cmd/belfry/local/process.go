package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one node's process as the directory tells of it.
type process struct {
	dir string // the cluster's
	at  address
}

// pid gives the running process of the node; 0: there is none.
func (p process) pid() int {
	b, err := os.ReadFile(pidOf(p.dir, p.at.ID))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 || !ours(pid, configOf(p.dir, p.at.ID)) {
		return 0
	}
	return pid
}

// launch starts the program with the node's configuration, in a session of its own. Its
// output is appended to output.log. It fails when the node runs already.
func (p process) launch(program string) error {
	if pid := p.pid(); pid != 0 {
		return fmt.Errorf("node %d runs already: process %d", p.at.ID, pid)
	}
	out, err := os.OpenFile(logOf(p.dir, p.at.ID), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep the output of node %d: %w", p.at.ID, err)
	}
	defer out.Close()
	cmd := exec.Command(program, "server", "--config", configOf(p.dir, p.at.ID))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start node %d: %w", p.at.ID, err)
	}
	if err := replace(pidOf(p.dir, p.at.ID), []byte(strconv.Itoa(cmd.Process.Pid)+"\n")); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	// Why: the child of this process is nobody's zombie while the command goes on.
	go func() { _ = cmd.Wait() }()
	return nil
}

// signal sends one to the node's process.
func (p process) signal(s syscall.Signal) error {
	pid := p.pid()
	if pid == 0 {
		return fmt.Errorf("node %d does not run", p.at.ID)
	}
	if err := syscall.Kill(pid, s); err != nil {
		return fmt.Errorf("cannot send %v to node %d, process %d: %w", s, p.at.ID, pid, err)
	}
	return nil
}

// poll is how often a process is looked at by those who wait for it.
const poll = 20 * time.Millisecond

// waitGone waits for the end of the node's process.
func (p process) waitGone(ctx context.Context) error {
	return until(ctx, fmt.Sprintf("node %d to end", p.at.ID), func() (bool, error) { return p.pid() == 0, nil })
}

// waitReady waits until the node serves clients. A node that ends meanwhile is an error with its last words.
func (p process) waitReady(ctx context.Context) error {
	return until(ctx, fmt.Sprintf("node %d to be ready", p.at.ID), func() (bool, error) {
		if ready, _ := p.ready(ctx); ready {
			return true, nil
		}
		if p.pid() == 0 {
			return false, fmt.Errorf("node %d has ended; its last words:\n%s", p.at.ID, lastLines(logOf(p.dir, p.at.ID), 5))
		}
		return false, nil
	})
}

// ready asks /readyz; why is its text when the answer is no.
func (p process) ready(ctx context.Context) (ok bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.at.Metrics+"/readyz", nil)
	if err != nil {
		return false, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, "no answer"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return false, err.Error()
	}
	return resp.StatusCode == http.StatusOK, strings.TrimSpace(string(b))
}

func until(ctx context.Context, what string, done func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait longer for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// lastLines gives the end of a file, for an error's text.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
