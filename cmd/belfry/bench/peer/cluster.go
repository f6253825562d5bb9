package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// ClusterSize is how many nodes a cluster has: the fewest that can lose one.
const ClusterSize = 3

// ClusterSpec is a cluster that can be started; each of its nodes is broker and controller.
type ClusterSpec struct {
	Name     string
	Version  string // exact, as of Spec
	Settings string // how each node is run, apart from ports and folders

	// prepare makes the folder of a node ready, once, and gives its command line. IDs begin with 1.
	prepare func(ctx context.Context, id int, dir string, all []addresses) ([]string, error)
}

// BelfryCluster are three nodes as a user runs them, with their agents.
func BelfryCluster(program, version string, more ...Setting) ClusterSpec {
	return belfryCluster(program, version, []string{"server"}, more)
}

// BelfryClusterProfiled are the same, and each gives profiles of itself at Process.Profiles.
func BelfryClusterProfiled(program, version string, more ...Setting) ClusterSpec {
	s := belfryCluster(program, version, []string{"bench", "broker", "--agent"}, more)
	prepare := s.prepare
	s.prepare = func(ctx context.Context, id int, dir string, all []addresses) ([]string, error) {
		argv, err := prepare(ctx, id, dir, all)
		return append(argv, "--profiles", all[id-1].profiles), err
	}
	return s
}

func belfryCluster(program, version string, command []string, more []Setting) ClusterSpec {
	settings := belfrySettings(more)
	return ClusterSpec{
		Name: Belfry, Version: version, Settings: "three nodes, each broker, controller and agent, defaults; " + told(settings),
		prepare: func(_ context.Context, id int, dir string, all []addresses) ([]string, error) {
			voters := make([]string, len(all))
			for i, a := range all {
				voters[i] = fmt.Sprintf("%d@%s", i+1, a.controller)
			}
			own := append([]Setting{{"node.id", fmt.Sprint(id)}, {"controller.quorum.voters", strings.Join(voters, ",")}}, settings...)
			file, err := belfryFile(dir, all[id-1], own)
			return append(append([]string{program}, command...), "--config", file), err
		},
	}
}

// directories are the nodes' directory IDs, which a first quorum is formed with: any UUIDs in Kafka's notation.
var directories = [ClusterSize]string{"3Db5QLSqSZieL3rJBUUegA", "L3rJBUUegA3Db5QLSqSZiQ", "QLSqSZieL3rJBUUegA3DbA"}

// KafkaCluster is Apache Kafka on three nodes, broker and controller in one process each, with the
// JVM's settings of its start script and its own defaults. more holds for each node.
//
// Errors: its jars or Java are not there.
func KafkaCluster(ctx context.Context, cache string, more ...Setting) (ClusterSpec, error) {
	j, err := newJava(ctx, cache)
	if err != nil {
		return ClusterSpec{}, err
	}
	return ClusterSpec{
		Name: Kafka, Version: j.release(),
		Settings: "three nodes, KRaft combined mode, defaults; " + told(append([]Setting{{"log.segment.delete.delay.ms", deleteDelay}}, more...)) + "; each JVM " + strings.TrimPrefix(jvm(), "JVM "),
		prepare: func(ctx context.Context, id int, dir string, all []addresses) ([]string, error) {
			var controllers, first []string
			for i, a := range all {
				controllers = append(controllers, a.controller)
				first = append(first, fmt.Sprintf("%d@%s:%s", i+1, a.controller, directories[i]))
			}
			text := kafkaProperties(id, dir, all[id-1], controllers)
			for _, s := range more {
				text += s.Name + "=" + s.Value + "\n"
			}
			return j.format(ctx, dir, text, "--initial-controllers", strings.Join(first, ","))
		},
	}, nil
}

// Cluster is a running cluster: Nodes[0] has the ID 1.
type Cluster struct {
	Spec  ClusterSpec
	Nodes []*Process
}

// StartCluster prepares and starts a cluster in folders below root, and waits until each node knows
// all of them.
//
// Errors: as Start.
func StartCluster(ctx context.Context, s ClusterSpec, root string) (*Cluster, error) {
	c := &Cluster{Spec: s}
	err := c.prepare(ctx, root)
	if err == nil {
		err = c.each(func(_ int, p *Process) error { return p.Launch(ctx) })
	}
	if err != nil {
		said := c.Said()
		c.Stop()
		return nil, fmt.Errorf("cannot start three nodes of %s: %w\n%s", s.Name, err, said)
	}
	return c, nil
}

func (c *Cluster) prepare(ctx context.Context, root string) error {
	var all []addresses
	free := steadyAddresses()
	for range ClusterSize {
		dir, err := os.MkdirTemp(root, "peer-")
		if err != nil {
			return err
		}
		p := &Process{Spec: Spec{Name: c.Spec.Name, Version: c.Spec.Version, Settings: c.Spec.Settings, speaks: speaksAll}, Dir: dir}
		c.Nodes = append(c.Nodes, p)
		a, err := p.reserve(free)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	return c.each(func(id int, p *Process) (err error) {
		p.argv, err = c.Spec.prepare(ctx, id, p.Dir, all)
		return err
	})
}

// each does something with all nodes at the same time.
func (c *Cluster) each(do func(id int, p *Process) error) error {
	var all errgroup.Group
	for i, p := range c.Nodes {
		all.Go(func() error { return do(i+1, p) })
	}
	return all.Wait()
}

// reask is how long is waited when a node that answers does not know the others yet: it has to do.
const reask = 20 * time.Millisecond

// speaksAll is the first answer of a node that knows the whole cluster.
func speaksAll(addr string) error {
	err := speaksBrokers(addr, ClusterSize)
	var refused *net.OpError
	if err != nil && !errors.As(err, &refused) {
		time.Sleep(reask)
	}
	return err
}

// Addrs gives the addresses for clients.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, p := range c.Nodes {
		addrs[i] = p.Addr
	}
	return addrs
}

// CPU gives the processor time that all nodes have used; see Process.CPU. Requires: all run.
func (c *Cluster) CPU() (sum time.Duration) {
	for _, p := range c.Nodes {
		sum += p.CPU()
	}
	return sum
}

// Memory gives that of all nodes in MiB; see Process.Proportional. Requires: all run.
func (c *Cluster) Memory() (sum float64) {
	for _, p := range c.Nodes {
		sum += p.Proportional()
	}
	return sum
}

// Files are those of all nodes; see Process.Files.
func (c *Cluster) Files() (large []string, bytes int64) {
	for _, p := range c.Nodes {
		l, b := p.Files()
		large, bytes = append(large, l...), bytes+b
	}
	return large, bytes
}

// Said gives the end of what each node wrote.
func (c *Cluster) Said() string {
	var b strings.Builder
	for i, p := range c.Nodes {
		fmt.Fprintf(&b, "node %d:\n%s\n", i+1, p.Said())
	}
	return b.String()
}

// Stop ends all nodes and removes their folders. It may be called more than once.
func (c *Cluster) Stop() {
	// Why first: nodes that end one after the other give the last ones work.
	_ = c.each(func(_ int, p *Process) error { p.Kill(); return nil }) // Kill has no errors
	_ = c.each(func(_ int, p *Process) error { p.Stop(); return nil })
}
