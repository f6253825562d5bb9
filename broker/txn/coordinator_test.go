package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// pair is two brokers: the first leads __transaction_state and partition 0 of t, the second
// partition 1. What they ask each other is answered here.
type pair struct {
	t             *testing.T
	first, second *Coordinator

	mu      sync.Mutex
	markers []string
	refuse  int // markers on the second broker that are refused
}

func ours(n int32) topic.Partition { return topic.Partition{Topic: "t", Partition: n} }

func startPair(t *testing.T) *pair {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := storage.Open(storage.Options{FS: disk.NewMemory(0), Dirs: []string{"/data"}, NodeID: 1, Now: time.Now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	values := config.Defaults()
	set := replica.New(replica.Options{
		Node: 1, Store: store, Stats: stats.New(), Logger: log, Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values { return config.TopicValues(values, nil, nil, nil, 1) },
	})
	p := &pair{t: t}
	next := int64(0)
	o := Options{
		Node: 1, Replicas: set, Markers: p, Peers: p, Logger: log, Now: time.Now,
		Settings: func() *config.Values { return values },
		Block:    func(context.Context) (int64, int, error) { next += 1000; return next, 1000, nil },
	}
	p.first = New(o)
	o.Node = 2
	p.second = New(o)
	img := twoBrokers(t)
	if err := set.Apply(nil, img); err != nil {
		t.Fatal(err)
	}
	p.first.Apply(nil, img)
	p.second.Apply(nil, img)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = set.Run(ctx) })
	wg.Go(func() { _ = store.Run(ctx) })
	wg.Go(func() { _ = p.first.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); _ = store.Close() })
	return p
}

