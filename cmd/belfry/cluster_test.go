package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// must runs a command that has to work, and gives its output.
func must(t *testing.T, n *nodetest.Node, args ...string) string {
	t.Helper()
	code, out, errOut := cli(t, n, "", args...)
	if code != exitOK {
		t.Fatalf("belfry %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// shows waits until a command's output has a text.
func shows(t *testing.T, n *nodetest.Node, want string, args ...string) string {
	t.Helper()
	var out, errOut string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if _, out, errOut = cli(t, n, "", args...); strings.Contains(out, want) {
			return out
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("belfry %s never showed %q, last\n%s%s", strings.Join(args, " "), want, out, errOut)
	return ""
}

// brief lets the last ones of a whole cluster stop soon: nobody is left to take over.
var brief = map[string]string{"controlled.shutdown.timeout.ms": "1000"}

// TestClusterOfProcesses is a cluster's life with the program's own commands: it forms
// in any order, what is made at one node is seen at all, it outlives the death of the
// one that leads, a fourth node joins, votes, and takes the place of one that is gone.
func TestClusterOfProcesses(t *testing.T) {
	nodes := nodetest.NewCluster(t, 3, nodetest.Options{Settings: brief})
	nodes[2].Launch()
	waits := func() bool {
		_, body := nodes[2].HTTP("/readyz")
		return strings.Contains(body, "waiting for node 1 at ")
	}
	for end := time.Now().Add(time.Minute); !waits(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("node 3 does not say what it waits for:\n%s", nodes[2].Log())
		}
	}
	nodes[0].Launch()
	nodes[1].Launch()
	for _, n := range nodes {
		n.WaitReady()
	}
	for i, n := range nodes {
		must(t, n, "topic", "create", fmt.Sprint("made-at-", i+1))
		for _, other := range nodes {
			shows(t, other, fmt.Sprint("made-at-", i+1), "topic", "list")
		}
	}
	voters := must(t, nodes[1], "cluster", "voters")
	if strings.Count(voters, "voter") != 2 || strings.Count(voters, "leader") != 1 {
		t.Errorf("voters:\n%s", voters)
	}

	fourth := nodetest.NewJoiner(t, 4, strings.TrimSpace(must(t, nodes[2], "cluster", "join-token", "--expires", "10m")), nodetest.Options{Settings: brief})
	fourth.Launch()
	fourth.WaitReady()
	shows(t, fourth, "made-at-3", "topic", "list")
	shows(t, nodes[0], "observer", "cluster", "voters")

	lead := leaderOf(t, nodes[1])
	nodes[lead-1].Kill()
	rest := nodes[lead%3]
	for end := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		if now := leaderOf(t, rest); now != lead {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody leads after the leader's death")
		}
	}
	shows(t, rest, "node 4 votes now", "cluster", "voters", "add", "4")
	shows(t, rest, fmt.Sprintf("node %d votes no more", lead), "cluster", "voters", "remove", fmt.Sprint(lead))
	must(t, rest, "topic", "create", "made-after", "--replicas", "2")
	shows(t, fourth, "made-after", "topic", "list")

	nodes[lead-1].Restart()
	shows(t, nodes[lead-1], "made-after", "topic", "list")
	for _, n := range append(nodes, fourth) {
		n.Stop()
	}
	for _, n := range append(nodes, fourth) {
		n.Launch()
	}
	for _, n := range append(nodes, fourth) {
		n.WaitReady()
		shows(t, n, "made-after", "topic", "list")
	}
}

// leaderOf gives the node that leads the metadata log, 0 while nobody is known to.
func leaderOf(t *testing.T, n *nodetest.Node) int {
	t.Helper()
	_, out, _ := cli(t, n, "", "cluster", "voters")
	for line := range strings.Lines(out) {
		var node int
		var role string
		if _, err := fmt.Sscan(line, &node, &role); err == nil && role == "leader" {
			return node
		}
	}
	return 0
}

func TestConfigCheckKnowsWhatAClusterNeeds(t *testing.T) {
	for text, want := range map[string]string{
		"node.id: 1\ncontroller.quorum.voters: 1@a:1,2@b:1,3@c:1\n": "",
		"controller.listener: 127.0.0.1:9093\n":                     "",
		"controller.quorum.voters: 0@a:1,1@b:1\n":                   "want 1, 3 or 5",
		"node.id: 4\ncontroller.quorum.voters: 1@a:1\n":             "node 4 is not in controller.quorum.voters",
		"controller.listener: here\n":                               "it is not HOST:PORT",
		"controller.listener: 127.0.0.1:0\njoin: nonsense\n":        "this is not a join token",
		"cluster.join.tokens: secret\n":                             "want HASH:EXPIRY",
	} {
		file := filepath.Join(t.TempDir(), "node.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		code := run(t.Context(), []string{"config", "check", file}, strings.NewReader(""), &out, &errOut)
		if good := want == ""; good != (code == exitOK) || !strings.Contains(errOut.String(), want) {
			t.Errorf("%q: exit %d, %s", text, code, errOut.String())
		}
	}
}
