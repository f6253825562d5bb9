package compat

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// javaProgram is a Java program of our own that runs beside the test; it ends with its input.
type javaProgram struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	out   lockedBuffer
	gone  chan struct{}
	err   error // how it ended; valid once gone is closed
}

// startProgram runs a class, or a file of source, with the jars of a release.
func startProgram(t *testing.T, jars, class string, args ...string) *javaProgram {
	t.Helper()
	all := append(append([]string{}, javaFlags...), "-cp", filepath.Join(jars, "*"), class)
	p := &javaProgram{t: t, cmd: exec.CommandContext(t.Context(), "java", append(all, args...)...), gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("cannot run java (install it with `make deps`): %v", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.gone
		if t.Failed() {
			t.Logf("%s printed:\n%s", class, clip(p.out.String()))
		}
	})
	return p
}

// awaits waits until the program has printed a text.
func (p *javaProgram) awaits(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s prints %q", p.cmd.Args[len(javaFlags)+3], text), func() bool {
		select {
		case <-p.gone:
			p.t.Fatalf("the program ended: %v\n%s", p.err, clip(p.out.String()))
		default:
		}
		return strings.Contains(p.out.String(), text)
	})
}

// end closes the program's input and waits for its clean end.
func (p *javaProgram) end() {
	p.t.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.gone:
	case <-time.After(toolLimit):
		p.t.Fatalf("the program did not end within %v:\n%s", toolLimit, clip(p.out.String()))
	}
	if p.err != nil {
		p.t.Errorf("the program ended with %v:\n%s", p.err, clip(p.out.String()))
	}
}

// terminate asks the program to end by a signal and waits for it.
func (p *javaProgram) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.gone:
	case <-time.After(toolLimit):
		p.t.Fatalf("the program did not end within %v:\n%s", toolLimit, clip(p.out.String()))
	}
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(toolLimit); time.Now().Before(deadline); <-poll.C {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %v: %s", toolLimit, what)
}

// changes reads a topic as a table: the newest value of each key, and how many records there were.
type changes struct {
	client *kgo.Client
	latest map[string]string
	n      int
}

func followTable(t *testing.T, nodes []*nodetest.Node, topic string) *changes {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(seeds(nodes), ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &changes{client: client, latest: map[string]string{}}
}

// until reads on until the table is as wanted; the changes since have to be exactly those.
func (b *changes) until(t *testing.T, want map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	for !maps.Equal(b.latest, want) {
		fetches := b.client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("the table is %v, want %v", b.latest, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			b.latest[string(r.Key)] = string(r.Value)
			b.n++
		})
	}
}

func TestStreams(t *testing.T) {
	if !long() {
		return // each run starts four Java machines
	}
	for _, release := range []string{"2.7.2", "4.3.1"} {
		t.Run(release, func(t *testing.T) {
			keepTool(t, oneNodeResults, release, "Kafka Streams: word count", "repartition and changelog topics, a restart whose state is gone, a second instance; every word counted once")
			n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
			wordCount(t, release, []*nodetest.Node{n}, "at_least_once")
		})
	}
}

// TestStreamsOnThreeBrokers counts with transactions, as a broker dies on the way.
func TestStreamsOnThreeBrokers(t *testing.T) {
	if !long() {
		return // each run starts four Java machines
	}
	for release, guarantee := range map[string]string{"2.7.2": "exactly_once_beta", "4.3.1": "exactly_once_v2"} {
		t.Run(release, func(t *testing.T) {
			keepTool(t, threeNodesResults, release, "Kafka Streams: word count, a broker dies", "exactly once, with transactions; a restart whose state is gone, a second instance")
			settings := replicated()
			settings["group.initial.rebalance.delay.ms"] = "0"
			wordCount(t, release, nodetest.StartCluster(t, 3, nodetest.Options{Settings: settings}), guarantee)
		})
	}
}

// wordCount runs the word count: two instances, a restart whose state is gone, every word
// counted once throughout. One of several nodes is killed and comes back.
func wordCount(t *testing.T, release string, nodes []*nodetest.Node, guarantee string) {
	jars := cached(t, "kafka-"+release)
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(seeds(nodes), ",")...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	createTopics(t, client, map[string]int32{"lines": 2, "words": 1}, int16(len(nodes)))
	counts := map[string]int{}
	say := func(lines ...string) {
		t.Helper()
		for i, line := range lines {
			r := &kgo.Record{Topic: "lines", Key: []byte(strconv.Itoa(i)), Value: []byte(line)}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			for _, word := range strings.Fields(line) {
				counts[word]++
			}
		}
	}
	output := followTable(t, nodes, "words")
	counted := func() {
		t.Helper()
		want, total := map[string]string{}, 0
		for word, n := range counts {
			want[word] = strconv.Itoa(n)
			total += n
		}
		output.until(t, want)
		if output.n != total {
			t.Errorf("%d changes for %d words: some were counted twice", output.n, total)
		}
	}
	start := func() *javaProgram {
		t.Helper()
		return startProgram(t, jars, filepath.Join("java", "WordCount.java"), seeds(nodes), "wordcount", "lines", "words", t.TempDir(), strconv.Itoa(len(nodes)), guarantee)
	}

	first := start()
	say("to be or not to be", "that is the question", "be that as it is")
	counted()
	cleanupPolicies(t, client, map[string]string{"wordcount-counts-changelog": "compact", "wordcount-counts-repartition": "delete"})
	first.end()
	first = start() // with an empty state folder
	say("to be continued", "or not", "that is all")
	first.awaits("restored counts ")
	counted()

	if len(nodes) > 1 {
		nodes[1].Kill()
		say("one of three is dead", "that is not the end")
		counted()
		nodes[1].Restart()
	}
	second := start()
	second.awaits("state RUNNING")
	for i := 0; !strings.Contains(second.out.String(), "saw "); i++ {
		say(numbered(fmt.Sprintf("round%d word", i), 8)...)
		counted()
	}
	first.end()
	say(numbered("alone ", 8)...)
	counted()
	second.end()
}

// cleanupPolicies: what a client makes for itself has the setting that it asked for.
func cleanupPolicies(t *testing.T, client *kgo.Client, want map[string]string) {
	t.Helper()
	for topic, policy := range want {
		r := kmsg.NewPtrDescribeConfigsRequest()
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{"cleanup.policy"}
		r.Resources = append(r.Resources, resource)
		resp, err := r.RequestWith(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		got := resp.Resources[0]
		if len(got.Configs) != 1 || got.Configs[0].Value == nil || *got.Configs[0].Value != policy {
			t.Errorf("topic %s has the settings %+v (error %d), want cleanup.policy=%s", topic, got.Configs, got.ErrorCode, policy)
		}
	}
}

func createTopics(t *testing.T, client *kgo.Client, partitions map[string]int32, replicas int16) {
	t.Helper()
	r := kmsg.NewPtrCreateTopicsRequest()
	for topic, n := range partitions {
		row := kmsg.NewCreateTopicsRequestTopic()
		row.Topic, row.NumPartitions, row.ReplicationFactor = topic, n, replicas
		r.Topics = append(r.Topics, row)
	}
	resp, err := r.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range resp.Topics {
		if row.ErrorCode != 0 {
			t.Fatalf("cannot create topic %q: error %d", row.Topic, row.ErrorCode)
		}
	}
}
