package api_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// onePartition gives the answer of a fetch of one partition.
func onePartition(t *testing.T, c *rawClient, req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	t.Helper()
	resp := c.ask(req).(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("fetch is answered with %+v", resp)
	}
	return resp.Topics[0].Partitions[0]
}

func latest(t *testing.T, c *rawClient, partition int32, committed int8) int64 {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID, req.IsolationLevel = 5, -1, committed
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = "bells"
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, -1, -1
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	got := c.ask(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	code(t, got.ErrorCode, nil)
	return got.Offset
}

// TestTransactionRoad goes the whole way: begin, read on both levels, abort, commit.
func TestTransactionRoad(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	produced := c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 1, 0, "a", "b"), 2: txnBatch(t, 5, 1, 0, "c")})).(*kmsg.ProduceResponse)
	for _, p := range produced.Topics[0].Partitions {
		code(t, p.ErrorCode, nil)
	}
	want := []asked{{"t1", 5, 1, []topic.Partition{bells(0), bells(2)}, true}}
	if got := n.txns.questions(); !reflect.DeepEqual(got, want) {
		t.Fatalf("the coordinator was asked %+v, want %+v", got, want)
	}
	// What goes on needs no leave.
	p := c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 1, 2, "d")})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, nil)
	if p.BaseOffset != 2 || len(n.txns.questions()) != 1 {
		t.Errorf("the next batch lies at %d; the coordinator was asked %d times", p.BaseOffset, len(n.txns.questions()))
	}
	if got := onePartition(t, c, fetchBells(11, 0, 0, false, 0)); len(got.RecordBatches) == 0 || got.LastStableOffset != 0 || got.HighWatermark != 3 {
		t.Errorf("uncommitted: %d bytes, last stable %d, high watermark %d", len(got.RecordBatches), got.LastStableOffset, got.HighWatermark)
	}
	if got := onePartition(t, c, fetchBells(11, 0, 0, true, 0)); len(got.RecordBatches) != 0 || got.LastStableOffset != 0 {
		t.Errorf("committed: %d bytes, last stable %d before the end of the transaction", len(got.RecordBatches), got.LastStableOffset)
	}
	if u, r := latest(t, c, 0, 0), latest(t, c, 0, 1); u != 3 || r != 0 {
		t.Errorf("latest is %d, committed %d, want 3 and 0", u, r)
	}
	if got := end(c, 1, 5, 1, 7, false, 0); got[0] != 0 {
		t.Fatalf("the marker is refused with %d", got[0])
	}
	if got := end(c, 0, 5, 1, 7, true, 2, 9); got[0] != 0 || got[1] != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("the markers are answered with %d", got)
	}
	for _, v := range []int16{4, 11, 12, 13, 18} {
		got := onePartition(t, c, fetchBells(v, 0, 0, true, 0))
		if len(got.AbortedTransactions) != 1 || got.AbortedTransactions[0].ProducerID != 5 || got.AbortedTransactions[0].FirstOffset != 0 || got.LastStableOffset != 4 {
			t.Errorf("version %d: aborted %+v, last stable %d", v, got.AbortedTransactions, got.LastStableOffset)
		}
		got = onePartition(t, c, fetchBells(v, 2, 0, true, 0))
		if len(got.AbortedTransactions) != 0 || got.LastStableOffset != 2 || len(got.RecordBatches) == 0 {
			t.Errorf("version %d: of a committed transaction: aborted %+v, last stable %d", v, got.AbortedTransactions, got.LastStableOffset)
		}
	}
	if r := latest(t, c, 0, 1); r != 4 {
		t.Errorf("latest committed is %d, want 4", r)
	}
	if got := end(c, 1, 5, 1, 6, false, 0); got[0] != kerr.TransactionCoordinatorFenced.Code {
		t.Errorf("the marker of a deposed coordinator is answered with %d", got[0])
	}
	if got := end(c, 1, 5, 0, 7, false, 0); got[0] != kerr.InvalidProducerEpoch.Code {
		t.Errorf("the marker of an old epoch is answered with %d", got[0])
	}
}

