package nodetest

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
)

// StartCluster runs nodes 1 to size as one cluster, all of them voters, and waits until
// all are ready. What o sets holds for each of them; o.Dir must be "".
func StartCluster(t testing.TB, size int, o Options) []*Node {
	t.Helper()
	nodes := NewCluster(t, size, o)
	for _, n := range nodes {
		n.Launch()
	}
	for _, n := range nodes {
		n.WaitReady()
	}
	return nodes
}

// NewCluster prepares the nodes of a cluster without starting them. Size is 1, 3 or 5.
func NewCluster(t testing.TB, size int, o Options) []*Node {
	t.Helper()
	if o.Dir != "" {
		t.Fatal("the nodes of a cluster cannot share a directory")
	}
	var voters []string
	for i := range size {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, freeAddr(t)))
	}
	var nodes []*Node
	for i := range size {
		own := o
		own.Settings = maps.Clone(o.Settings)
		if own.Settings == nil {
			own.Settings = map[string]string{}
		}
		own.Settings["node.id"] = strconv.Itoa(i + 1)
		own.Settings["controller.quorum.voters"] = strings.Join(voters, ",")
		nodes = append(nodes, New(t, own))
	}
	return nodes
}

// NewJoiner prepares a node that joins a cluster with a token, without starting it.
func NewJoiner(t testing.TB, node int, token string, o Options) *Node {
	t.Helper()
	settings := map[string]string{"node.id": strconv.Itoa(node), "controller.listener": freeAddr(t), "join": token}
	maps.Copy(settings, o.Settings)
	o.Settings = settings
	return New(t, o)
}
