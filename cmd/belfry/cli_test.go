package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// cli runs one command line in this process.
func cli(t *testing.T, n *nodetest.Node, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	code = run(ctx, append(args, "--bootstrap-server", n.Kafka), strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func quickNode(t *testing.T) *nodetest.Node {
	return nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
}

func TestFirstMessageWithoutOtherTools(t *testing.T) {
	n := quickNode(t)
	step := func(want int, stdin string, args ...string) string {
		t.Helper()
		code, out, errOut := cli(t, n, stdin, args...)
		if code != want {
			t.Fatalf("belfry %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errOut)
		}
		return out + errOut
	}
	step(exitOK, "", "topic", "create", "orders", "--partitions", "2", "--set", "retention.ms=3600000")
	step(exitOK, "a:1\nb:2\nc:3\n", "message", "produce", "orders", "--key-separator", ":", "--compression", "zstd")
	step(exitOK, "", "message", "produce", "orders", "--partition", "1", "--key", "k", "--value", "four", "--header", "h=x")
	got := strings.Fields(step(exitOK, "", "message", "consume", "orders"))
	slices.Sort(got)
	if want := []string{"1", "2", "3", "four"}; !slices.Equal(got, want) {
		t.Errorf("consumed %q, want %q", got, want)
	}
	out := step(exitOK, "", "message", "consume", "orders", "--partition", "1", "-o", "json")
	if !strings.Contains(out, `"key":"k","value":"four","headers":{"h":"x"}`) {
		t.Errorf("no header in %s", out)
	}
	step(exitOK, "", "message", "consume", "orders", "--group", "audit")
	out = step(exitOK, "", "group", "describe", "audit")
	if !strings.Contains(out, "Empty, 0 members, lag 0") {
		t.Errorf("after reading all: %s", out)
	}
	out = step(exitOK, "", "group", "reset", "audit", "--to", "earliest", "--dry-run", "-o", "csv")
	if strings.Count(out, ",0\n") != 2 {
		t.Errorf("dry run shows %s", out)
	}
	if out := step(exitOK, "", "group", "list"); !strings.Contains(out, "Empty  0        0") {
		t.Errorf("a dry run moved the group:\n%s", out)
	}
	step(exitUsage, "", "group", "reset", "audit", "--to", "earliest")
	step(exitOK, "", "group", "reset", "audit", "--to", "earliest", "--yes")
	if out := step(exitOK, "", "group", "list"); !strings.Contains(out, "Empty  0        4") {
		t.Errorf("after a reset to the beginning:\n%s", out)
	}
	step(exitOK, "", "group", "delete", "audit", "--yes")
	step(exitOK, "", "topic", "alter", "orders", "--partitions", "5", "--set", "segment.bytes=1048576")
	out = step(exitOK, "", "topic", "describe", "orders", "-o", "json")
	var b topicBody
	if err := json.Unmarshal([]byte(out), &b); err != nil || len(b.Detail) != 5 {
		t.Errorf("described %d partitions: %v\n%s", len(b.Detail), err, out)
	}
	step(exitUsage, "", "topic", "delete", "orders")
	step(exitPartial, "", "topic", "delete", "orders", "nowhere", "--yes")
	if out := step(exitOK, "", "topic", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("after deleting the only topic: %s", out)
	}
}

func TestErrorsNameValueLimitAndRemedy(t *testing.T) {
	n := quickNode(t)
	if code, _, errOut := cli(t, n, "", "topic", "create", "orders"); code != exitOK {
		t.Fatal(errOut)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"topic create bad/name", exitFailed, "bad/name"},
		{"topic create many --replicas 2", exitFailed, "2"},
		{"topic create t --set retention.ms=-5", exitFailed, "retention.ms"},
		{"topic create t --set no.such=1", exitFailed, "no.such"},
		{"topic create t --set retention.ms", exitUsage, "want NAME=VALUE"},
		{"topic create orders", exitFailed, "orders"},
		{"topic alter orders --partitions 1", exitFailed, "3"},
		{"topic describe nowhere", exitFailed, "nowhere"},
		{"topic frobnicate", exitUsage, `unknown command "frobnicate"`},
		{"topic list -o xml", exitUsage, `--output "xml" is unknown: want one of table, wide, json, yaml, csv`},
		{"message consume orders --from yesterday", exitUsage, `--from "yesterday"`},
		{"message consume orders --partition 9", exitFailed, "no partition 9"},
		{"message produce orders --value x --compression rar", exitUsage, `--compression "rar"`},
		{"message produce nowhere --value x", exitFailed, "cannot produce to nowhere"},
		{"group describe nobody", exitFailed, "there is no group nobody"},
		{"group reset nobody --to earliest --yes", exitFailed, "no committed offsets"},
	} {
		code, out, errOut := cli(t, n, "", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errOut, c.want) {
			t.Errorf("belfry %s: exit %d, want %d and %q\n%s%s", c.args, code, c.code, c.want, out, errOut)
		}
	}
}

// TestProduceToAFullDisk fills a small volume: the command ends, with the reason and where to look.
func TestProduceToAFullDisk(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"storage_capacity": "40 MB", "capacity.check.interval": "50ms"}})
	if code, _, errOut := cli(t, n, "", "topic", "create", "orders"); code != exitOK {
		t.Fatal(errOut)
	}
	value := strings.Repeat("x", 500_000)
	for i := range 100 {
		code, out, errOut := cli(t, n, "", "message", "produce", "orders", "--value", value)
		if code == exitOK {
			continue
		}
		if i == 0 || code != exitFailed || !strings.Contains(errOut, "KAFKA_STORAGE_ERROR") || !strings.Contains(errOut, "belfry alarm list") {
			t.Errorf("message %d: exit %d\n%s%s", i, code, out, errOut)
		}
		return
	}
	t.Error("50 MB were written into 40")
}