func askWriteTxnMarkers(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("markers-%d", v)
	w.createTopic(t, name, 1)
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = v
	for _, producer := range []int64{5, -1} {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch = producer, 2, 3
		for _, n := range []string{name, "nowhere", "__transaction_state"} {
			mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
			mt.Topic, mt.Partitions = n, []int32{0}
			m.Topics = append(m.Topics, mt)
		}
		req.Markers = append(req.Markers, m)
	}
	resp := w.raw.ask(req).(*kmsg.WriteTxnMarkersResponse)
	if len(resp.Markers) != 2 || resp.Markers[0].ProducerID != 5 || len(resp.Markers[0].Topics) != 3 {
		t.Fatalf("the answer is %+v", resp)
	}
	for i, want := range []*kerr.Error{nil, kerr.UnknownTopicOrPartition, kerr.InvalidTopicException} {
		code(t, resp.Markers[0].Topics[i].Partitions[0].ErrorCode, want)
		code(t, resp.Markers[1].Topics[i].Partitions[0].ErrorCode, kerr.InvalidRequest)
	}
	req.Markers[0].CoordinatorEpoch = 2
	again := w.raw.ask(req).(*kmsg.WriteTxnMarkersResponse)
	code(t, again.Markers[0].Topics[0].Partitions[0].ErrorCode, kerr.TransactionCoordinatorFenced)
}

// TestMarkerEpochs: since transaction.version 2 each end of a transaction has an epoch of its own (KIP-1228).
func TestMarkerEpochs(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	c.ask(txnProduce(12, "t1", map[int32][]byte{0: txnBatch(t, 5, 1, 0, "a")}))
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = 2
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.TransactionVersion = 5, 2
	mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = "bells", []int32{0}
	m.Topics = append(m.Topics, mt)
	req.Markers = append(req.Markers, m)
	for _, tt := range []struct {
		epoch int16
		want  *kerr.Error
	}{{1, kerr.InvalidProducerEpoch}, {2, nil}, {2, nil}, {1, kerr.InvalidProducerEpoch}} {
		req.Markers[0].ProducerEpoch = tt.epoch
		code(t, c.ask(req).(*kmsg.WriteTxnMarkersResponse).Markers[0].Topics[0].Partitions[0].ErrorCode, tt.want)
	}
	p := c.ask(txnProduce(12, "t1", map[int32][]byte{0: txnBatch(t, 5, 1, 1, "late")})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.InvalidProducerEpoch)
}

// TestDescribeOpenTransaction shows what KIP-664's tools look for.
func TestDescribeOpenTransaction(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	describe := func() kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
		req := kmsg.NewPtrDescribeProducersRequest()
		rt := kmsg.NewDescribeProducersRequestTopic()
		rt.Topic, rt.Partitions = "bells", []int32{1}
		req.Topics = append(req.Topics, rt)
		p := c.ask(req).(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0]
		code(t, p.ErrorCode, nil)
		if len(p.ActiveProducers) != 1 {
			t.Fatalf("producers %+v", p.ActiveProducers)
		}
		return p.ActiveProducers[0]
	}
	c.ask(txnProduce(9, "t1", map[int32][]byte{1: txnBatch(t, 5, 1, 0, "a", "b")}))
	if p := describe(); p.CurrentTxnStartOffset != 0 || p.CoordinatorEpoch != -1 || p.LastSequence != 1 {
		t.Errorf("while the transaction is open: %+v", p)
	}
	end(c, 1, 5, 1, 7, false, 1)
	if p := describe(); p.CurrentTxnStartOffset != -1 || p.CoordinatorEpoch != 7 {
		t.Errorf("after its end: %+v", p)
	}
}

// TestVerificationKeepsOrder: what a producer sends while the coordinator is asked waits
// its turn, and nobody else waits.
func TestVerificationKeepsOrder(t *testing.T) {
	n := startTxnNode(t)
	leave := make(chan struct{})
	n.txns.says(func(q asked) (map[topic.Partition]error, error) { <-leave; return agree(q) })
	c, other := dialRaw(t, n.addr), dialRaw(t, n.addr)
	var wants []int32
	const several = 4
	for i := range int32(several) {
		wants = append(wants, c.send(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, i, "x")})))
	}
	plain := c.send(produceRequest(9, "bells", batchOf("plain", 1000)))
	n.reached(0, 1) // the plain one, which came last, is in the log
	p := other.ask(txnProduce(9, "t2", map[int32][]byte{1: batchOf("y", 1000)})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, nil)
	close(leave)
	for i, want := range wants {
		got, body, err := c.frame()
		if err != nil || got != want {
			t.Fatalf("answer %d: %d, want %d: %v", i, got, want, err)
		}
		p := c.decode(produceRequest(9, "", nil), body).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		code(t, p.ErrorCode, nil)
		if p.BaseOffset != int64(i+1) {
			t.Errorf("batch %d lies at offset %d", i, p.BaseOffset)
		}
	}
	if got, _, err := c.frame(); err != nil || got != plain {
		t.Fatal(got, err)
	}
	if q := n.txns.questions(); len(q) != 1 {
		t.Errorf("the coordinator was asked %d times: %+v", len(q), q)
	}
}

