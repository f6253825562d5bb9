package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cluster is the processes of one directory. Its methods are for one command at a time:
// a second one on the same directory fails at Open.
type Cluster struct {
	dir     string
	program string
	lock    *os.File
	layout  layout
}

// Open takes the directory for one command; Close gives it back. program is the binary
// that the nodes run.
//
// Errors: another command has the directory; no cluster in it, unless make is set; the disk's.
func Open(dir, program string, make bool) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if make {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make directory %q: %w", dir, err)
		}
	}
	c := &Cluster{dir: dir, program: program}
	c.layout, err = readLayout(dir)
	if err != nil && !(make && errors.Is(err, errNone)) {
		return nil, err
	}
	c.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot take directory %q: %w", dir, err)
	}
	if err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot take directory %q: another `belfry local` is at work on it", dir), c.lock.Close())
	}
	return c, nil
}

// Close gives the directory back; the nodes go on.
func (c *Cluster) Close() error { return c.lock.Close() }

// Dir is the cluster's directory, absolute.
func (c *Cluster) Dir() string { return c.dir }

// Bootstrap gives the nodes' addresses for Kafka clients.
func (c *Cluster) Bootstrap() []string {
	var at []string
	for _, n := range c.layout.Nodes {
		at = append(at, n.Kafka)
	}
	return at
}

// Agents gives the addresses of the nodes' agents: metrics and alarms.
func (c *Cluster) Agents() []string {
	var at []string
	for _, n := range c.layout.Nodes {
		at = append(at, n.Metrics)
	}
	return at
}

// Metrics gives the address of a node's metrics port.
func (c *Cluster) Metrics(id int) (string, error) {
	n, err := c.layout.node(id)
	return n.Metrics, err
}

// Anywhere has nodes that are laid out from now on listen at ports that the system chooses, instead of
// the well-known ones and those behind them: for a cluster that is made beside others.
func (c *Cluster) Anywhere() { c.layout.Anywhere = true }

// Up starts the nodes that do not run and waits until all are ready. A directory without
// a cluster gets one of so many brokers with these settings; of one that is there the
// number must be the same or 0.
func (c *Cluster) Up(ctx context.Context, brokers int, settings map[string]string) error {
	switch have := len(c.layout.Nodes); {
	case have == 0:
		if brokers == 0 {
			brokers = 3
		}
		if err := c.plan(brokers, settings); err != nil {
			return err
		}
	case brokers != 0 && brokers != have:
		return fmt.Errorf("cannot start %d brokers in %q: its cluster has %d; `belfry local add` adds one", brokers, c.dir, have)
	case len(settings) > 0:
		return fmt.Errorf("cannot change settings of the cluster in %q that way: edit %s", c.dir, filepath.Join(c.dir, "node-*", "node.yaml"))
	}
	var late []address // those that join for the first time
	for _, n := range c.layout.Nodes {
		p := process{c.dir, n}
		switch _, err := os.Stat(configOf(c.dir, n.ID)); {
		case errors.Is(err, fs.ErrNotExist):
			late = append(late, n)
			continue
		case err != nil:
			return err
		case p.pid() != 0:
			continue
		}
		if err := p.launch(c.program); err != nil {
			return err
		}
	}
	err := c.each(func(p process) error {
		if slices.Contains(late, p.at) {
			return nil
		}
		return p.waitReady(ctx)
	})
	for _, n := range late {
		if err == nil {
			err = c.join(ctx, n)
		}
	}
	return err
}

// plan lays a new cluster out and writes the files of its first controllers; the other
// nodes get theirs when they join.
func (c *Cluster) plan(brokers int, settings map[string]string) error {
	c.layout = layout{Version: layoutVersion, Settings: settings, Anywhere: c.layout.Anywhere}
	for id := 1; id <= brokers; id++ {
		a, err := c.layout.place(id)
		if err != nil {
			return err
		}
		c.layout.Nodes = append(c.layout.Nodes, a)
	}
	for id := 1; id <= votersOf(brokers); id++ {
		c.layout.Voters = append(c.layout.Voters, id)
	}
	for _, id := range c.layout.Voters {
		n, err := c.layout.node(id)
		if err != nil {
			return err
		}
		if err := c.configure(n, nil); err != nil {
			return err
		}
	}
	return c.layout.write(c.dir)
}

// configure writes a node's configuration.
func (c *Cluster) configure(a address, more map[string]string) error {
	all := c.layout.settingsOf(c.dir, a)
	maps.Copy(all, c.layout.Settings)
	maps.Copy(all, more)
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strconv.Quote(all[name]))
	}
	if err := os.MkdirAll(nodeDir(c.dir, a.ID), 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of node %d: %w", a.ID, err)
	}
	return replace(configOf(c.dir, a.ID), b.Bytes())
}

