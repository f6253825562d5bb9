package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/balance"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

func TestRatesAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"20MB": 20e6, "1.5 GB": 1.5e9, "500kB": 500e3, "500kB/s": 500e3, "77": 77, "77B": 77, "none": noLimit, "-1": noLimit, "None": noLimit,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-2", "fast", "20MBB", "NaN", "1e99", "MB", "0.5"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// balanceTest is three nodes as processes, and a client of them.
type balanceTest struct {
	t     *testing.T
	nodes []*nodetest.Node
	k     *kgo.Client
	a     *kadm.Client
}

func (b *balanceTest) step(want int, args ...string) string {
	b.t.Helper()
	code, out, errOut := cli(b.t, b.nodes[0], "", args...)
	if code != want {
		b.t.Fatalf("belfry %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errOut)
	}
	return out + errOut
}

func (b *balanceTest) status() movesProgress {
	b.t.Helper()
	code, out, errOut := cli(b.t, b.nodes[0], "", "balance", "status", "-o", "json")
	var p movesProgress
	if err := json.Unmarshal([]byte(out), &p); err != nil || code != exitOK {
		b.t.Fatalf("status: exit %d, %v\n%s%s", code, err, out, errOut)
	}
	return p
}

// unlimited waits until nothing is left of limits.
func (b *balanceTest) unlimited(when string) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		l, err := readLimits(b.t.Context(), b.k, b.a)
		if err != nil {
			b.t.Fatalf("%s: %v", when, err)
		}
		if len(l.topics)+len(l.rates) == 0 {
			return
		}
		if time.Now().After(end) {
			b.t.Errorf("%s topics %v and brokers %+v are limited", when, l.topics, l.rates)
			return
		}
	}
}

// comeTo waits until partition 0 has these replicas: the broker that the client asks may hear of
// a change a moment after the one that took it.
func (b *balanceTest) comeTo(topic string, want []int32) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		now := b.replicas(topic)
		if slices.Equal(now, want) {
			return
		}
		if time.Now().After(end) {
			b.t.Errorf("%s is on %v, want %v", topic, now, want)
			return
		}
	}
}

// replicas gives those of partition 0 as the metadata say.
func (b *balanceTest) replicas(topic string) []int32 {
	b.t.Helper()
	ts, err := b.a.ListTopics(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return ts[topic].Partitions[0].Replicas
}

// TestMovesUnderALimit is what a user does with moves that must not take the whole network.
func TestMovesUnderALimit(t *testing.T) {
	b := &balanceTest{t: t, nodes: nodetest.StartCluster(t, 3, nodetest.Options{Settings: map[string]string{"agent.period": "30s"}})}
	var err error
	if b.k, err = kgo.NewClient(kgo.SeedBrokers(b.nodes[0].Kafka), kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.k.Close)
	b.a = kadm.NewClient(b.k)
	for _, topic := range []string{"orders", "payments"} {
		b.step(exitOK, "topic", "create", topic, "--partitions", "1", "--replicas", "1")
		for i := range 2000 {
			b.k.Produce(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(make([]byte, 990), "%d", i)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := b.k.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stays := b.replicas("payments")
	was := b.replicas("orders")
	to := fmt.Sprint(was[0]%3 + 1)
	run := func(args ...string) string {
		return b.step(exitOK, append([]string{"balance", "run", "--brokers", to, "--topics", "orders,payments", "--protect", "payments", "--yes"}, args...)...)
	}

	// A limit, what it says and what it forbids.
	out := run("--bandwidth", "100kB")
	if !strings.Contains(out, "at 100.0 kB/s for each broker and role it takes about 20s") || !strings.Contains(out, "taken 1 moves") {
		t.Errorf("run says %s", out)
	}
	p := b.status()
	if len(p.Moves) != 1 || p.Moves[0].Topic != "orders" || p.Left < 1_000_000 || len(p.Limits) != 2 || p.Limits[0].Leader == nil || *p.Limits[0].Leader != 100_000 {
		t.Fatalf("status is %+v", p)
	}
	if out := b.step(exitFailed, "topic", "delete", "orders", "--yes"); !strings.Contains(out, "is being moved") {
		t.Errorf("delete says %s", out)
	}
	if out := b.step(exitOK, "balance", "plan", "--topics", "orders"); !strings.Contains(out, "nothing to move") {
		t.Errorf("what is being moved is planned again: %s", out)
	}

	// Taken back: it is where it was, and nothing is limited.
	b.step(exitOK, "balance", "cancel")
	b.comeTo("orders", was)
	b.unlimited("after the cancel")

	// A command that dies after it has set limits: the next one that looks takes them away.
	moves := []balance.Move{{Topic: "orders", From: was, To: []int32{was[0]%3 + 1}}}
	alive, err := readLimits(t.Context(), b.k, b.a)
	if err != nil {
		t.Fatal(err)
	}
	if err := alter(t.Context(), b.k, limitTo(5000, moves, alive)); err != nil {
		t.Fatal(err)
	}
	if out := b.step(exitOK, "balance", "status"); !strings.Contains(out, "taken away: orders") || !strings.Contains(out, "nothing is being moved") {
		t.Errorf("status after a crash says %s", out)
	}
	b.unlimited("after the crash")

	// Changed on the way, and lifted: then it is done soon.
	run("--bandwidth", "100kB")
	b.step(exitOK, "balance", "limit", "200kB")
	if p := b.status(); len(p.Limits) != 2 || *p.Limits[1].Follower != 200_000 {
		t.Errorf("status is %+v", p)
	}
	b.step(exitOK, "balance", "limit", "none")
	if out := b.step(exitOK, "balance", "status", "--wait"); !strings.Contains(out, "nothing is being moved") {
		t.Errorf("status says %s", out)
	}
	b.unlimited("at the end")
	b.comeTo("orders", []int32{was[0]%3 + 1})
	if now := b.replicas("payments"); !slices.Equal(now, stays) {
		t.Errorf("the protected topic went from %v to %v", stays, now)
	}
	b.step(exitUsage, "balance", "plan", "--protect", "nowhere")
	b.step(exitUsage, "balance", "run", "--bandwidth", "fast", "--yes")
}
