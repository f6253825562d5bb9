package replica

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestDamagedReplicaBeginsAnew follows one replica from its damage to the next one: it begins
// anew only when nothing counts on it, and not at once when that was not long ago.
func TestDamagedReplicaBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store, _ := newFakeSet(t)
		var hurried atomic.Int32
		s.o.Hurry = func() { hurried.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		first := true
		state := func(leader metadata.BrokerID, epoch record.Epoch, elr []metadata.BrokerID, isr ...metadata.BrokerID) error {
			w := placed(idA, leader, epoch, isr, nil)
			w.state.ELR = elr
			err := s.apply(map[topic.Partition]wish{orders: w}, first)
			first = false
			synctest.Wait()
			return err
		}
		damage := func() {
			log := store.held[orders]
			log.mu.Lock()
			log.broken, log.damage = storage.ErrOffline, errors.New("as if")
			log.mu.Unlock()
			log.notify()
			synctest.Wait()
		}
		want := func(what string, set int, epoch record.Epoch) {
			t.Helper()
			_, err := s.Partition(orders)
			if len(store.kept) != set || (err == nil) != (epoch < 0) {
				t.Fatalf("%s: set aside %d times, want %d; the partition gives %v", what, len(store.kept), set, err)
			}
			ds := s.Damaged()
			if epoch < 0 && len(ds) > 0 || epoch >= 0 && (len(ds) != 1 || ds[0] != Damaged{idA, 0, epoch}) {
				t.Fatalf("%s: damaged are %+v", what, ds)
			}
		}
		apply := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		apply(state(2, 3, nil, 1, 2))
		want("before", 0, -1)
		damage()
		want("damaged", 0, 3)
		if hurried.Load() != 1 {
			t.Fatalf("the controller is told soon %d times", hurried.Load())
		}
		apply(state(2, 3, nil, 2))
		want("out of sync in the same epoch", 0, 3)
		apply(state(2, 4, nil, 1, 2))
		want("in sync in another epoch", 0, 3)
		apply(state(2, 4, []metadata.BrokerID{1}, 2))
		want("one that may lead", 0, 3)
		apply(state(metadata.NoBroker, 5, nil, 2))
		want("without a leader", 0, 3)
		apply(state(1, 6, nil, 2))
		want("the leader itself", 0, 3)
		apply(state(2, 7, nil, 2))
		want("renounced", 1, -1)
		if hurried.Load() != 2 || len(s.mu.damaged) != 1 {
			t.Fatalf("told soon %d times, %d are not whole", hurried.Load(), len(s.mu.damaged))
		}
		apply(state(2, 7, nil, 1, 2))
		if len(s.mu.damaged) != 0 {
			t.Fatal("in sync again, and still not whole")
		}

		// Again, too soon.
		damage()
		if err := state(2, 8, nil, 2); err == nil {
			t.Fatal("it does not say that it waits")
		}
		want("too soon", 1, 7)
		time.Sleep(refetchFirst)
		apply(state(2, 8, nil, 2))
		want("after a while", 2, -1)
		damage()
		time.Sleep(refetchFirst)
		if err := state(2, 9, nil, 2); err == nil {
			t.Fatal("the third time it does not wait longer")
		}
		time.Sleep(refetchFirst)
		apply(state(2, 9, nil, 2))
		want("the third time", 3, -1)
		damage()
		time.Sleep(refetchMemory + time.Minute)
		apply(state(2, 10, nil, 2))
		want("much later", 4, -1)

		// Its topic goes.
		damage()
		apply(s.apply(map[topic.Partition]wish{}, false))
		if len(s.mu.damaged) != 0 || len(s.Damaged()) != 0 {
			t.Error("it is told of a replica that is gone")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestDamageIsToldOnce looks for damage at the moment in which the damaged files are set aside,
// and the log that replaces them is not there yet, also when nobody had looked before: what is
// told of it ends when the replica is in sync again.
func TestDamageIsToldOnce(t *testing.T) {
	for name, before := range map[string]bool{"told before": true, "first seen then": false} {
		t.Run(name, func(t *testing.T) {
			s, store, _ := newFakeSet(t)
			s.o.Stats = stats.New()
			apply := func(first bool, epoch record.Epoch, isr ...metadata.BrokerID) {
				t.Helper()
				if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 2, epoch, isr, nil)}, first); err != nil {
					t.Fatal(err)
				}
			}
			apply(true, 3, 1, 2)
			log := store.held[orders]
			log.mu.Lock()
			log.broken, log.damage = storage.ErrOffline, errors.New("as if")
			log.mu.Unlock()
			if before {
				s.lookForDamage()
				if n := len(s.o.Stats.Read().Spoiled); n != 1 {
					t.Fatalf("%d replicas are said to be damaged", n)
				}
			}
			s.o.Hurry = func() { s.lookForDamage() }
			apply(false, 4, 2)
			s.lookForDamage()
			apply(false, 4, 1, 2)
			if n := len(s.o.Stats.Read().Spoiled); n != 0 || len(s.mu.damaged) != 0 || len(store.kept) != 1 {
				t.Errorf("it is in sync again; %d are said to be damaged, %d known, %d set aside", n, len(s.mu.damaged), len(store.kept))
			}
		})
	}
}

func TestRefetchRest(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 1: refetchFirst, 2: 2 * refetchFirst, 3: 4 * refetchFirst, 9: refetchMost, 90: refetchMost} {
		if got := refetchRest(n); got != want {
			t.Errorf("after %d times it rests %v, want %v", n, got, want)
		}
	}
}
