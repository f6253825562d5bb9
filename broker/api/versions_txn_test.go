package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// findTransactions makes the topic of transactional IDs and waits until a coordinator serves.
func (w *world) findTransactions(t *testing.T, id string) {
	t.Helper()
	topic := kmsg.NewPtrCreateTopicsRequest()
	topic.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: "ended", NumPartitions: 1, ReplicationFactor: 1}}
	w.raw.ask(topic) // there or made
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey, find.CoordinatorType = 1, id, 1
	if resp := w.raw.ask(find).(*kmsg.FindCoordinatorResponse); resp.ErrorCode != 0 {
		t.Fatalf("cannot find coordinator: %+v", resp)
	}
	brokertest.Eventually(t, "the coordinator has loaded", func() bool {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{id}
		return w.raw.ask(req).(*kmsg.DescribeTransactionsResponse).TransactionStates[0].ErrorCode != kerr.CoordinatorLoadInProgress.Code
	})
}

// producer gives the next epoch of a transactional ID.
func (w *world) producer(t *testing.T, id string) *kmsg.InitProducerIDResponse {
	t.Helper()
	w.findTransactions(t, id)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = 4, &id, 60_000
	var resp *kmsg.InitProducerIDResponse
	brokertest.Eventually(t, "nobody's transaction is being ended", func() bool {
		resp = w.raw.ask(req).(*kmsg.InitProducerIDResponse)
		return resp.ErrorCode != kerr.ConcurrentTransactions.Code
	})
	code(t, resp.ErrorCode, nil)
	return resp
}

// fenced is what the producer of an old epoch hears from a version on, and before.
func fenced(v, since int16) *kerr.Error {
	if v < since {
		return kerr.InvalidProducerEpoch
	}
	return kerr.ProducerFenced
}

func askInitTransactions(t *testing.T, w *world, v int16) {
	w.findTransactions(t, "init")
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = v, kmsg.StringPtr("init"), 60_000
	one := w.raw.ask(req).(*kmsg.InitProducerIDResponse)
	two := w.raw.ask(req).(*kmsg.InitProducerIDResponse)
	code(t, one.ErrorCode, nil)
	code(t, two.ErrorCode, nil)
	if one.ProducerID < 0 || one.ProducerID != two.ProducerID || one.ProducerEpoch+1 != two.ProducerEpoch {
		t.Errorf("producers %+v and %+v, want one ID and the next epoch", one, two)
	}
	if v >= 3 {
		req.ProducerID, req.ProducerEpoch = one.ProducerID, one.ProducerEpoch
		code(t, w.raw.ask(req).(*kmsg.InitProducerIDResponse).ErrorCode, fenced(v, 4))
		req.ProducerEpoch = -1
		code(t, w.raw.ask(req).(*kmsg.InitProducerIDResponse).ErrorCode, kerr.InvalidRequest)
	}
	req = kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = v, kmsg.StringPtr(""), 60_000
	code(t, w.raw.ask(req).(*kmsg.InitProducerIDResponse).ErrorCode, kerr.InvalidRequest)
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("init"), 900_001
	code(t, w.raw.ask(req).(*kmsg.InitProducerIDResponse).ErrorCode, kerr.InvalidTransactionTimeout)
}

func addTopic(name string, parts ...int32) kmsg.AddPartitionsToTxnRequestTopic {
	t := kmsg.NewAddPartitionsToTxnRequestTopic()
	t.Topic, t.Partitions = name, parts
	return t
}