// each does something with all nodes at the same time and joins the errors.
func (c *Cluster) each(do func(process) error) error {
	errs := make([]error, len(c.layout.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.layout.Nodes {
		wg.Go(func() { errs[i] = do(process{c.dir, n}) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// State is what is seen of a node.
type State struct {
	ID      int    `json:"id"`
	PID     int    `json:"pid"` // 0: it does not run
	Ready   bool   `json:"ready"`
	Why     string `json:"why,omitempty"` // while not ready
	Kafka   string `json:"kafka"`
	Metrics string `json:"metrics"`
	Log     string `json:"log"`
}

// Status looks at every node.
func (c *Cluster) Status(ctx context.Context) []State {
	states := make([]State, len(c.layout.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.layout.Nodes {
		wg.Go(func() {
			p := process{c.dir, n}
			s := State{ID: n.ID, PID: p.pid(), Kafka: n.Kafka, Metrics: n.Metrics, Log: logOf(c.dir, n.ID)}
			if s.PID == 0 {
				s.Why = "it does not run"
			} else {
				s.Ready, s.Why = p.ready(ctx)
			}
			if s.Ready {
				s.Why = ""
			}
			states[i] = s
		})
	}
	wg.Wait()
	return states
}

// Kill ends a node as a power cut would, as far as a process can tell.
func (c *Cluster) Kill(ctx context.Context, id int) error { return c.end(ctx, id, syscall.SIGKILL) }

// Stop asks a node to end and waits for it.
func (c *Cluster) Stop(ctx context.Context, id int) error { return c.end(ctx, id, syscall.SIGTERM) }

func (c *Cluster) end(ctx context.Context, id int, s syscall.Signal) error {
	p, err := c.process(id)
	if err != nil {
		return err
	}
	if err := p.signal(s); err != nil {
		return err
	}
	return p.waitGone(ctx)
}

// Pause stops a node's process without ending it (SIGSTOP), Resume lets it go on.
func (c *Cluster) Pause(id int) error { return c.signal(id, syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (c *Cluster) Resume(id int) error { return c.signal(id, syscall.SIGCONT) }

func (c *Cluster) signal(id int, s syscall.Signal) error {
	p, err := c.process(id)
	if err != nil {
		return err
	}
	return p.signal(s)
}

// Restart stops a node if it runs, starts it and waits until it is ready.
func (c *Cluster) Restart(ctx context.Context, id int) error {
	p, err := c.process(id)
	if err != nil {
		return err
	}
	if p.pid() != 0 {
		if err := c.Stop(ctx, id); err != nil {
			return err
		}
	}
	if err := p.launch(c.program); err != nil {
		return err
	}
	return p.waitReady(ctx)
}

func (c *Cluster) process(id int) (process, error) {
	n, err := c.layout.node(id)
	return process{c.dir, n}, err
}

// patience is how long Down waits for a node that was asked to end before it kills it.
const patience = time.Minute

// Down asks all nodes to end and waits for them; one that does not end in a minute is
// killed, and told of. remove deletes the cluster's files afterwards.
func (c *Cluster) Down(ctx context.Context, remove bool) error {
	// Why all at once: most of the controllers must not be waited for by the last ones.
	err := c.each(func(p process) error {
		if p.pid() == 0 {
			return nil
		}
		soft, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := errors.Join(p.signal(syscall.SIGTERM), p.waitGone(soft)); err == nil || p.pid() == 0 {
			return nil
		}
		err := fmt.Errorf("node %d did not end in %v and was killed; see %s", p.at.ID, patience, logOf(p.dir, p.at.ID))
		return errors.Join(err, p.signal(syscall.SIGKILL), p.waitGone(ctx))
	})
	if !remove {
		return err
	}
	for _, n := range c.layout.Nodes {
		err = errors.Join(err, os.RemoveAll(nodeDir(c.dir, n.ID)))
	}
	if rerr := os.Remove(filepath.Join(c.dir, layoutFile)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, os.Remove(filepath.Join(c.dir, "lock")))
}

// voters names the first controllers as the setting wants them: id@host:port, …
func (l layout) voters() string {
	var out []string
	for _, id := range l.Voters {
		if n, err := l.node(id); err == nil {
			out = append(out, fmt.Sprintf("%d@%s", id, n.Controller))
		}
	}
	return strings.Join(out, ",")
}

// Add starts one more broker, which joins the cluster by a token, and gives its number.
func (c *Cluster) Add(ctx context.Context) (int, error) {
	id := 0
	for _, n := range c.layout.Nodes {
		id = max(id, n.ID)
	}
	a, err := c.layout.place(id + 1)
	if err != nil {
		return 0, err
	}
	c.layout.Nodes = append(c.layout.Nodes, a)
	if err := c.layout.write(c.dir); err != nil {
		return 0, err
	}
	return a.ID, c.join(ctx, a)
}

// join starts a node that is not one of the first controllers for the first time. Its
// token is asked for anew each time, as one lives a short time only.
func (c *Cluster) join(ctx context.Context, a address) error {
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	if err := c.configure(a, map[string]string{"join": token}); err != nil {
		return err
	}
	p := process{c.dir, a}
	if err := p.launch(c.program); err != nil {
		return err
	}
	return p.waitReady(ctx)
}

// token has the running nodes make a token for one that wants to join.
func (c *Cluster) token(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, c.program, "cluster", "join-token", "--expires", "5m", "--bootstrap-server", strings.Join(c.Bootstrap(), ","))
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot get a token for the new node: %w: %s", err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
