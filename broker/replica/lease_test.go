package replica

import (
	"errors"
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