func askAddPartitionsToTxn(t *testing.T, w *world, v int16) {
	p := w.producer(t, "add")
	if v >= 4 {
		askAddForBrokers(t, w, v, p)
		return
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = v, "add", p.ProducerID, p.ProducerEpoch
	req.Topics = append(req.Topics, addTopic("ended", 0))
	codes := func() (out []int16) {
		for _, t := range w.raw.ask(req).(*kmsg.AddPartitionsToTxnResponse).Topics {
			for _, p := range t.Partitions {
				out = append(out, p.ErrorCode)
			}
		}
		return out
	}
	if got := codes(); !slices.Equal(got, []int16{0}) {
		t.Errorf("codes %v", got)
	}
	req.Topics = append(req.Topics, addTopic("nowhere", 0), addTopic("ended", 99), addTopic("__consumer_offsets", 0))
	want := []int16{kerr.OperationNotAttempted.Code, kerr.UnknownTopicOrPartition.Code, kerr.UnknownTopicOrPartition.Code, kerr.InvalidTopicException.Code}
	if got := codes(); !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
	req.Topics = req.Topics[:1]
	req.ProducerEpoch--
	if got := codes(); !slices.Equal(got, []int16{fenced(v, 2).Code}) {
		t.Errorf("codes %v for an old epoch", got)
	}
	req.ProducerID += 1000
	if got := codes(); !slices.Equal(got, []int16{kerr.InvalidProducerIDMapping.Code}) {
		t.Errorf("codes %v for another producer", got)
	}
	req.TransactionalID = ""
	if got := codes(); !slices.Equal(got, []int16{kerr.InvalidRequest.Code}) {
		t.Errorf("codes %v without a transactional ID", got)
	}
}

func askAddForBrokers(t *testing.T, w *world, v int16, p *kmsg.InitProducerIDResponse) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = v
	for _, verify := range []bool{true, false} {
		one := kmsg.NewAddPartitionsToTxnRequestTransaction()
		one.TransactionalID, one.ProducerID, one.ProducerEpoch, one.VerifyOnly = "add", p.ProducerID, p.ProducerEpoch, verify
		one.Topics = []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "ended", Partitions: []int32{0}}}
		req.Transactions = append(req.Transactions, one)
	}
	ask := func(want ...*kerr.Error) {
		t.Helper()
		resp := w.raw.ask(req).(*kmsg.AddPartitionsToTxnResponse)
		code(t, resp.ErrorCode, nil)
		for i, tx := range resp.Transactions {
			code(t, tx.Topics[0].Partitions[0].ErrorCode, want[i])
		}
	}
	ask(kerr.TransactionAbortable, nil)
	ask(nil, nil)
	req.Transactions[0].ProducerEpoch--
	req.Transactions[1].ProducerID += 1000
	ask(kerr.ProducerFenced, kerr.InvalidProducerIDMapping)
	req.Transactions[1].Topics[0].Topic = "nowhere"
	ask(kerr.ProducerFenced, kerr.UnknownTopicOrPartition)
}

func askAddOffsetsToTxn(t *testing.T, w *world, v int16) {
	p := w.producer(t, "offsets")
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = v, "offsets", p.ProducerID, p.ProducerEpoch, "g"
	code(t, w.raw.ask(req).(*kmsg.AddOffsetsToTxnResponse).ErrorCode, nil)
	req.ProducerEpoch--
	code(t, w.raw.ask(req).(*kmsg.AddOffsetsToTxnResponse).ErrorCode, fenced(v, 2))
}

func askEndTxn(t *testing.T, w *world, v int16) {
	for _, commit := range []bool{true, false} {
		p := w.producer(t, "end")
		add := kmsg.NewPtrAddPartitionsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch = "end", p.ProducerID, p.ProducerEpoch
		add.Topics = append(add.Topics, addTopic("ended", 0))
		w.raw.ask(add)
		req := kmsg.NewPtrEndTxnRequest()
		req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = v, "end", p.ProducerID, p.ProducerEpoch, commit
		for range 2 { // the second time as if the answer was lost
			resp := w.raw.ask(req).(*kmsg.EndTxnResponse)
			code(t, resp.ErrorCode, nil)
			if v >= 5 && (resp.ProducerID != p.ProducerID || resp.ProducerEpoch != p.ProducerEpoch+1) {
				t.Errorf("goes on with %d/%d, was %d/%d", resp.ProducerID, resp.ProducerEpoch, p.ProducerID, p.ProducerEpoch)
			}
		}
		req.Commit = !commit
		code(t, w.raw.ask(req).(*kmsg.EndTxnResponse).ErrorCode, kerr.InvalidTxnState)
		req.ProducerEpoch += 5
		code(t, w.raw.ask(req).(*kmsg.EndTxnResponse).ErrorCode, fenced(v, 2))
	}
}

