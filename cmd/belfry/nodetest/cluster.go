package nodetest

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Cluster is several nodes that form one; Nodes[i] has node ID i+1.
type Cluster struct {
	Nodes []*Node
}

// StartCluster runs nodes 1 to size as one cluster, all of them voters, and waits until
// all are ready. What o sets holds for each of them; o.Dir must be "".
func StartCluster(t testing.TB, size int, o Options) []*Node {
	t.Helper()
	nodes := NewCluster(t, size, o)
	(&Cluster{nodes}).Start()
	return nodes
}

// NewCluster prepares the nodes of a cluster without starting them. Size is 1, 3 or 5.
func NewCluster(t testing.TB, size int, o Options) []*Node {
	t.Helper()
	if o.Dir != "" {
		t.Fatal("the nodes of a cluster cannot share a directory")
	}
	return Form(t, size, func(int) Options { return o }).Nodes
}

// Form prepares the nodes of a cluster, each with options of its own, without starting them. Size is 1, 3 or 5.
func Form(t testing.TB, size int, each func(id int) Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	var voters []string
	for id := 1; id <= size; id++ {
		n := New(t, each(id))
		c.Nodes = append(c.Nodes, n)
		voters = append(voters, fmt.Sprintf("%d@%s", id, n.Controller))
	}
	for i, n := range c.Nodes {
		settings := map[string]string{"node.id": strconv.Itoa(i + 1), "controller.quorum.voters": strings.Join(voters, ",")}
		maps.Copy(settings, n.opts.Settings)
		n.opts.Settings = settings
		n.WriteConfig(settings)
	}
	// Why all at once: a node that ends alone leaves the others looking for a leader; nobody waits for that.
	t.Cleanup(c.Kill)
	return c
}

// NewJoiner prepares a node that joins a cluster with a token, without starting it.
func NewJoiner(t testing.TB, node int, token string, o Options) *Node {
	t.Helper()
	n := New(t, o)
	settings := map[string]string{"node.id": strconv.Itoa(node), "controller.listener": n.Controller, "join": token}
	maps.Copy(settings, o.Settings)
	n.opts.Settings = settings
	n.WriteConfig(settings)
	return n
}

// Start launches all and waits until all are ready.
func (c *Cluster) Start() {
	for _, n := range c.Nodes {
		n.t.Helper()
		n.Launch()
	}
	for _, n := range c.Nodes {
		n.WaitReady()
	}
}

// Kill ends all at once.
func (c *Cluster) Kill() {
	var ends sync.WaitGroup
	for _, n := range c.Nodes {
		ends.Go(n.Kill)
	}
	ends.Wait()
}

// Seeds are the addresses of all nodes for clients.
func (c *Cluster) Seeds() []string {
	var seeds []string
	for _, n := range c.Nodes {
		seeds = append(seeds, n.Kafka)
	}
	return seeds
}