func twoBrokers(t *testing.T) *metadata.Image {
	t.Helper()
	rs := []metadata.Record{&metadata.FeatureSet{Name: metadata.FeatureTransactionVersion, Level: 2}}
	for i, name := range []string{"t", topic.TransactionState} {
		id := topic.ID{byte(i + 1)}
		rs = append(rs, &metadata.TopicCreated{Name: name, ID: id})
		for n := range int32(2) {
			leader := metadata.BrokerID(1)
			if name == "t" {
				leader += metadata.BrokerID(n)
			}
			s := metadata.Partition{Leader: leader, Replicas: []metadata.BrokerID{leader}, ISR: []metadata.BrokerID{leader}, Dirs: make([]topic.ID, 1)}
			rs = append(rs, &metadata.PartitionCreated{Topic: id, Number: n, State: s})
		}
	}
	img, err := metadata.Empty().Fold(1, rs)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func (p *pair) note(on int, name topic.Partition, commit bool, epoch int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.markers = append(p.markers, fmt.Sprintf("%s on %d commit=%v epoch=%d", name, on, commit, epoch))
}

// Write is the first broker's markers.
func (p *pair) Write(_ context.Context, m record.Marker, _ int8, parts []topic.Partition) []error {
	for _, name := range parts {
		p.note(1, name, m.Commit, m.ProducerEpoch)
	}
	return make([]error, len(parts))
}

// Do is what one broker asks the other.
func (p *pair) Do(_ context.Context, to metadata.BrokerID, _ string, req kmsg.Request) (kmsg.Response, error) {
	switch req := req.(type) {
	case *kmsg.WriteTxnMarkersRequest:
		if to != 2 || req.Version != 2 {
			p.t.Errorf("markers %d for broker %d", req.Version, to)
		}
		return p.markersOfSecond(req), nil
	case *kmsg.AddPartitionsToTxnRequest:
		if to != 1 || req.Version != 5 {
			p.t.Errorf("partitions %d for broker %d", req.Version, to)
		}
		return p.coordinate(req), nil
	}
	return nil, errors.New("nobody asks that")
}

func (p *pair) markersOfSecond(req *kmsg.WriteTxnMarkersRequest) *kmsg.WriteTxnMarkersResponse {
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	m := req.Markers[0]
	rm := kmsg.NewWriteTxnMarkersResponseMarker()
	rm.ProducerID = m.ProducerID
	for _, t := range m.Topics {
		rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
			rp.Partition = n
			if p.refuse > 0 {
				p.refuse--
				rp.ErrorCode = kerr.NotLeaderForPartition.Code
			} else {
				p.note(2, topic.Partition{Topic: t.Topic, Partition: n}, m.Committed, m.ProducerEpoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		rm.Topics = append(rm.Topics, rt)
	}
	resp.Markers = append(resp.Markers, rm)
	return resp
}

func (p *pair) coordinate(req *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	one := req.Transactions[0]
	name := topic.Partition{Topic: one.Topics[0].Topic, Partition: one.Topics[0].Partitions[0]}
	each, err := p.first.AddPartitions(p.t.Context(), one.TransactionalID, one.ProducerID, one.ProducerEpoch, []topic.Partition{name}, one.VerifyOnly)
	if err == nil {
		err = each[name]
	}
	rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
	rp.Partition = name.Partition
	var refused *Refusal
	if errors.As(err, &refused) {
		rp.ErrorCode = refused.Code
	}
	rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
	rt.Topic, rt.Partitions = name.Topic, append(rt.Partitions, rp)
	tx := kmsg.NewAddPartitionsToTxnResponseTransaction()
	tx.TransactionalID, tx.Topics = one.TransactionalID, append(tx.Topics, rt)
	resp.Transactions = append(resp.Transactions, tx)
	return resp
}

// until asks until the answer is not that one should ask again.
func until(t *testing.T, ask func() code) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		switch c := ask(); c {
		case none:
			return
		case loadInProgress, concurrent:
		default:
			t.Fatalf("answer %s", named(c))
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not come to an end")
		}
		<-time.After(time.Millisecond)
	}
}

// TestTwoBrokers has a transaction touch both brokers, and the coordinator asked from the other.
func TestTwoBrokers(t *testing.T) {
	p := startPair(t)
	p.refuse = 2
	var producer int64
	var epoch int16
	until(t, func() code {
		got := make(chan code, 1)
		p.first.Init(Init{ID: "tx", Timeout: time.Minute, Producer: -1, Epoch: -1}, func(id int64, e, c int16) { producer, epoch = id, e; got <- c })
		return <-got
	})
	p.second.Init(Init{ID: "tx", Timeout: time.Minute}, func(_ int64, _, c int16) {
		if c != notCoordinator {
			t.Errorf("the other broker answers a client with %s", named(c))
		}
	})
	ask := func(c *Coordinator, e int16, n int32, verify bool) code {
		each, err := c.AddPartitions(t.Context(), "tx", producer, e, []topic.Partition{ours(n)}, verify)
		if err == nil {
			err = each[ours(n)]
		}
		var refused *Refusal
		if errors.As(err, &refused) {
			return refused.Code
		}
		return none
	}
	for _, q := range []struct {
		from   *Coordinator
		epoch  int16
		part   int32
		verify bool
		want   code
	}{
		{p.second, epoch, 1, true, abortable}, {p.second, epoch, 1, false, none}, {p.second, epoch, 1, true, none},
		{p.first, epoch, 0, false, none}, {p.second, epoch, 0, true, none}, {p.second, epoch + 1, 1, false, producerFenced},
	} {
		if got := ask(q.from, q.epoch, q.part, q.verify); got != q.want {
			t.Errorf("partition %d, verify=%v: %s, want %s", q.part, q.verify, named(got), named(q.want))
		}
	}
	until(t, func() code {
		got := make(chan code, 1)
		p.first.End(End{ID: "tx", Producer: producer, Epoch: epoch, Commit: true, Version: 2}, func(_ int64, _, c int16) { got <- c })
		return <-got
	})
	until(t, func() code {
		d, why := p.first.Describe("tx")
		if why == none && d.State != CompleteCommit {
			return concurrent
		}
		return why
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]bool{fmt.Sprintf("t-0 on 1 commit=true epoch=%d", epoch+1): true, fmt.Sprintf("t-1 on 2 commit=true epoch=%d", epoch+1): true}
	if len(p.markers) != 2 || !want[p.markers[0]] || !want[p.markers[1]] || p.markers[0] == p.markers[1] {
		t.Errorf("markers %v, want one in each partition", p.markers)
	}
}
