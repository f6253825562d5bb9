package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// peer is one thing that is measured.
type peer struct {
	name string
	args func(dir, addr string) ([]string, error) // arguments of the program
}

// nodePeer is a node as a user runs it, with its agent and its metrics.
func nodePeer(name string, settings map[string]string) peer {
	return peer{name: name, args: func(dir, addr string) ([]string, error) {
		var b strings.Builder
		fmt.Fprintf(&b, "listeners: PLAINTEXT://%s\nlog.dirs: %q\nagent.listen: %q\n", addr, filepath.Join(dir, "data"), "127.0.0.1:0")
		for k, v := range settings {
			fmt.Fprintf(&b, "%s: %q\n", k, v)
		}
		file := filepath.Join(dir, "node.yaml")
		return []string{"server", "--config", file}, os.WriteFile(file, []byte(b.String()), 0o600)
	}}
}

func nullPeer(partitions int) peer {
	return peer{name: "null broker", args: func(_, addr string) ([]string, error) {
		return []string{"bench", "null", "--listen", addr, "--partitions", strconv.Itoa(partitions)}, nil
	}}
}

// process is a running peer.
type process struct {
	addr    string
	started time.Duration // from exec to the first answer
	cmd     *exec.Cmd
	dir     string
	output  *bytes.Buffer // complete once stop has returned
}

// stopTime is what a peer gets to end by itself.
const stopTime = 20 * time.Second

func launch(ctx context.Context, program string, p peer) (*process, error) {
	dir, err := os.MkdirTemp("", "belfry-bench-")
	if err != nil {
		return nil, err
	}
	pr := &process{dir: dir, output: &bytes.Buffer{}}
	if err := pr.start(ctx, program, p); err != nil {
		pr.stop()
		return nil, fmt.Errorf("%w\n%s", err, pr.output)
	}
	return pr, nil
}

func (p *process) start(ctx context.Context, program string, what peer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	args, err := what.args(p.dir, p.addr)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// Why not killed at once: it is in the terminal's process group as well and is about to end by itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	if err := p.answer(ctx); err != nil {
		return err
	}
	p.started = time.Since(begin)
	return nil
}

// answer waits for the first answers: ApiVersions, then metadata.
func (p *process) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = conn.Close() // it was only a knock
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot reach %s: %w", p.addr, err)
		case <-tick.C:
		}
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(p.addr))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Ping(ctx)
}

// memory gives a field of the process's status in MiB; 0 where the system does not tell.
// VmRSS is what ps and top show: heap, stacks and the pages of the program that are in use,
// without the page cache, which belongs to the machine.
func (p *process) memory(field string) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kb float64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}

// cpu gives the processor time that the process has used, in user and system mode; 0 where
// the system does not tell.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // Why: the name before it may hold blanks
	fields := strings.Fields(rest)
	const user, system, tick = 11, 12, time.Second / 100 // Source: proc(5); a tick is 10 ms on every Linux
	if len(fields) <= system {
		return 0
	}
	var sum time.Duration
	for _, f := range fields[user : system+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// stop ends the process and removes its folder. It may be called more than once.
func (p *process) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		late := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
		_ = p.cmd.Wait() // its exit code says nothing about the measurement
		late.Stop()
	}
	_ = os.RemoveAll(p.dir) // a temporary folder
}
