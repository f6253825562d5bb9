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

// process is a running peer.
type process struct {
	addr    string
	started time.Duration // from exec to the first answer
	cmd     *exec.Cmd
	dir     string
	output  *bytes.Buffer
}

func nodePeer(name string, settings map[string]string) peer {
	return peer{name: name, ours: true, args: func(dir, addr string) ([]string, error) {
		var b strings.Builder
		fmt.Fprintf(&b, "listeners: PLAINTEXT://%s\nlog.dirs: %s\nagent.listen: %q\n", addr, filepath.Join(dir, "data"), "")
		for k, v := range settings {
			fmt.Fprintf(&b, "%s: %q\n", k, v)
		}
		file := filepath.Join(dir, "node.yaml")
		return []string{"server", "--config", file}, os.WriteFile(file, []byte(b.String()), 0o600)
	}}
}

func nullPeer() peer {
	return peer{name: "null broker", args: func(_, addr string) ([]string, error) {
		return []string{"bench", "null", "--listen", addr}, nil
	}}
}

func launch(ctx context.Context, o Options, p peer) (*process, error) {
	dir, err := os.MkdirTemp("", "belfry-bench-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	pr := &process{addr: l.Addr().String(), dir: dir, output: &bytes.Buffer{}}
	if err := l.Close(); err != nil {
		return nil, err
	}
	args, err := p.args(dir, pr.addr)
	if err != nil {
		return nil, err
	}
	pr.cmd = exec.CommandContext(ctx, o.Program, args...)
	pr.cmd.Stdout, pr.cmd.Stderr = pr.output, pr.output
	begin := time.Now()
	if err := pr.cmd.Start(); err != nil {
		return nil, err
	}
	if err := pr.answer(ctx); err != nil {
		pr.stop()
		return nil, fmt.Errorf("%w\n%s", err, pr.output)
	}
	pr.started = time.Since(begin)
	return pr, nil
}

// answer waits for the first ApiVersions response.
func (p *process) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
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

// memory gives the resident set in MB; 0 where the system does not tell.
func (p *process) memory() float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			var kb float64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	_ = p.cmd.Wait()                          // its exit code says nothing about the measurement
	_ = os.RemoveAll(p.dir)                   // a temporary folder
}
