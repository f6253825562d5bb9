package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/local"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// ofCluster tells whether an example line needs several brokers.
func ofCluster(line string) bool {
	return slices.ContainsFunc([]string{"belfry local ", "belfry cluster ", "belfry balance "}, func(s string) bool { return strings.HasPrefix(line, s) })
}

// clusterStory is a cluster's life in commands: the examples, each when it has something to do.
var clusterStory = []string{
	"belfry local up --brokers 3 --set agent.period=10s",
	"belfry local status",
	"belfry topic create orders --partitions 6 --replicas 3",
	"seq 1000 | belfry message produce orders",
	"belfry balance plan",
	"belfry local add",
	"belfry balance plan --topics orders --brokers 1,2,4 --replicas 3 --within 1h",
	"belfry balance plan -o json > plan.json && belfry balance run --plan plan.json --yes",
	"belfry balance status --wait",
	"belfry balance run --yes --wait",
	"belfry topic create payments --partitions 6 --replicas 3",
	"belfry balance run --bandwidth 20MB --protect payments --yes",
	"belfry balance limit 50MB",
	"belfry balance limit none",
	"belfry balance cancel --topics orders",
	"belfry cluster join-token --expires 15m",
	"belfry cluster voters",
	"belfry cluster safe-to-stop --broker 2",
	"belfry cluster differences",
	"belfry cluster restart --with 'belfry local restart {id}' --limit 1m",
	"belfry local rolling-restart",
	"belfry cluster voters add 4",
	"belfry cluster voters remove 4",
	"belfry cluster voters add 4",
	"belfry cluster voters remove 2",
	"belfry local kill 2",
	"until belfry alarm list 2> /dev/null | grep -A 4 'broker_alive, broker 2: A broker is offline' | grep 'remedy'; do sleep 0.3; done",
	"belfry local restart 2",
	"belfry local pause 2",
	"belfry local resume 2",
	"belfry local stop 2",
	"belfry local restart 2",
	"test $(belfry message consume orders | sort -n | uniq | wc -l) = 1000",
	"belfry local down --delete",
	"test ! -e belfry-local/cluster.json",
}

func TestExamplesOfAClusterRun(t *testing.T) {
	for _, line := range examples(newRoot()) {
		if ofCluster(line) && !slices.Contains(clusterStory, line) {
			t.Errorf("example %q is not in the story", line)
		}
	}
	dir := t.TempDir()
	env := append(os.Environ(), "PATH="+filepath.Dir(nodetest.Binary(t))+":"+os.Getenv("PATH"))
	do := func(line string) ([]byte, error) {
		cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		return cmd.CombinedOutput()
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if out, err := do("belfry local status; belfry local down; tail -n 20 belfry-local/node-*/output.log"); err != nil {
			t.Logf("%v\n%s", err, out)
		}
	})
	for _, line := range clusterStory {
		out, err := do(line)
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		t.Logf("%s\n%s", line, out)
		if !strings.HasPrefix(line, "belfry local up") {
			continue
		}
		status, err := do("belfry local status -o json")
		var states []local.State
		if err := errors.Join(err, json.Unmarshal(status, &states)); err != nil {
			t.Fatalf("%v\n%s", err, status)
		}
		var at, agents []string
		for _, s := range states {
			at, agents = append(at, s.Kafka), append(agents, s.Metrics)
		}
		env = append(env, "BELFRY_BOOTSTRAP_SERVER="+strings.Join(at, ","), "BELFRY_AGENT="+strings.Join(agents, ","))
	}
}
