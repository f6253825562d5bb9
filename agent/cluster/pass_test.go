package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func begin(t *testing.T, f *fakeCluster) *Client {
	t.Helper()
	f.t = t
	c, err := Open(Options{Seeds: []string{"b0:9092"}, Dial: f.dial, RequestTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); f.close() })
	return c
}

func newFake() *fakeCluster {
	return &fakeCluster{
		brokers: 2, ends: 100,
		topics:  map[string]int32{"orders": 2, "__consumer_offsets": 1},
		commits: map[string]map[string]int64{"bill": {"orders": 40}, "mail!": {"orders": 100}, "idle": nil},
		members: map[string]int{"bill": 2},
	}
}

func TestPass(t *testing.T) {
	f := newFake()
	c := begin(t, f)
	s, err := c.Pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.ClusterID != "the-cluster" || len(s.Brokers) != 2 || s.Brokers[1].Host != "b1" {
		t.Errorf("cluster %q, brokers %v", s.ClusterID, s.Brokers)
	}
	if len(s.Topics) != 2 || !s.Topics[0].Internal || s.Topics[1].Name != "orders" {
		t.Fatalf("topics are %+v", s.Topics)
	}
	if p := s.Topics[1].Partitions[1]; p.ID != 1 || p.Leader != 1 || p.Start != 10 || p.End != 101 {
		t.Errorf("partition is %+v", p)
	}
	if !s.GroupsKnown || len(s.Groups) != 3 {
		t.Fatalf("groups are %+v", s.Groups)
	}
	bill := s.Groups[0]
	if bill.Name != "bill" || bill.Members != 2 || bill.State != "Stable" || !bill.Known ||
		!slices.Equal(bill.Commits, []Commit{{"orders", 0, 40}}) {
		t.Errorf("group is %+v", bill)
	}
	if idle := s.Groups[1]; !idle.Known || idle.Commits != nil || idle.Members != 0 {
		t.Errorf("group is %+v", idle)
	}
	if len(s.LogDirs) != 2 || len(s.LogDirs[1].Dirs) != 3 || s.LogDirs[1].Dirs[0].Err == nil {
		t.Fatalf("log directories are %+v", s.LogDirs)
	}
	if r := s.LogDirs[1].Dirs[1].Replicas; len(r) != 2 || r[0].Bytes != 1000 || r[0].Future {
		t.Errorf("replicas are %+v", r)
	}
	if r := s.LogDirs[1].Dirs[2].Replicas; len(r) != 2 || !r[0].Future {
		t.Errorf("replicas on their way are %+v", r)
	}
	if s.Ended.Before(s.Committed) {
		t.Error("end offsets before commits")
	}
}

// TestCommitsBeforeEnds holds the order that keeps lag from being negative.
func TestCommitsBeforeEnds(t *testing.T) {
	f := newFake()
	c := begin(t, f)
	for range 5 {
		if _, err := c.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		order := f.order()
		last := -1
		for i, name := range order {
			if name == "OffsetFetch" {
				last = i
			}
		}
		first := slices.Index(order, "ListOffsets")
		if last < 0 || first < 0 || last > first {
			t.Fatalf("requests came in the order %v", order)
		}
		f.mu.Lock()
		f.seen = nil
		f.mu.Unlock()
	}
}

