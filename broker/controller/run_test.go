package controller

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// shared is a Quorum for several goroutines, whose leadership comes and goes.
type shared struct {
	mu      sync.Mutex
	memory  memory
	leads   bool
	changed chan struct{}
}

func (s *shared) Image() *metadata.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.img
}

func (s *shared) Propose(ctx context.Context, records []metadata.Record) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.Propose(ctx, records)
}

func (s *shared) Leading() (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads, s.changed
}

func (s *shared) lead(leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = leads
	close(s.changed)
	s.changed = make(chan struct{})
}

// watched is a controller that runs, with brokers 1 (its own), 2 and 3 in service.
type watched struct {
	*Controller
	quorum *shared
	mu     sync.Mutex
	dead   map[metadata.BrokerID]bool // whose machine refuses a connection
}

func watch(t *testing.T, over map[string]string) *watched {
	v, err := config.Defaults().With(over)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{quorum: &shared{memory: memory{img: metadata.Empty()}, changed: make(chan struct{})}, dead: map[metadata.BrokerID]bool{}}
	w.Controller = New(Options{Node: 1, Settings: v, Now: time.Now, Seed: 1, Gone: func(_ context.Context, b *metadata.Broker) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.dead[b.ID]
	}}, w.quorum)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.quorum.lead(true)
	synctest.Wait()
	for id := range metadata.BrokerID(3) {
		epoch, err := w.RegisterBroker(ctx, Registration{Broker: metadata.Broker{ID: id + 1, Incarnation: [16]byte{byte(id + 1)}}, Previous: NoEpoch})
		if err == nil {
			err = w.UnfenceBroker(ctx, id+1, epoch)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	made := w.CreateTopics(ctx, []NewTopic{{Name: "t", Assignment: map[int32][]metadata.BrokerID{0: {2, 3, 1}, 1: {3, 2, 1}}}}, false)
	if made[0].Err != nil {
		t.Fatal(made[0].Err)
	}
	return w
}

// beat sends a heartbeat of a broker every two seconds until the test or conn ends.
func (w *watched) beat(t *testing.T, id metadata.BrokerID, conn context.Context) {
	t.Helper()
	go func() {
		for conn.Err() == nil {
			img := w.quorum.Image()
			// Errors are those of a node that is not the controller now.
			_, _ = w.Heartbeat(conn, Heartbeat{ID: id, Epoch: img.Broker(id).Epoch, Seen: img.Index(), Tie: conn})
			select {
			case <-conn.Done():
			case <-time.After(2 * time.Second):
			}
		}
	}()
}

func (w *watched) fenced(id metadata.BrokerID) bool { return w.quorum.Image().Broker(id).Fenced }

func (w *watched) leader(n int) metadata.BrokerID {
	return w.quorum.Image().Topic("t").Partitions[n].Leader
}

func TestSilentBrokerIsFencedAfterItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, nil)
		three, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		w.beat(t, 3, three)
		time.Sleep(8 * time.Second) // of the 9
		if w.fenced(2) {
			t.Fatal("fenced before its session ended")
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if !w.fenced(2) || w.fenced(3) || w.fenced(1) || w.leader(0) != 3 {
			t.Fatalf("2 fenced %v, 3 fenced %v, led by %d", w.fenced(2), w.fenced(3), w.leader(0))
		}
		// A new controller gives everybody a whole session.
		w.quorum.lead(false)
		synctest.Wait()
		if _, err := w.Heartbeat(t.Context(), Heartbeat{ID: 3, Epoch: w.quorum.Image().Broker(3).Epoch}); err == nil {
			t.Fatal("who is not the controller took a heartbeat")
		}
		hangUp()
		time.Sleep(time.Minute)
		w.quorum.lead(true)
		time.Sleep(8 * time.Second)
		if w.fenced(3) {
			t.Fatal("fenced for a silence that another controller may have heard")
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if !w.fenced(3) || w.leader(0) != 1 || w.leader(1) != 1 {
			t.Fatalf("3 fenced %v, led by %d and %d", w.fenced(3), w.leader(0), w.leader(1))
		}
	})
}

func TestBrokerWhoseProcessIsGoneIsFencedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, nil)
		two, hangUp := context.WithCancel(t.Context())
		w.beat(t, 2, two)
		three, hangUp3 := context.WithCancel(t.Context())
		defer hangUp3()
		w.beat(t, 3, three)
		time.Sleep(5 * time.Second)
		// Its connection ends, and it is there still: nothing happens before its session ends.
		hangUp()
		time.Sleep(4 * time.Second)
		if w.fenced(2) {
			t.Fatal("fenced for a lost connection")
		}
		two, hangUp = context.WithCancel(t.Context())
		w.beat(t, 2, two)
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		w.dead[2] = true
		w.mu.Unlock()
		hangUp()
		synctest.Wait()
		if !w.fenced(2) || w.leader(0) != 3 {
			t.Fatalf("fenced %v, led by %d", w.fenced(2), w.leader(0))
		}
		// A controller that takes over looks at who holds no connection to it.
		w.quorum.lead(false)
		hangUp3()
		w.mu.Lock()
		w.dead[3] = true
		w.mu.Unlock()
		synctest.Wait()
		w.quorum.lead(true)
		synctest.Wait()
		if !w.fenced(3) || w.leader(0) != 1 {
			t.Fatalf("fenced %v, led by %d", w.fenced(3), w.leader(0))
		}
	})
}

func TestPreferredLeadersComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, map[string]string{"leader.imbalance.check.interval.seconds": "30"})
		for _, id := range []metadata.BrokerID{2, 3} {
			w.beat(t, id, t.Context())
		}
		old := w.quorum.Image().Broker(2)
		if err := w.FenceBroker(t.Context(), 2, old.Epoch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // heard, and so back in service
		p := w.quorum.Image().Topic("t").Partitions[0]
		if w.fenced(2) || p.Leader != 3 {
			t.Fatalf("fenced %v, led by %d", w.fenced(2), p.Leader)
		}
		done, err := w.AlterISR(t.Context(), 3, w.quorum.Image().Broker(3).Epoch, []ISRChange{{
			Topic: w.quorum.Image().Topic("t").ID, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch,
			ISR: []Member{{3, NoEpoch}, {1, NoEpoch}, {2, old.Epoch}},
		}})
		if err != nil || done[0].Err != nil {
			t.Fatal(err, done)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if w.leader(0) != 2 {
			t.Fatalf("led by %d, broker 2 is preferred", w.leader(0))
		}
	})
}
