package roll

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/outage"
)

// world is a cluster of which each broker has one partition as preferred leader, on all.
type world struct {
	mu       sync.Mutex
	s        cluster.Standing
	restarts []int32
	prefers  int
	fail     error         // of Restart
	down     time.Duration // how long a broker is away
	behind   time.Duration // how long it is not in sync after that
	deaf     bool          // Restart does nothing
	blind    bool          // the cluster tells of no epochs
}

func newWorld(size int32, controller int32) *world {
	w := &world{down: 300 * time.Millisecond, behind: 500 * time.Millisecond}
	w.s = cluster.Standing{ClusterID: "c", Controller: controller, MinInSync: map[string]cluster.MinInSync{"t": {Value: 2, Own: true}}}
	var all []int32
	for id := range size {
		all = append(all, id+1)
	}
	topic := cluster.Topic{Name: "t"}
	for _, id := range all {
		w.s.Members = append(w.s.Members, cluster.Member{Broker: cluster.Broker{ID: id, Host: fmt.Sprint("h", id)}, Epoch: int64(id)})
		w.s.Voters = append(w.s.Voters, cluster.Voter{ID: id, Up: true})
		replicas := slices.Concat([]int32{id}, slices.DeleteFunc(slices.Clone(all), func(other int32) bool { return other == id }))
		topic.Partitions = append(topic.Partitions, cluster.Partition{ID: id - 1, Leader: id, Replicas: replicas, ISR: slices.Clone(replicas)})
	}
	w.s.Topics = []cluster.Topic{topic}
	return w
}

func (w *world) Standing(context.Context) (*cluster.Standing, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.s
	s.Members = slices.Clone(s.Members)
	topic := s.Topics[0]
	topic.Partitions = slices.Clone(topic.Partitions)
	s.Topics = []cluster.Topic{topic}
	if w.blind {
		for i := range s.Members {
			s.Members[i].Epoch = -1
		}
	}
	return &s, nil
}

func (w *world) Prefer(_ context.Context, places []cluster.Place) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prefers++
	for _, p := range places {
		part := &w.s.Topics[0].Partitions[p.Partition]
		part.Leader = part.Replicas[0]
	}
	return nil
}

// leave takes a broker out of all in-sync sets; enter lets it back.
func (w *world) leave(id int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := w.s.Topics[0].Partitions
	for i := range parts {
		parts[i].ISR = slices.DeleteFunc(slices.Clone(parts[i].ISR), func(other int32) bool { return other == id })
		if parts[i].Leader == id {
			parts[i].Leader = parts[i].ISR[0]
		}
	}
}

func (w *world) enter(id int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := w.s.Topics[0].Partitions
	for i := range parts {
		parts[i].ISR = append(slices.Clone(parts[i].ISR), id)
	}
}

// restart takes as long as the broker is away; it comes in sync later.
func (w *world) restart(_ context.Context, m cluster.Member) error {
	w.restarts = append(w.restarts, m.ID)
	if w.fail != nil || w.deaf {
		return w.fail
	}
	w.leave(m.ID)
	w.mu.Lock()
	at := &w.s.Members[m.ID-1]
	at.Fenced = true
	if w.s.Controller == m.ID {
		w.s.Controller = m.ID%int32(len(w.s.Members)) + 1
	}
	w.mu.Unlock()
	time.Sleep(w.down) // of the test's own clock
	w.mu.Lock()
	at.Fenced, at.Epoch = false, at.Epoch+100
	w.mu.Unlock()
	time.AfterFunc(w.behind, func() { w.enter(m.ID) })
	return nil
}

func (w *world) options(t *testing.T, out *strings.Builder) Options {
	return Options{Cluster: w, Restart: w.restart, File: filepath.Join(t.TempDir(), "progress"), Out: out, Limit: time.Minute}
}

func TestAllInOrderTheControllerLast(t *testing.T) {
	for _, blind := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(3, 1)
			w.blind = blind
			var out strings.Builder
			o := w.options(t, &out)
			if err := Run(t.Context(), o); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if !slices.Equal(w.restarts, []int32{2, 3, 1}) || w.prefers != 3 {
				t.Errorf("restarted %v, %d times preferred leaders were wished\n%s", w.restarts, w.prefers, out.String())
			}
			if _, err := os.Stat(o.File); err == nil {
				t.Error("the progress is still there")
			}
			for _, want := range []string{"in this order: 2, 3, 1", "broker 2 at h2: safe to stop, restarting", "broker 2: waiting, 3 of its replicas are not in sync yet: t-0, t-1, t-2", "broker 1: back and in sync", "all brokers were restarted: 2, 3, 1"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in\n%s", want, out.String())
				}
			}
		})
	}
}

func TestUnsafeStopsWithoutTouchingAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		w.leave(3)
		var out strings.Builder
		o := w.options(t, &out)
		err := Run(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "broker 2 is not safe to stop within 1m0s: 3 partitions would fall below min.insync.replicas") {
			t.Errorf("got %v", err)
		}
		if len(w.restarts) > 0 {
			t.Errorf("restarted %v", w.restarts)
		}
		// In sync again while it waits: it goes on.
		time.AfterFunc(30*time.Second, func() { w.enter(3) })
		if err := Run(t.Context(), o); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// TestOneThatIsDownIsStartedFirst: no other would be safe to stop.
func TestOneThatIsDownIsStartedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		w.leave(3)
		w.s.Members[2].Fenced = true
		var out strings.Builder
		if err := Run(t.Context(), w.options(t, &out)); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if !slices.Equal(w.restarts, []int32{3, 2, 1}) {
			t.Errorf("restarted %v\n%s", w.restarts, out.String())
		}
	})
}

func TestAcceptedReasonsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 1)
		w.s.MinInSync["t"] = cluster.MinInSync{Value: 3, Own: true}
		var out strings.Builder
		o := w.options(t, &out)
		if err := Run(t.Context(), o); err == nil {
			t.Error("restarted brokers that all replicas are needed of")
		}
		o.Accept = []outage.Kind{outage.UnderMinISR}
		if err := Run(t.Context(), o); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// TestGoesOnWhereItEnded: the command fails at the second broker; the second Run leaves the
// first one alone.
func TestGoesOnWhereItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 3)
		var out strings.Builder
		o := w.options(t, &out)
		o.Restart = func(ctx context.Context, m cluster.Member) error {
			if m.ID == 2 {
				return errors.New("ssh: no route to host")
			}
			return w.restart(ctx, m)
		}
		err := Run(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "cannot restart broker 2: ssh: no route to host\nRestarted are: 1.") {
			t.Errorf("got %v", err)
		}
		o.Restart = w.restart
		if err := Run(t.Context(), o); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
		if !slices.Equal(w.restarts, []int32{1, 2, 3}) {
			t.Errorf("restarted %v", w.restarts)
		}
	})
}

// TestOneThatIsOnlyWaitedForIsNotRestartedAgain: Run ends while a broker catches up.
func TestOneThatIsOnlyWaitedForIsNotRestartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 3)
		w.behind = time.Minute
		var out strings.Builder
		o := w.options(t, &out)
		o.Limit = 10 * time.Second
		err := Run(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "broker 1 is not back within 10s: 3 of its replicas are not in sync yet: t-0, t-1, t-2") {
			t.Errorf("got %v", err)
		}
		o.Limit = 5 * time.Minute
		if err := Run(t.Context(), o); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
		if !slices.Equal(w.restarts, []int32{1, 2, 3}) {
			t.Errorf("restarted %v", w.restarts)
		}
	})
}

// TestACommandThatDoesNothingIsSeen: nothing else is stopped on its word.
func TestACommandThatDoesNothingIsSeen(t *testing.T) {
	for _, blind := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(3, 3)
			w.deaf, w.blind = true, blind
			var out strings.Builder
			err := Run(t.Context(), w.options(t, &out))
			if err == nil || !strings.Contains(err.Error(), "broker 1 is not back within 1m0s: it was not seen to restart") {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(w.restarts, []int32{1}) {
				t.Errorf("restarted %v", w.restarts)
			}
		})
	}
}

func TestProgressOfAnotherClusterIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 3)
		var out strings.Builder
		o := w.options(t, &out)
		if err := (progress{Version: progressVersion, Cluster: "other"}).write(o.File); err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), `of cluster "other", this is "c"`) {
			t.Errorf("got %v", err)
		}
		if err := os.WriteFile(o.File, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "delete it to begin anew") {
			t.Errorf("got %v", err)
		}
	})
}
