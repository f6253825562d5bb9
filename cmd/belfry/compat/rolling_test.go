package compat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// loneMember is one client program that is a member of a group.
type loneMember struct {
	name  string
	stdin io.Closer
	ended chan error
	mu    struct {
		sync.Mutex
		has  int // partitions
		read []string
		odd  string // a line that was not understood
	}
}

func joinGroup(t *testing.T, cache string, c client, args ...string) *loneMember {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, c.script("member"), append([]string{cache, c.version}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &loneMember{name: c.name, stdin: stdin, ended: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			m.take(lines.Text())
		}
		m.ended <- cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range m.ended { // until it is closed
		}
		if t.Failed() {
			t.Logf("standard error of %s:\n%s", m.name, clip(stderr.String()))
		}
	})
	return m
}

func (m *loneMember) take(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	verb, what, _ := strings.Cut(line, "\t")
	n, err := strconv.Atoi(what)
	switch {
	case verb == "read":
		m.mu.read = append(m.mu.read, what)
	case verb == "has" && err == nil:
		m.mu.has = n
	default:
		m.mu.odd = line
	}
}

// leave ends the program in order.
func (m *loneMember) leave(t *testing.T) {
	t.Helper()
	if err := m.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-m.ended; err != nil {
		t.Errorf("%s ended with %v", m.name, err)
	}
}

// shared is a topic that a group of several programs reads.
type shared struct {
	producer   *kgo.Client
	partitions int
	members    []*loneMember
	sent       int
}

// round sends ten messages to each partition and waits until all that was ever sent is read.
func (s *shared) round(t *testing.T) {
	t.Helper()
	var records []*kgo.Record
	for range 10 * s.partitions {
		records = append(records, &kgo.Record{Partition: int32(s.sent % s.partitions), Value: fmt.Appendf(nil, "value %d", s.sent)})
		s.sent++
	}
	if err := s.producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	wait(t, "all messages are read", s.members, func() bool {
		read := 0
		for _, m := range s.members {
			read += len(m.mu.read)
		}
		return read >= s.sent
	})
}

// once checks that each message was read once. Requires: all members have ended.
func (s *shared) once(t *testing.T) {
	t.Helper()
	times := map[string]int{}
	for _, m := range s.members {
		for _, value := range m.mu.read {
			times[value]++
		}
	}
	for i := range s.sent {
		if got := times[fmt.Sprint("value ", i)]; got != 1 {
			t.Errorf("value %d was read %d times", i, got)
		}
	}
}

// TestReleasesShareAGroup: members of all ages share one group, as while an application is rolled over
// from one release to the next; who leaves leaves its part to the others.
func TestReleasesShareAGroup(t *testing.T) {
	cache, all := javaClients(t)
	var output complaints
	n := nodetest.Start(t, nodetest.Options{Output: &output, Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	const topic, each = "rolling", 2
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s := &shared{producer: cl, partitions: each * len(all)}
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), int32(s.partitions), 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		s.members = append(s.members, joinGroup(t, cache, c, n.Kafka, "rolling", topic))
	}
	wait(t, "each member has its part", s.members, func() bool {
		for _, m := range s.members {
			if m.mu.has != each {
				return false
			}
		}
		return true
	})
	s.round(t)
	s.members[0].leave(t)
	wait(t, "the others have all partitions", s.members[1:], func() bool {
		has := 0
		for _, m := range s.members[1:] {
			has += m.mu.has
		}
		return has == s.partitions
	})
	s.round(t)
	for _, m := range s.members[1:] {
		m.leave(t)
	}
	s.once(t)
	n.Stop()
	for _, line := range output.all() {
		t.Errorf("the node complained: %s", line)
	}
}

// wait polls until something holds of the members, whose state it may look at, and fails the test after a while.
func wait(t *testing.T, what string, members []*loneMember, holds func() bool) {
	began := time.Now()
	defer func() { t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond)) }()
	t.Helper()
	look := func() (bool, string) {
		var state strings.Builder
		for _, m := range members {
			m.mu.Lock()
			defer m.mu.Unlock()
			fmt.Fprintf(&state, "%s: %d partitions, %d messages read %s\n", m.name, m.mu.has, len(m.mu.read), m.mu.odd)
		}
		return holds(), state.String()
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	end := time.Now().Add(toolLimit)
	for range poll.C {
		ok, state := look()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s\n%s", toolLimit, what, state)
		}
	}
}
