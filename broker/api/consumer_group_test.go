package api_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// eater is a client that consumes in a group and notes what it was given.
type eater struct {
	cl   *kgo.Client
	done chan struct{}

	mu    sync.Mutex
	owned map[string][]int32
	seen  []string
}

// eat starts a member of group g.
func eat(t *testing.T, node *brokertest.Broker, opts ...kgo.Opt) *eater {
	t.Helper()
	e := &eater{done: make(chan struct{}), owned: make(map[string][]int32)}
	note := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, cl *kgo.Client, ps map[string][]int32) {
			if !add {
				if err := cl.CommitUncommittedOffsets(ctx); err != nil {
					t.Errorf("cannot commit what is given away: %v", err)
				}
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			for topic, ns := range ps {
				e.owned[topic] = slices.DeleteFunc(e.owned[topic], func(n int32) bool { return slices.Contains(ns, n) })
				if add {
					e.owned[topic] = append(e.owned[topic], ns...)
				}
			}
		}
	}
	e.cl = dial(t, node, append([]kgo.Opt{
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.RangeBalancer()), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)),
	}, opts...)...)
	go func() {
		defer close(e.done)
		for {
			fs := e.cl.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			e.mu.Lock()
			fs.EachRecord(func(r *kgo.Record) { e.seen = append(e.seen, string(r.Value)) })
			e.mu.Unlock()
		}
	}()
	return e
}

func (e *eater) owns(topic string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.owned[topic])
}

func (e *eater) close() {
	e.cl.Close()
	<-e.done
}

// await polls until what is true.
func await(t *testing.T, text string, what func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", text)
		}
	}
}

// newGroups gives a node whose members of the new protocol are told to hurry.
func newGroups(t *testing.T) (*brokertest.Broker, *kadm.Client, *kgo.Client) {
	node := brokertest.Start(t, brokertest.Set(map[string]string{
		"group.consumer.min.heartbeat.interval.ms": "100", "group.consumer.heartbeat.interval.ms": "100",
	}))
	cl := dial(t, node)
	create(t, cl, "t", 6, nil)
	return node, kadm.NewClient(cl), cl
}

func kindOf(t *testing.T, admin *kadm.Client) string {
	t.Helper()
	for _, kind := range []string{"classic", "consumer"} {
		if listed, err := admin.ListGroupsByType(within(t), []string{kind}); err != nil {
			t.Fatal(err)
		} else if len(listed) > 0 {
			return kind
		}
	}
	return "none"
}

// TestNewProtocol has two clients share a topic under the new protocol: each message is seen
// once, also over rebalances and a restart of the node, and what one leaves the other takes.
func TestNewProtocol(t *testing.T) {
	node, admin, cl := newGroups(t)
	batch := func(from int) (rs []*kgo.Record) {
		for i := range 60 {
			rs = append(rs, &kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%d", from+i)})
		}
		return rs
	}
	send(t, cl, batch(0)...)
	a := eat(t, node, kgo.ServerSideBalancer())
	await(t, "the first owns all", func() bool { return a.owns("t") == 6 })
	b := eat(t, node, kgo.ServerSideBalancer())
	await(t, "both own half", func() bool { return a.owns("t") == 3 && b.owns("t") == 3 })
	if kind := kindOf(t, admin); kind != "consumer" {
		t.Fatalf("the group is of type %s", kind)
	}
	send(t, cl, batch(60)...)
	seen := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(a.seen) + len(b.seen)
	}
	await(t, "all is seen", func() bool { return seen() >= 120 })
	a.close()
	await(t, "the second owns all", func() bool { return b.owns("t") == 6 })
	node.Restart(nil, nil)
	send(t, cl, batch(120)...)
	await(t, "all is seen after the restart", func() bool { return seen() >= 180 })
	b.close()
	all := slices.Concat(a.seen, b.seen)
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != 180 || len(all) != 180 {
		t.Errorf("%d messages were seen, %d of them different; want 180", len(all), n)
	}
	admin = kadm.NewClient(dial(t, node)) // the other's connection knows the node of before
	if rs, err := admin.DeleteGroups(within(t), "g"); err != nil || rs["g"].Err != nil {
		t.Errorf("cannot delete the group: %v %v", err, rs["g"].Err)
	}
}

// TestMigration takes a live group from the classic protocol to the new one and back.
func TestMigration(t *testing.T) {
	node, admin, _ := newGroups(t)
	old := eat(t, node)
	await(t, "the classic member owns all", func() bool { return old.owns("t") == 6 })
	if kind := kindOf(t, admin); kind != "classic" {
		t.Fatalf("the group is of type %s", kind)
	}
	young := eat(t, node, kgo.ServerSideBalancer())
	await(t, "both own half", func() bool { return old.owns("t") == 3 && young.owns("t") == 3 })
	if kind := kindOf(t, admin); kind != "consumer" {
		t.Fatalf("the group is of type %s", kind)
	}
	young.close()
	await(t, "the classic member owns all again", func() bool { return old.owns("t") == 6 })
	if kind := kindOf(t, admin); kind != "classic" {
		t.Fatalf("the group is of type %s", kind)
	}
	old.close()
}