func askTxnOffsetCommit(t *testing.T, w *world, v int16) {
	p := w.producer(t, "commit")
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = v, "commit", p.ProducerID, p.ProducerEpoch, "txn"
	req.Generation = -1
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset, part.Metadata = int64(v)+10, kmsg.StringPtr("m")
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.TxnOffsetCommitRequestTopicPartition{part}
	req.Topics = append(req.Topics, topic)
	ask := func(want *kerr.Error) {
		t.Helper()
		code(t, w.raw.ask(req).(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode, want)
	}
	if v < 5 { // since then the broker adds it
		refused := kerr.InvalidTxnState
		if v >= 4 {
			refused = kerr.TransactionAbortable
		}
		ask(refused)
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = "commit", p.ProducerID, p.ProducerEpoch, "txn"
		code(t, w.raw.ask(add).(*kmsg.AddOffsetsToTxnResponse).ErrorCode, nil)
	}
	ask(nil)
	if v >= 3 {
		req.Generation, req.MemberID = 7, "nobody"
		ask(kerr.UnknownMemberID)
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version, fetch.Group, fetch.RequireStable = 7, "txn", true
	fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	fetched := func() kmsg.OffsetFetchResponseTopicPartition {
		return w.raw.ask(fetch).(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0]
	}
	code(t, fetched().ErrorCode, kerr.UnstableOffsetCommit)
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "commit", p.ProducerID, p.ProducerEpoch, true
	code(t, w.raw.ask(end).(*kmsg.EndTxnResponse).ErrorCode, nil)
	brokertest.Eventually(t, "the offset counts", func() bool { return fetched().Offset == part.Offset })
}

func askDescribeTransactions(t *testing.T, w *world, v int16) {
	p := w.producer(t, "tx")
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = "tx", p.ProducerID, p.ProducerEpoch
	add.Topics = append(add.Topics, addTopic("ended", 0))
	w.raw.ask(add)
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.Version, req.TransactionalIDs = v, []string{"tx", "", "nobody"}
	resp := w.raw.ask(req).(*kmsg.DescribeTransactionsResponse)
	code(t, resp.TransactionStates[0].ErrorCode, nil)
	code(t, resp.TransactionStates[1].ErrorCode, kerr.InvalidRequest)
	code(t, resp.TransactionStates[2].ErrorCode, kerr.TransactionalIDNotFound)
	s := resp.TransactionStates[0]
	if s.TransactionalID != "tx" || s.State != "Ongoing" || s.ProducerID != p.ProducerID || s.ProducerEpoch != p.ProducerEpoch ||
		s.TimeoutMillis != 60_000 || s.StartTimestamp <= 0 || len(s.Topics) != 1 || !slices.Equal(s.Topics[0].Partitions, []int32{0}) {
		t.Errorf("described as %+v", s)
	}
}

func askListTransactions(t *testing.T, w *world, v int16) {
	p := w.producer(t, "listed")
	req := kmsg.NewPtrListTransactionsRequest()
	req.Version, req.StateFilters, req.ProducerIDFilters = v, []string{"Empty", "Nonsense"}, []int64{p.ProducerID}
	ids := func() (out []string) {
		resp := w.raw.ask(req).(*kmsg.ListTransactionsResponse)
		code(t, resp.ErrorCode, nil)
		if !slices.Equal(resp.UnknownStateFilters, req.StateFilters[1:]) {
			t.Errorf("unknown filters %v", resp.UnknownStateFilters)
		}
		for _, s := range resp.TransactionStates {
			if s.ProducerID != p.ProducerID || s.TransactionState != "Empty" {
				t.Errorf("listed as %+v", s)
			}
			out = append(out, s.TransactionalID)
		}
		return out
	}
	if got := ids(); !slices.Equal(got, []string{"listed"}) {
		t.Errorf("listed %v", got)
	}
	req.StateFilters = []string{"Ongoing"}
	if got := ids(); len(got) != 0 {
		t.Errorf("listed %v as ongoing", got)
	}
	req.StateFilters = []string{"Empty"}
	if v >= 1 {
		req.DurationFilterMillis = 0
		if got := ids(); len(got) != 0 {
			t.Errorf("listed %v as running", got)
		}
		req.DurationFilterMillis = -1
	}
	if v >= 2 {
		for pattern, want := range map[string]int{"list.*": 1, "": 1, "list": 0} {
			req.TransactionalIDPattern = &pattern
			if got := ids(); len(got) != want {
				t.Errorf("pattern %q lists %v", pattern, got)
			}
		}
		for _, bad := range []string{"a(", strings.Repeat("a", 5000)} {
			req.TransactionalIDPattern = &bad
			code(t, w.raw.ask(req).(*kmsg.ListTransactionsResponse).ErrorCode, kerr.InvalidRegularExpression)
		}
	}
}