func TestNobodyThere(t *testing.T) {
	var o, e bytes.Buffer
	code := run(t.Context(), []string{"topic", "list", "--bootstrap-server", "127.0.0.1:1"}, strings.NewReader(""), &o, &e)
	if code != exitFailed || !strings.Contains(e.String(), "cannot reach a broker at 127.0.0.1:1") || !strings.Contains(e.String(), "belfry server") {
		t.Errorf("exit %d: %s", code, e.String())
	}
}

// runsOn names commands whose examples do not end by themselves, or need other nodes; tests of their own cover them.
var runsOn = []string{"belfry cluster voters add", "belfry cluster voters remove", "belfry server", "belfry agent", "belfry demo", "belfry bench", "belfry completion", "--follow"}

func TestEveryCommandHasAnExampleThatRuns(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "controller.listener": "127.0.0.1:0"}})
	dir := t.TempDir()
	for name, text := range map[string]string{"node.yaml": "node.id: 0\n", "rules.yaml": exampleRules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Dir(nodetest.Binary(t)) + ":" + os.Getenv("PATH")
	for _, line := range examples(newRoot()) {
		if ofCluster(line) {
			continue // TestExamplesOfAClusterRun has them
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+path, "BELFRY_BOOTSTRAP_SERVER="+n.Kafka, "BELFRY_AGENT="+n.Metrics)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

// examples gives all example lines that end by themselves, in an order in which each finds
// what it is about: topics are made first and deleted last, groups before their topics.
func examples(root *cobra.Command) []string {
	stages := []string{"topic create", "message produce", "message consume", "", "group delete", "topic delete"}
	lines := make([][]string, len(stages))
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && c.Example == "" && !c.HasSubCommands() && c.Name() != "help" && c.Parent().Name() != "completion" {
			lines[0] = append(lines[0], "echo '"+c.CommandPath()+" has no example' && false")
		}
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(line)
			stage := slices.IndexFunc(stages, func(s string) bool { return s != "" && strings.Contains(line, s) })
			if stage < 0 {
				stage = slices.Index(stages, "")
			}
			endless := slices.ContainsFunc(runsOn, func(s string) bool { return strings.Contains(line, s) })
			if !endless && !slices.Contains(lines[stage], line) {
				lines[stage] = append(lines[stage], line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	lines[2] = append(lines[2], "belfry message consume orders --group audit")
	return slices.Concat(lines...)
}

const exampleRules = `rules: []
`