// TestHungCoordinator: groups whose coordinator is silent are unknown, everything else is there.
func TestHungCoordinator(t *testing.T) {
	f := newFake()
	f.hook = func(broker int32, req kmsg.Request, resp kmsg.Response) kmsg.Response {
		if r, ok := req.(*kmsg.OffsetFetchRequest); ok && r.Group == "mail!" {
			return nil
		}
		return resp
	}
	c := begin(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := c.Pass(ctx)
	if s == nil || err == nil {
		t.Fatalf("got %v, %v; want a state and what is wrong with it", s, err)
	}
	if s.Groups[0].Name != "bill" || !s.Groups[0].Known {
		t.Errorf("the healthy group is %+v", s.Groups[0])
	}
	if g := s.Groups[2]; g.Name != "mail!" || g.Known || g.Commits != nil {
		t.Errorf("the group whose coordinator hangs is %+v", g)
	}
	if p := s.Topics[1].Partitions[0]; p.End != 100 {
		t.Errorf("partition is %+v", p)
	}
	if len(s.LogDirs) != 2 {
		t.Errorf("log directories are %+v", s.LogDirs)
	}
}

// TestTenThousandPartitions: a pass over that many, of twenty groups, ends well within a
// period of a minute even on a busy machine, and nothing is unknown.
func TestTenThousandPartitions(t *testing.T) {
	f := newFake()
	for i := range 1000 {
		f.topics[fmt.Sprintf("topic-%04d", i)] = 10
	}
	for i := range 20 {
		commits := map[string]int64{}
		for name := range f.topics {
			commits[name] = 10
		}
		f.commits[fmt.Sprintf("group-%d", i)] = commits
	}
	c := begin(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	begun := time.Now()
	s, err := c.Pass(ctx)
	if err != nil {
		t.Fatal(err)
	}
	partitions := 0
	for _, topic := range s.Topics {
		for _, p := range topic.Partitions {
			if partitions++; p.Start == Unknown || p.End == Unknown {
				t.Fatalf("%s/%d is unknown", topic.Name, p.ID)
			}
		}
	}
	for _, g := range s.Groups {
		if strings.HasPrefix(g.Name, "group-") && (!g.Known || len(g.Commits) != len(f.topics)) {
			t.Errorf("group %s: %v, %d commits", g.Name, g.Known, len(g.Commits))
		}
	}
	if partitions < 10_000 || len(s.Groups) < 20 {
		t.Errorf("%d partitions, %d groups", partitions, len(s.Groups))
	}
	t.Logf("%d partitions and %d groups in %v", partitions, len(s.Groups), time.Since(begun))
}

func TestErrorsAreUnknown(t *testing.T) {
	f := newFake()
	f.hook = func(broker int32, req kmsg.Request, resp kmsg.Response) kmsg.Response {
		switch r := resp.(type) {
		case *kmsg.ListOffsetsResponse:
			for i := range r.Topics {
				for j := range r.Topics[i].Partitions {
					if r.Topics[i].Partitions[j].Partition == 1 {
						r.Topics[i].Partitions[j].ErrorCode = 56 // KAFKA_STORAGE_ERROR
						r.Topics[i].Partitions[j].Offset = -1
					}
				}
			}
		case *kmsg.DescribeLogDirsResponse:
			if broker == 1 {
				return nil
			}
		}
		return resp
	}
	c := begin(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := c.Pass(ctx)
	if s == nil || err == nil {
		t.Fatalf("got %v, %v", s, err)
	}
	if p := s.Topics[1].Partitions; p[0].End != 100 || p[1].End != Unknown || p[1].Start != Unknown || p[0].Leader < 0 || p[1].Leader != -1 {
		t.Errorf("partitions are %+v", p)
	}
	if len(s.LogDirs) != 1 || s.LogDirs[0].Broker != 0 {
		t.Errorf("log directories are %+v", s.LogDirs)
	}
}

func TestUnreachable(t *testing.T) {
	f := newFake()
	f.brokers = 0
	c := begin(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if s, err := c.Pass(ctx); s != nil || !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, %v; want ErrUnreachable", s, err)
	}
}

// TestBrokersAsksEachTime: an answer that the client remembers is no sign of life.
func TestBrokersAsksEachTime(t *testing.T) {
	f := newFake()
	answered := 0
	dead := false
	f.hook = func(_ int32, _ kmsg.Request, resp kmsg.Response) kmsg.Response {
		if _, ok := resp.(*kmsg.MetadataResponse); ok {
			if dead {
				return nil
			}
			answered++
		}
		return resp
	}
	c := begin(t, f)
	for range 3 {
		all, err := c.Brokers(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("brokers are %v, %v", all, err)
		}
	}
	f.mu.Lock()
	if dead = true; answered < 3 {
		t.Errorf("the cluster was asked %d times, want 3", answered)
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if all, err := c.Brokers(ctx); !errors.Is(err, ErrUnreachable) {
		t.Errorf("brokers of a cluster that is silent are %v, %v", all, err)
	}
}

func TestOpenRefusesNoSeeds(t *testing.T) {
	if _, err := Open(Options{}); err == nil {
		t.Error("a client without seeds was made")
	}
}