// TestLateLeave: a batch whose transaction was ended while the coordinator was asked
// begins no new one, which nobody would end; the coordinator is asked again.
func TestLateLeave(t *testing.T) {
	n := startTxnNode(t)
	leave, come := make(chan struct{}), make(chan struct{})
	first := true
	n.txns.says(func(q asked) (map[topic.Partition]error, error) {
		if !first {
			return nil, kafkaError{kerr.TransactionAbortable}
		}
		first = false
		close(come)
		<-leave
		return agree(q)
	})
	c, other := dialRaw(t, n.addr), dialRaw(t, n.addr)
	c.send(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 0, "x")}))
	<-come
	if got := end(other, 1, 5, 0, 1, false, 0); got[0] != 0 {
		t.Fatal(got)
	}
	close(leave)
	_, body, err := c.frame()
	if err != nil {
		t.Fatal(err)
	}
	p := c.decode(produceRequest(9, "", nil), body).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.InvalidTxnState)
	if end := n.log(0).End(); end != 1 {
		t.Errorf("the log ends at %d, want the marker only", end)
	}
}

// TestVerificationRefused checks what each Produce version is told.
func TestVerificationRefused(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	tests := []struct {
		says    *kerr.Error
		version int16
		want    *kerr.Error
	}{
		{kerr.TransactionAbortable, 9, kerr.InvalidTxnState},
		{kerr.TransactionAbortable, 10, kerr.InvalidTxnState},
		{kerr.TransactionAbortable, 11, kerr.TransactionAbortable},
		{kerr.TransactionAbortable, 12, kerr.TransactionAbortable},
		{kerr.ConcurrentTransactions, 11, kerr.NotEnoughReplicas},
		{kerr.ConcurrentTransactions, 12, kerr.ConcurrentTransactions},
		{kerr.ConcurrentTransactions, 13, kerr.ConcurrentTransactions},
		{kerr.CoordinatorLoadInProgress, 9, kerr.NotEnoughReplicas},
		{kerr.NotCoordinator, 12, kerr.NotEnoughReplicas},
		{kerr.CoordinatorNotAvailable, 12, kerr.NotEnoughReplicas},
		{kerr.ProducerFenced, 9, kerr.InvalidProducerEpoch},
		{kerr.InvalidProducerIDMapping, 12, kerr.InvalidProducerIDMapping},
		{kerr.InvalidTxnState, 12, kerr.InvalidTxnState},
	}
	for _, tt := range tests {
		for _, each := range []bool{true, false} {
			n.txns.says(func(q asked) (map[topic.Partition]error, error) {
				if !each {
					return nil, kafkaError{tt.says}
				}
				return map[topic.Partition]error{bells(0): kafkaError{tt.says}}, nil
			})
			p := c.ask(txnProduce(tt.version, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 0, "x")})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
			if p.ErrorCode != tt.want.Code {
				t.Errorf("the coordinator says %v, Produce %d is told %v, want %v", tt.says.Message, tt.version, kerr.ErrorForCode(p.ErrorCode), tt.want.Message)
			}
			questions := n.txns.questions()
			if q := questions[len(questions)-1]; q.verifyOnly != (tt.version < 12) {
				t.Errorf("Produce %d: only verified is %v", tt.version, q.verifyOnly)
			}
		}
	}
	n.txns.says(func(asked) (map[topic.Partition]error, error) { return nil, nil })
	p := c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 0, "x")})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.NotEnoughReplicas)
	p = c.ask(produceRequest(9, "bells", txnBatch(t, 5, 0, 0, "x"))).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.TransactionalIDAuthorizationFailed)
	if end := n.log(0).End(); end != 0 {
		t.Errorf("the log ends at %d, want nothing in it", end)
	}
	// After a refusal, a batch that is not the first must not begin the transaction.
	n.txns.says(nil)
	p = c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 1, "x")})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.OutOfOrderSequenceNumber)
}

