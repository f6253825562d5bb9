package nodetest

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
)

// Cluster is several nodes that form one; Nodes[i] has node ID i+1.
type Cluster struct {
	Nodes []*Node
}

// NewCluster prepares nodes with the IDs 1 … n, all of them first controllers, without starting them. each gives the
// options of a node; nil = none.
func NewCluster(t testing.TB, n int, each func(id int) Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	var voters []string
	var settings []map[string]string
	for id := 1; id <= n; id++ {
		var o Options
		if each != nil {
			o = each(id)
		}
		node := New(t, o)
		c.Nodes = append(c.Nodes, node)
		settings = append(settings, o.Settings)
		voters = append(voters, fmt.Sprintf("%d@%s", id, node.Controller))
	}
	for i, node := range c.Nodes {
		all := map[string]string{
			"node.id": fmt.Sprint(i + 1), "controller.listener": node.Controller, "controller.quorum.voters": strings.Join(voters, ","),
		}
		maps.Copy(all, settings[i])
		node.WriteConfig(all)
	}
	// Why: a node that is killed first leaves the others looking for a leader; nobody waits for that.
	t.Cleanup(c.Kill)
	return c
}

// Start launches all and waits until all are ready.
func (c *Cluster) Start() {
	for _, n := range c.Nodes {
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
