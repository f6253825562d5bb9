package compat

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// kcat runs Debian's kcat (librdkafka) against the node.
func kcat(t *testing.T, n *nodetest.Node, stdin string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Fatal("kcat is missing: install it with `make deps`")
	}
	return must(t, stdin, "kcat", append([]string{"-b", n.Kafka}, args...)...)
}

func TestKcat(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "true"}})
	var want []string
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var lines strings.Builder
		for i := range 50 {
			fmt.Fprintf(&lines, "%s-%d:value %d\n", codec, i, i)
			want = append(want, fmt.Sprintf("%s-%d value %d codec=%s", codec, i, i, codec))
		}
		kcat(t, n, lines.String(), "-P", "-t", "kcat", "-K", ":", "-z", codec, "-H", "codec="+codec, "-X", "acks=all")
	}
	n.Kill()
	n.Restart()
	out := kcat(t, n, "", "-C", "-t", "kcat", "-o", "beginning", "-e", "-q", "-f", "%k %s %h\n")
	got := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("kcat read %d lines, want %d:\n%s", len(got), len(want), clip(out))
	}
	contains(t, "kcat -L", kcat(t, n, "", "-L", "-t", "kcat"), `topic "kcat" with 3 partitions`, "leader 0, replicas: 0, isrs: 0")
	kcatSeekByTime(t, n)
	kcatGroup(t, n, len(want))
}

func kcatSeekByTime(t *testing.T, n *nodetest.Node) {
	t.Helper()
	before := time.Now().UnixMilli()
	kcat(t, n, "late\n", "-P", "-t", "timed", "-p", "0")
	out := kcat(t, n, "", "-Q", "-t", fmt.Sprintf("timed:0:%d", before))
	contains(t, "kcat -Q", out, "timed [0] offset 0")
	out = kcat(t, n, "", "-C", "-t", "timed", "-p", "0", "-o", fmt.Sprintf("s@%d", before), "-e", "-q")
	contains(t, "kcat -o s@TIME", out, "late")
}

// kcatGroup runs two members; together they print every message once, and the second causes a rebalance.
func kcatGroup(t *testing.T, n *nodetest.Node, messages int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	lines := make(chan string, 4*messages)
	member := func() (*exec.Cmd, *bufio.Scanner) {
		cmd := exec.CommandContext(ctx, "kcat", "-b", n.Kafka, "-G", "cats", "kcat", "-u", "-f", "%k\n", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		errOut, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			for s := bufio.NewScanner(out); s.Scan(); {
				lines <- s.Text()
			}
		}()
		return cmd, bufio.NewScanner(errOut)
	}
	first, firstLog := member()
	awaitLine(t, firstLog, "assigned:")
	second, secondLog := member()
	awaitLine(t, secondLog, "assigned:")
	seen := map[string]bool{}
	for len(seen) < messages {
		select {
		case l := <-lines:
			seen[l] = true
		case <-ctx.Done():
			t.Fatalf("a group of two printed %d of %d messages", len(seen), messages)
		}
	}
	for _, c := range []*exec.Cmd{first, second} {
		_ = c.Process.Kill()
		_ = c.Wait() // killed on purpose
	}
}

func awaitLine(t *testing.T, s *bufio.Scanner, text string) {
	t.Helper()
	for s.Scan() {
		if strings.Contains(s.Text(), text) {
			go func() {
				for s.Scan() { // the pipe must not fill up
				}
			}()
			return
		}
	}
	t.Fatalf("kcat ended without printing %q", text)
}
