package api

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// bytesOf puts the pieces of a response together.
func bytesOf(w *fetchWriter, session int32, results []result) []byte {
	var out []byte
	for _, p := range w.body(session, results) {
		out = append(out, p.Bytes...)
	}
	return out
}

func sampleResults() []result {
	id1, id2 := topic.ID{1}, topic.ID{2}
	at := func(name string, id topic.ID, p int32) wanted {
		return wanted{name: topic.Partition{Topic: name, Partition: p}, id: id}
	}
	return []result{
		{want: at("a", id1, 0), got: replica.Fetched{HighWatermark: 10, LastStable: 9, LogStart: 2}, old: []byte("records")},
		{want: at("b", id2, 7), got: replica.Fetched{HighWatermark: -1, LastStable: -1, LogStart: -1}, code: kerr.NotLeaderForPartition.Code},
		{want: at("a", id1, 3), got: replica.Fetched{HighWatermark: 5, LastStable: 5, LogStart: 0}, diverged: true, endEpoch: 4, endOffset: 3},
	}
}

// elsewhere gives an API whose partition b-7 is led by another broker, at leader.test:9093 for
// the listener of the request.
func elsewhere(t *testing.T) (*API, *wire.Request) {
	t.Helper()
	state := metadata.Partition{Leader: 2, LeaderEpoch: 5, Replicas: []metadata.BrokerID{2}, ISR: []metadata.BrokerID{2}}
	records := []metadata.Record{
		&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 2, Epoch: 1, Rack: "r", Endpoints: []metadata.Endpoint{
			{Listener: "INSIDE", Host: "inside.test", Port: 9092}, {Listener: "CLIENTS", Host: "leader.test", Port: 9093},
		}}},
		&metadata.TopicCreated{Name: "b", ID: topic.ID{2}},
	}
	for n := range int32(8) {
		records = append(records, &metadata.PartitionCreated{Topic: topic.ID{2}, Number: n, State: state})
	}
	img, err := metadata.Empty().Fold(1, records)
	if err != nil {
		t.Fatal(err)
	}
	a := &API{image: func() *metadata.Image { return img }, replicas: noReplicas{}, log: slog.New(slog.DiscardHandler)}
	return a, &wire.Request{Session: &wire.Session{Listener: "CLIENTS"}}
}

// noReplicas is a broker that holds no partition.
type noReplicas struct{}

func (noReplicas) Partition(topic.Partition) (*replica.Partition, error) {
	return nil, replica.ErrUnknownPartition
}

// A client that looks for a leader here is told where it is (KIP-951).
func TestProduceTellsTheLeader(t *testing.T) {
	a, r := elsewhere(t)
	for v := int16(9); v <= 13; v++ {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks = v, -1
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic, rt.TopicID = "b", topic.ID{2}
		req.Topics = append(req.Topics, rt)
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition = 7
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
		c := a.produceCall(r, req, 1)
		slot := c.slots[0].answer
		_, err := a.produceTo(&req.Topics[0], 7, req)
		slot.ErrorCode, slot.ErrorMessage = a.answer("Produce", err)
		c.lead(&c.slots[0], err)
		c.leaders()
		if slot.ErrorCode != kerr.NotLeaderForPartition.Code || slot.CurrentLeader.LeaderID != 2 || slot.CurrentLeader.LeaderEpoch != 5 {
			t.Errorf("version %d: %+v, want leader 2 in epoch 5", v, slot)
		}
		if told := len(c.resp.Brokers) == 1 && c.resp.Brokers[0].Host == "leader.test" && c.resp.Brokers[0].Port == 9093; told != (v >= 10) {
			t.Errorf("version %d: brokers %+v", v, c.resp.Brokers)
		}
	}
}

// A response written by hand must read as the protocol's own codec reads it, in
// every version.
func TestFetchResponseReadsBack(t *testing.T) {
	api, request := elsewhere(t)
	for v := int16(0); v <= 18; v++ {
		w := fetchWriter{version: v, api: api, r: request}
		results := sampleResults()
		if v < 13 {
			for i := range results {
				results[i].want.id = topic.ID{}
			}
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = v
		b := bytesOf(&w, 77, results)
		if err := resp.ReadFrom(b); err != nil {
			t.Fatalf("version %d: cannot read response: %v", v, err)
		}
		if again := resp.AppendTo(nil); string(again) != string(b) {
			t.Errorf("version %d: codec writes\n%x, we wrote\n%x", v, again, b)
		}
		if v >= 7 && resp.SessionID != 77 {
			t.Errorf("version %d: session %d, want 77", v, resp.SessionID)
		}
		if len(resp.Topics) != 2 || len(resp.Topics[0].Partitions) != 2 {
			t.Fatalf("version %d: topics %+v, want a with two partitions and b", v, resp.Topics)
		}
		p := resp.Topics[0].Partitions[0]
		if p.HighWatermark != 10 || string(p.RecordBatches) != "records" || v >= 4 && p.LastStableOffset != 9 || v >= 5 && p.LogStartOffset != 2 {
			t.Errorf("version %d: first partition %+v", v, p)
		}
		if q := resp.Topics[0].Partitions[1]; q.RecordBatches == nil || len(q.RecordBatches) != 0 {
			t.Errorf("version %d: records of an empty partition are %v, want empty and not null", v, q.RecordBatches)
		}
		if q := resp.Topics[0].Partitions[1]; v >= 12 && (q.DivergingEpoch.Epoch != 4 || q.DivergingEpoch.EndOffset != 3) {
			t.Errorf("version %d: diverging epoch %+v, want 4 ending at 3", v, q.DivergingEpoch)
		}
		if code := resp.Topics[1].Partitions[0].ErrorCode; code != kerr.NotLeaderForPartition.Code {
			t.Errorf("version %d: code %d of second topic", v, code)
		}
		if l := resp.Topics[1].Partitions[0].CurrentLeader; v >= 12 && (l.LeaderID != 2 || l.LeaderEpoch != 5) {
			t.Errorf("version %d: leader %+v, want 2 in epoch 5", v, l)
		}
		if told := len(resp.Brokers) == 1 && resp.Brokers[0].Host == "leader.test" && *resp.Brokers[0].Rack == "r"; told != (v >= 16) {
			t.Errorf("version %d: brokers %+v", v, resp.Brokers)
		}
	}
}

func TestFetchErrorReadsBack(t *testing.T) {
	for v := int16(7); v <= 18; v++ {
		w := fetchWriter{version: v}
		w.head(0, kerr.FetchSessionIDNotFound.Code)
		w.arrayLen(0)
		w.tags()
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = v
		if err := resp.ReadFrom(w.b); err != nil {
			t.Fatalf("version %d: cannot read response: %v", v, err)
		}
		if resp.ErrorCode != kerr.FetchSessionIDNotFound.Code || len(resp.Topics) != 0 {
			t.Errorf("version %d: got %+v", v, resp)
		}
	}
}