// TestCommittedFetchWaits: a delayed fetch hears of the end of a transaction, and of what it aborted.
func TestCommittedFetchWaits(t *testing.T) {
	n := startTxnNode(t)
	c, reader := dialRaw(t, n.addr), dialRaw(t, n.addr)
	c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 0, "x")}))
	began := time.Now()
	reader.send(fetchBells(11, 0, 0, true, patience))
	// It waits: what is not committed does not wake it, however much there is.
	c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 1, "y")}))
	end(c, 1, 5, 0, 1, false, 0)
	_, body, err := reader.frame()
	if err != nil || time.Since(began) > patience/2 {
		t.Fatalf("no answer after %v: %v", time.Since(began), err)
	}
	p := reader.decode(fetchBells(11, 0, 0, true, 0), body).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if len(p.AbortedTransactions) != 1 || p.LastStableOffset != 3 || len(p.RecordBatches) == 0 {
		t.Errorf("the answer is %+v", p)
	}
}

// TestCommittedFetchInSession: an incremental fetch tells of a partition whose last stable offset moved, and names
// what was aborted in what it gives.
func TestCommittedFetchInSession(t *testing.T) {
	n := startTxnNode(t)
	c, reader := dialRaw(t, n.addr), dialRaw(t, n.addr)
	c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 0, 0, "x")}))
	first := fetchBells(12, 0, 0, true, 0)
	first.SessionEpoch = 0
	opened := reader.ask(first).(*kmsg.FetchResponse)
	if opened.SessionID == 0 || opened.Topics[0].Partitions[0].LastStableOffset != 0 {
		t.Fatalf("the session begins with %+v", opened)
	}
	next := kmsg.NewPtrFetchRequest()
	next.Version, next.MinBytes, next.MaxBytes, next.IsolationLevel = 12, 1, 1<<20, 1
	next.SessionID, next.SessionEpoch = opened.SessionID, 1
	if resp := reader.ask(next).(*kmsg.FetchResponse); len(resp.Topics) != 0 {
		t.Errorf("nothing changed, and the answer is %+v", resp.Topics)
	}
	end(c, 1, 5, 0, 1, false, 0)
	next.SessionEpoch = 2
	resp := reader.ask(next).(*kmsg.FetchResponse)
	if len(resp.Topics) != 1 {
		t.Fatalf("the transaction ended, and the answer is %+v", resp)
	}
	p := resp.Topics[0].Partitions[0]
	if p.LastStableOffset != 2 || len(p.AbortedTransactions) != 1 || len(p.RecordBatches) == 0 {
		t.Errorf("the partition is answered with %+v", p)
	}
}

// TestOldConsumersSeeNoMarkers reads over markers in the formats that have none.
func TestOldConsumersSeeNoMarkers(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	for i := range int32(3) {
		end(c, 1, 5, int16(i), 1, false, 0)
	}
	c.ask(txnProduce(9, "t1", map[int32][]byte{0: txnBatch(t, 5, 2, 0, "x")}))
	end(c, 1, 5, 2, 1, true, 0)
	for v := range int16(4) {
		req := fetchBells(v, 0, 0, false, 0)
		req.Topics[0].Partitions[0].PartitionMaxBytes = 1 // a batch at a time
		p := onePartition(t, c, req)
		if !record.Legacy(p.RecordBatches) {
			t.Fatalf("version %d: %x", v, p.RecordBatches)
		}
		b, err := record.Convert(p.RecordBatches, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if h, err := record.ReadHeader(b); err != nil || h.Count != 1 {
			t.Errorf("version %d: %d records, %v", v, h.Count, err)
		}
		if p := onePartition(t, c, fetchBells(v, 0, 4, false, 0)); len(p.RecordBatches) != 0 || p.HighWatermark != 5 {
			t.Errorf("version %d: at the marker in the end: %x", v, p.RecordBatches)
		}
	}
}

// TestClientsWriteNoMarkers: a control batch in a Produce request stays outside.
func TestClientsWriteNoMarkers(t *testing.T) {
	n := startTxnNode(t)
	c := dialRaw(t, n.addr)
	m := record.Marker{ProducerID: 5, Commit: true}
	p := c.ask(txnProduce(9, "t1", map[int32][]byte{0: m.Batch(1000)})).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	code(t, p.ErrorCode, kerr.InvalidRecord)
	if len(n.txns.questions()) != 0 || n.log(0).End() != 0 {
		t.Error("it came further than the door")
	}
}
