package api_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// asked is one question to the transactions' coordinator.
type asked struct {
	id         string
	producer   int64
	epoch      int16
	parts      []topic.Partition
	verifyOnly bool
}

// fakeTransactions is a coordinator that answers when and what the test says.
type fakeTransactions struct {
	api.Transactions // what is not asked for
	mu               sync.Mutex
	asked            []asked
	answer           func(asked) (map[topic.Partition]error, error)
}

func (f *fakeTransactions) AddPartitions(_ context.Context, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	q := asked{id, producer, epoch, slices.Clone(parts), verifyOnly}
	f.mu.Lock()
	f.asked = append(f.asked, q)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		return answer(q)
	}
	return agree(q)
}

// says sets what is answered from now on.
func (f *fakeTransactions) says(answer func(asked) (map[topic.Partition]error, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeTransactions) questions() []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// agree is a coordinator's consent to every partition.
func agree(q asked) (map[topic.Partition]error, error) {
	out := map[topic.Partition]error{}
	for _, p := range q.parts {
		out[p] = nil
	}
	return out, nil
}

// kafkaError is an error as the coordinator gives it.
type kafkaError struct{ code *kerr.Error }

func (e kafkaError) Error() string { return e.code.Message }
func (e kafkaError) Kafka() int16  { return e.code.Code }

// txnNode is as much of a broker as the road of transactional records takes.
type txnNode struct {
	t    testing.TB
	set  *replica.Set
	api  *api.API
	txns *fakeTransactions
	addr string
}

const bellsPartitions = 3

var bellsID = topic.ID{7}

func bells(n int32) topic.Partition { return topic.Partition{Topic: "bells", Partition: n} }

func startTxnNode(t testing.TB) *txnNode {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := storage.Open(storage.Options{FS: disk.NewMemory(0), Dirs: []string{"/data"}, NodeID: 1, Now: time.Now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	values := config.Defaults()
	n := &txnNode{t: t, txns: &fakeTransactions{}}
	n.set = replica.New(replica.Options{
		Node: 1, Store: store, Stats: stats.New(), Logger: log, Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values { return config.TopicValues(values, nil, nil, nil, 1) },
	})
	records := []metadata.Record{&metadata.TopicCreated{Name: "bells", ID: bellsID}}
	for i := range int32(bellsPartitions) {
		records = append(records, &metadata.PartitionCreated{Topic: bellsID, Number: i, State: metadata.Partition{
			Leader: 1, Replicas: []metadata.BrokerID{1}, ISR: []metadata.BrokerID{1}, Dirs: make([]topic.ID, 1),
		}})
	}
	img, err := metadata.Empty().Fold(1, records)
	if err != nil {
		t.Fatal(err)
	}
	n.api, err = api.New(api.Options{
		Node: 1, File: values, Settings: func() *config.Values { return values }, Image: func() *metadata.Image { return img },
		Replicas: n.set, Disks: store, Transactions: n.txns, Logger: log, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = door.Addr().String()
	server, err := wire.New(wire.Options{Listeners: []wire.Listener{{Name: "PLAINTEXT", Net: door}}, Handler: n.api, Versions: n.api.Versions, Logger: log, Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	wg.Go(func() { _ = n.set.Run(ctx) })
	wg.Go(func() { _ = server.Run(ctx) })
	t.Cleanup(func() {
		n.api.Close()
		cancel()
		wg.Wait()
		_ = store.Close()
	})
	if err := n.set.Apply(nil, img); err != nil {
		t.Fatal(err)
	}
	return n
}

// log gives the log under a partition.
func (n *txnNode) log(partition int32) *storage.Log {
	n.t.Helper()
	p, err := n.set.Partition(bells(partition))
	if err != nil {
		n.t.Fatal(err)
	}
	return p.Log()
}

// txnBatch makes a transactional batch.
func txnBatch(t *testing.T, id int64, epoch int16, seq int32, values ...string) []byte {
	return batch(t, record.None, func(b *record.Builder) {
		sequence(id, epoch, seq)(b)
		b.Header.Attributes = record.TransactionalBit
	}, []byte("k"), values...)
}

// txnProduce asks to produce one batch to each of some partitions.
func txnProduce(version int16, id string, batches map[int32][]byte) *kmsg.ProduceRequest {
	req := produceRequest(version, "bells", nil)
	req.TransactionID = &id
	t := &req.Topics[0]
	t.TopicID, t.Partitions = bellsID, nil
	for n := range int32(bellsPartitions) {
		if b := batches[n]; b != nil {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = n, b
			t.Partitions = append(t.Partitions, p)
		}
	}
	return req
}

// end has a marker written.
func end(c *rawClient, version int16, id int64, epoch int16, coordinator int32, commit bool, partitions ...int32) []int16 {
	c.t.Helper()
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = version
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Committed = id, epoch, coordinator, commit
	mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = "bells", partitions
	m.Topics = append(m.Topics, mt)
	req.Markers = append(req.Markers, m)
	resp := c.ask(req).(*kmsg.WriteTxnMarkersResponse)
	var codes []int16
	for _, p := range resp.Markers[0].Topics[0].Partitions {
		codes = append(codes, p.ErrorCode)
	}
	return codes
}

// fetchBells asks for one partition.
func fetchBells(version int16, partition int32, offset int64, committed bool, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = version, int32(wait.Milliseconds()), 1, 1<<20
	if committed {
		req.IsolationLevel = 1
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = "bells", bellsID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// reached waits until a partition's high watermark is there.
func (n *txnNode) reached(partition int32, high record.Offset) {
	n.t.Helper()
	brokertest.Eventually(n.t, "the high watermark moves", func() bool {
		p, err := n.set.Partition(bells(partition))
		return err == nil && p.HighWatermark() >= high
	})
}
