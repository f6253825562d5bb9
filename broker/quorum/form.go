package quorum

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// How a cluster forms. Each of the first controllers has an incarnation, a random
// number on its disk. Each asks all others; when it has heard the incarnations of
// all, it promises on its disk to form the cluster of exactly these founders, never
// another one. When it has heard that all have promised the same, it writes the
// first entry of the log – the same on every node – and begins to vote. The
// cluster's ID is a hash of the founders.
//
// Invariant: a cluster exists only if every node of the list has promised it, and a
// disk promises once. So a second cluster can form from the same list only if every
// one of the disks was lost; and a node whose disk was lost is a stranger to the
// cluster (another incarnation) that the others refuse, not a voter who forgot.
//
// A node waits for all of the list to form, but for a majority only ever after.

// standing is what a node says of itself when it is asked whether a cluster can form.
type standing struct {
	Node        metadata.BrokerID `json:"node"`
	Incarnation string            `json:"incarnation"`
	List        string            `json:"list"`               // the first controllers that it was given
	Founders    string            `json:"founders,omitempty"` // that it has promised
	Cluster     string            `json:"cluster,omitempty"`  // that it has promised or belongs to
	Formed      bool              `json:"formed,omitempty"`   // it belongs to a cluster
}

// listText is the list of first controllers in one order.
func listText(first []Voter) string {
	sorted := slices.Clone(first)
	slices.SortFunc(sorted, func(a, b Voter) int { return int(a.Node) - int(b.Node) })
	var out []string
	for _, v := range sorted {
		out = append(out, strconv.Itoa(int(v.Node))+"@"+v.Address)
	}
	return strings.Join(out, ",")
}

// foundersText names the members of the cluster that these nodes would form.
func foundersText(first []Voter, incarnations map[metadata.BrokerID]string) string {
	sorted := slices.Clone(first)
	slices.SortFunc(sorted, func(a, b Voter) int { return int(a.Node) - int(b.Node) })
	var out []string
	for _, v := range sorted {
		out = append(out, string(memberAddress(member{node: v.Node, incarnation: incarnations[v.Node]}.id(), v.Address)))
	}
	return strings.Join(out, ",")
}

// foundersConfiguration is what raft begins with.
func foundersConfiguration(founders string) raft.Configuration {
	var c raft.Configuration
	for address := range strings.SplitSeq(founders, ",") {
		id, _ := splitAddress(raft.ServerAddress(address))
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: id, Address: raft.ServerAddress(address)})
	}
	return c
}

// founderOf finds a node among founders.
func founderOf(founders string, node metadata.BrokerID) (id raft.ServerID, ok bool) {
	for _, s := range foundersConfiguration(founders).Servers {
		if nodeOf(s.ID) == node {
			return s.ID, true
		}
	}
	return "", false
}

// clusterOf gives the ID of the cluster that founders form: 22 characters that do
// not begin with '-', so that tools may take it as an argument.
func clusterOf(founders string) string {
	sum := sha256.Sum256([]byte("belfry cluster of " + founders))
	for {
		var id topic.ID
		copy(id[:], sum[:])
		id[6] = id[6]&0x0f | 0x40 // a UUID of version 4, as Kafka's are
		id[8] = id[8]&0x3f | 0x80
		if text := id.String(); text[0] != '-' {
			return text
		}
		sum = sha256.Sum256(sum[:])
	}
}

// verdict is what a node does next to form a cluster: exactly one of its fields is set.
type verdict struct {
	wait    string // for what
	promise string // these founders
	form    string // these founders
}

// judge decides on what all the others said of themselves; heard has no entry for
// one that did not answer.
//
// Errors: no cluster can form with this node; the text says why and what to do.
func judge(self standing, first []Voter, heard map[metadata.BrokerID]standing) (verdict, error) {
	incarnations := map[metadata.BrokerID]string{self.Node: self.Incarnation}
	var missing, unlike []string
	for _, v := range first {
		if v.Node == self.Node {
			continue
		}
		s, ok := heard[v.Node]
		name := fmt.Sprintf("node %d at %s", v.Node, v.Address)
		switch {
		case !ok:
			missing = append(missing, name)
		case s.Node != v.Node:
			unlike = append(unlike, fmt.Sprintf("%s, but there is node %d", name, s.Node))
		case s.Formed:
			return judgeFormed(self, v, s)
		case s.List != self.List:
			unlike = append(unlike, fmt.Sprintf("%s to be given the same list of first controllers (it has %s)", name, s.List))
		}
		incarnations[v.Node] = s.Incarnation
	}
	if wait := append(missing, unlike...); len(wait) > 0 {
		return verdict{wait: strings.Join(wait, "; ")}, nil
	}
	founders := foundersText(first, incarnations)
	if self.Founders == "" {
		return verdict{promise: founders}, checkPromises(founders, heard)
	}
	if self.Founders != founders {
		return verdict{}, brokenPromise(self.Node)
	}
	for _, v := range first {
		if v.Node != self.Node && heard[v.Node].Founders == "" {
			missing = append(missing, fmt.Sprintf("node %d at %s to agree", v.Node, v.Address))
		}
	}
	if err := checkPromises(founders, heard); err != nil || len(missing) > 0 {
		return verdict{wait: strings.Join(missing, "; ")}, err
	}
	return verdict{form: founders}, nil
}

// judgeFormed decides when another one belongs to a cluster already.
func judgeFormed(self standing, v Voter, s standing) (verdict, error) {
	id, ok := founderOf(s.Founders, self.Node)
	switch {
	case !ok:
		return verdict{}, fmt.Errorf("cannot form a cluster: node %d at %s belongs to cluster %q already, which was formed without this node: to join it, make a token there with `belfry cluster join-token` and start this node with it", v.Node, v.Address, s.Cluster)
	case id != member{node: self.Node, incarnation: self.Incarnation}.id():
		return verdict{}, fmt.Errorf("cannot form a cluster: node %d at %s belongs to cluster %q already, and so does another incarnation of node %d: this is not the disk that the cluster knows. Put that one back; or, if it is lost for good, run `belfry cluster voters remove %d` and start this node with a token of `belfry cluster join-token`", v.Node, v.Address, s.Cluster, self.Node, self.Node)
	case self.Founders != s.Founders:
		return verdict{}, brokenPromise(self.Node)
	}
	return verdict{form: s.Founders}, nil
}

// checkPromises tells whether nobody has promised other founders.
func checkPromises(founders string, heard map[metadata.BrokerID]standing) error {
	for _, s := range heard {
		if s.Founders != "" && s.Founders != founders {
			return brokenPromise(s.Node)
		}
	}
	return nil
}

func brokenPromise(node metadata.BrokerID) error {
	return fmt.Errorf("cannot form a cluster: node %d had begun to form it with another incarnation of one of the nodes, whose data directory was emptied since. No cluster exists yet: empty the directory %s of every first controller and start again", node, DirName)
}

// errNotFirst tells that a node has no way into a cluster.
var errNotFirst = errors.New("cannot take part in a cluster: this node is not among controller.quorum.voters, and there is no join token")
