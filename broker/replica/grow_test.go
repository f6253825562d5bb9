package replica

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// asked hands out the proposals that it gets and answers each of them as taken.
type asked chan Proposal

func (a asked) Alter(_ context.Context, ps []Proposal) ([]Altered, error) {
	out := make([]Altered, len(ps))
	for i, p := range ps {
		a <- p
		out[i].PartitionEpoch = p.PartitionEpoch + 1
		for _, m := range p.ISR {
			out[i].ISR = append(out[i].ISR, m.Broker)
		}
	}
	return out, nil
}

// A follower that has everything and waits for news joins when it is put into service, not when
// it fetches next; one that has not asked since it was behind does not.
func TestJoinsWhenPutIntoService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		isr := make(asked, 10)
		store := &fakeStore{held: make(map[topic.Partition]*fakeLog)}
		s := newSet(Options{Node: 1, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ISR: isr}, store, &fakeCounters{})
		img := metadata.Empty()
		fold := func(records ...metadata.Record) {
			t.Helper()
			next, err := img.Fold(img.Index()+1, records)
			if err != nil {
				t.Fatal(err)
			}
			img = next
			s.cluster.image.Store(img)
			w := placed(idA, 1, 0, []metadata.BrokerID{1}, nil)
			w.state.Replicas = []metadata.BrokerID{1, 2, 3}
			if err := s.apply(map[topic.Partition]wish{orders: w}, false); err != nil {
				t.Fatal(err)
			}
		}
		fold(&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 2, Epoch: 7, Fenced: true}},
			&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 3, Epoch: 8, Fenced: true}})
		p, err := s.Partition(orders)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.alterer.run(ctx) }()
		defer func() { cancel(); <-done }()

		end := appendOne(t, p, -1)
		for id, at := range map[metadata.BrokerID]FollowerFetch{2: {BrokerEpoch: 7, Offset: end}, 3: {BrokerEpoch: 8, Offset: 0}} {
			at.Broker, at.LastFetched = id, -1
			if _, err := p.ReadFollower(at); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(isr) > 0 {
			t.Fatalf("out of service, but proposed: %+v", <-isr)
		}
		fold(&metadata.BrokerUnfenced{ID: 2, Epoch: 7}, &metadata.BrokerUnfenced{ID: 3, Epoch: 8})
		synctest.Wait()
		if len(isr) != 1 {
			t.Fatalf("%d proposals, want 1", len(isr))
		}
		if got := <-isr; !slices.Equal(got.ISR, []Member{{1, -1}, {2, 7}}) {
			t.Errorf("proposed %+v", got)
		}
	})
}
