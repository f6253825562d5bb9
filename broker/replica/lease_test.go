package replica

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// A leader that the controller may have replaced takes nothing that it alone would answer for (R12).
func TestIsolatedLeaderRefusesAcksOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, _ := led(t)
		try := func(acks int16) error {
			_, err := p.Append(nil, acks, time.Now())
			return err
		}
		time.Sleep(time.Hour)
		if err := try(1); err != nil {
			t.Errorf("without a lease acks=1 gives %v", err)
		}
		s.Lease(time.Now().Add(9 * time.Second))
		time.Sleep(9 * time.Second)
		if err := try(1); err != nil {
			t.Errorf("within the lease acks=1 gives %v", err)
		}
		time.Sleep(time.Second)
		for _, acks := range []int16{0, 1} {
			if err := try(acks); !errors.Is(err, ErrNotLeader) {
				t.Errorf("past the lease acks=%d gives %v", acks, err)
			}
		}
		if err := try(-1); err != nil {
			t.Errorf("past the lease acks=all gives %v", err)
		}
		s.Lease(time.Now().Add(9 * time.Second))
		if err := try(1); err != nil {
			t.Errorf("with a new lease acks=1 gives %v", err)
		}
	})
}

// noISR never gives an answer.
type noISR struct{}

func (noISR) Alter(ctx context.Context, _ []Proposal) ([]Altered, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A broker that fetched while it was out of service is proposed when it is in service, and
// not only when its fetch, which waits for news, is over.
func TestOneThatComesBackIsProposedAtOnce(t *testing.T) {
	store := &fakeStore{held: make(map[topic.Partition]*fakeLog)}
	s := newSet(Options{Node: 1, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ISR: noISR{}}, store, &fakeCounters{})
	img := metadata.Empty()
	w := placed(idA, 1, 0, []metadata.BrokerID{1, 2}, nil)
	w.state.ISR = []metadata.BrokerID{1}
	apply := func(r metadata.Record) *Partition {
		t.Helper()
		next, err := img.Fold(img.Index()+1, []metadata.Record{r})
		if err != nil {
			t.Fatal(err)
		}
		img = next
		s.cluster.image.Store(img)
		if err := s.apply(map[topic.Partition]wish{orders: w}, img.Index() == 1); err != nil {
			t.Fatal(err)
		}
		p, err := s.Partition(orders)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := apply(&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 2, Epoch: 1, Fenced: true}})
	if _, err := p.ReadFollower(FollowerFetch{Broker: 2, BrokerEpoch: 1, LastFetched: -1, LogStart: 0}); err != nil {
		t.Fatal(err)
	}
	proposed := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.mu.change != nil
	}
	if proposed() {
		t.Error("one that is out of service is proposed")
	}
	apply(&metadata.BrokerUnfenced{ID: 2, Epoch: 1})
	if !proposed() {
		t.Error("one that is in service is not proposed")
	}
}

// A broker that is about to stop is not proposed as in sync, though it fetches still: the
// high watermark would wait for it until the controller has refused.
func TestOneThatStopsIsNotProposed(t *testing.T) {
	store := &fakeStore{held: make(map[topic.Partition]*fakeLog)}
	s := newSet(Options{Node: 1, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ISR: noISR{}}, store, &fakeCounters{})
	img := metadata.Empty()
	fold := func(r metadata.Record) {
		t.Helper()
		next, err := img.Fold(img.Index()+1, []metadata.Record{r})
		if err != nil {
			t.Fatal(err)
		}
		img = next
		s.cluster.image.Store(img)
	}
	fold(&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 2, Epoch: 1}})
	w := placed(idA, 1, 0, []metadata.BrokerID{1, 2}, nil)
	w.state.ISR = []metadata.BrokerID{1}
	if err := s.apply(map[topic.Partition]wish{orders: w}, true); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() (proposed bool) {
		t.Helper()
		if _, err := p.ReadFollower(FollowerFetch{Broker: 2, BrokerEpoch: 1, LastFetched: -1, LogStart: 0}); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.mu.change != nil
	}
	fold(&metadata.BrokerLeaving{ID: 2, Epoch: 1})
	if fetch() {
		t.Error("one that stops is proposed")
	}
	appendOne(t, p, -1)
	if hw := p.HighWatermark(); hw != 1 {
		t.Errorf("high watermark is %d", hw)
	}
	fold(&metadata.BrokerUnfenced{ID: 2, Epoch: 1})
	if fetch(); p.HighWatermark() != 1 {
		t.Errorf("high watermark is %d", p.HighWatermark())
	}
}

// A deletion is answered when no member of the in-sync set has the records any more.
func TestDeletionWaitsForFollowers(t *testing.T) {
	s, _, _ := newFakeSet(t)
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 0, []metadata.BrokerID{1, 2}, nil)}, true); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		appendOne(t, p, -1)
	}
	// fetch is broker 2's, that has everything and whose log begins there.
	fetch := func(start record.Offset) {
		t.Helper()
		if _, err := p.ReadFollower(FollowerFetch{Broker: 2, BrokerEpoch: -1, Offset: 5, LastFetched: -1, LogStart: start}); err != nil {
			t.Fatal(err)
		}
	}
	fetch(0)
	if hw := p.HighWatermark(); hw != 5 {
		t.Fatalf("high watermark is %d", hw)
	}
	var a answers
	done := a.to("deleted")
	p.DeleteBefore(3, func(low record.Offset, err error) {
		if err == nil && low != 3 {
			t.Errorf("low watermark is %d", low)
		}
		done(err)
	})
	a.want(t)
	fetch(3)
	a.want(t, "deleted")
	p.DeleteBefore(4, func(_ record.Offset, err error) { a.to("second")(err) })
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 2, 1, []metadata.BrokerID{1, 2}, nil)}, false); err != nil {
		t.Fatal(err)
	}
	a.want(t, "second: "+ErrNotLeader.Error())
}
