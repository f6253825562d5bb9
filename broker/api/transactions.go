package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Transactions coordinates transactions; a reply func is called once, from any goroutine,
// with Kafka's error codes.
type Transactions interface {
	ProducerID(ctx context.Context) (int64, error)
	Init(r txn.Init, reply func(producer int64, epoch, code int16))
	Add(id string, producer int64, epoch int16, parts []topic.Partition, version int16, reply func(code int16))
	Verify(id string, producer int64, epoch int16, parts []topic.Partition) (why int16, of map[topic.Partition]int16)
	// AddPartitions takes partitions into a producer's ongoing transaction, or with verifyOnly
	// tells whether they are in it (KIP-890), and gives what became of each.
	//
	// Errors: what keeps it from asking the coordinator; each error has a Kafka code.
	AddPartitions(ctx context.Context, id string, producerID int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error)
	End(r txn.End, reply func(producer int64, epoch, code int16))
	Describe(id string) (d txn.Description, why int16)
	List() (ds []txn.Description, now int64, loading bool)
}

// Versions of requests that stand for transaction.version 2 (KIP-890, part 2): the partition
// need not be added before, and each end raises the epoch.
const (
	implicitOffsets = 5 // TxnOffsetCommit
	bumpingEnd      = 5 // EndTxn
	brokersAdd      = 4 // AddPartitionsToTxn: several transactions, from brokers only
	abortableCommit = 4 // TxnOffsetCommit: TRANSACTION_ABORTABLE is understood
)

// addPartitionsToTxn answers AddPartitionsToTxn 0–5: from clients, and since 4 from brokers
// for several transactions at once, or to verify only (KIP-890).
func (a *API) addPartitionsToTxn(r *wire.Request) {
	req := r.Body.(*kmsg.AddPartitionsToTxnRequest)
	if r.Version >= brokersAdd {
		a.addForBroker(r, req)
		return
	}
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	var parts []topic.Partition
	refused := false
	for _, t := range req.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition, rp.ErrorCode = n, a.mayWrite(t.Topic, n)
			refused = refused || rp.ErrorCode != 0
			rt.Partitions = append(rt.Partitions, rp)
			parts = append(parts, topic.Partition{Topic: t.Topic, Partition: n})
		}
		resp.Topics = append(resp.Topics, rt)
	}
	answer := func(code int16) {
		code = fencedFor(code, r.Version, txnFenced)
		var seen first
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				p := &resp.Topics[i].Partitions[j]
				if p.ErrorCode == 0 {
					p.ErrorCode = code
				}
				seen.see(p.ErrorCode)
			}
		}
		r.Answer(wire.Message(resp, int16(seen)))
	}
	if refused {
		answer(kerr.OperationNotAttempted.Code)
		return
	}
	a.transactions.Add(req.TransactionalID, req.ProducerID, req.ProducerEpoch, parts, 0, answer)
}

// mayWrite tells why a transaction cannot write to a partition.
func (a *API) mayWrite(name string, partition int32) int16 {
	if topic.IsInternal(name) {
		return kerr.InvalidTopicException.Code
	}
	if t := a.image().Topic(name); t == nil || partition < 0 || int(partition) >= len(t.Partitions) {
		return kerr.UnknownTopicOrPartition.Code
	}
	return 0
}

// addForBroker answers a broker that leads partitions which transactions want.
func (a *API) addForBroker(r *wire.Request, req *kmsg.AddPartitionsToTxnRequest) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Transactions = make([]kmsg.AddPartitionsToTxnResponseTransaction, len(req.Transactions))
	var wait sync.WaitGroup
	for i, t := range req.Transactions {
		var parts []topic.Partition
		for _, rt := range t.Topics {
			for _, n := range rt.Partitions {
				parts = append(parts, topic.Partition{Topic: rt.Topic, Partition: n})
			}
		}
		fill := func(why int16, of map[topic.Partition]int16) {
			resp.Transactions[i] = addedFor(t, why, of)
		}
		if t.VerifyOnly {
			fill(a.transactions.Verify(t.TransactionalID, t.ProducerID, t.ProducerEpoch, parts))
			continue
		}
		if why := a.missing(parts); why != 0 {
			fill(why, nil)
			continue
		}
		wait.Add(1)
		a.transactions.Add(t.TransactionalID, t.ProducerID, t.ProducerEpoch, parts, 2, func(code int16) {
			fill(code, nil)
			wait.Done()
		})
	}
	if !a.later(func() {
		wait.Wait()
		r.Answer(wire.Message(resp, 0))
	}) {
		resp.Transactions = nil
		out := kmsg.NewPtrAddPartitionsToTxnResponse()
		out.ErrorCode = kerr.CoordinatorNotAvailable.Code
		r.Answer(wire.Message(out, out.ErrorCode))
	}
}

// missing tells why partitions cannot become part of a transaction on a broker's wish: some
// are not there. A group's offsets may.
func (a *API) missing(parts []topic.Partition) int16 {
	for _, p := range parts {
		t := a.image().Topic(p.Topic)
		if t == nil || p.Partition < 0 || int(p.Partition) >= len(t.Partitions) || p.Topic == topic.TransactionState {
			return kerr.UnknownTopicOrPartition.Code
		}
	}
	return 0
}

func addedFor(t kmsg.AddPartitionsToTxnRequestTransaction, why int16, of map[topic.Partition]int16) kmsg.AddPartitionsToTxnResponseTransaction {
	out := kmsg.NewAddPartitionsToTxnResponseTransaction()
	out.TransactionalID = t.TransactionalID
	for _, rt := range t.Topics {
		ot := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		ot.Topic = rt.Topic
		for _, n := range rt.Partitions {
			op := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			op.Partition, op.ErrorCode = n, why
			if why == 0 {
				op.ErrorCode = of[topic.Partition{Topic: rt.Topic, Partition: n}]
			}
			ot.Partitions = append(ot.Partitions, op)
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}

// addOffsetsToTxn answers AddOffsetsToTxn 0–4: the partition of __consumer_offsets that a
// group lives in becomes part of the transaction.
func (a *API) addOffsetsToTxn(r *wire.Request) {
	req := r.Body.(*kmsg.AddOffsetsToTxnRequest)
	answer := func(code int16) {
		resp := kmsg.NewPtrAddOffsetsToTxnResponse()
		resp.ErrorCode = fencedFor(code, r.Version, txnFenced)
		r.Answer(wire.Message(resp, resp.ErrorCode))
	}
	t, err := a.internal(r.Context(), topic.ConsumerOffsets)
	if err != nil {
		code, _ := a.answer("AddOffsetsToTxn", err)
		answer(code)
		return
	}
	part := topic.Partition{Topic: t.Name, Partition: journal.PartitionOf(req.Group, len(t.Partitions))}
	a.transactions.Add(req.TransactionalID, req.ProducerID, req.ProducerEpoch, []topic.Partition{part}, 0, answer)
}

// endTxn answers EndTxn 0–5; since 5 the answer has the ID and the epoch to go on with
// (KIP-890).
func (a *API) endTxn(r *wire.Request) {
	req := r.Body.(*kmsg.EndTxnRequest)
	end := txn.End{ID: req.TransactionalID, Producer: req.ProducerID, Epoch: req.ProducerEpoch, Commit: req.Commit}
	if r.Version >= bumpingEnd {
		end.Version = 2
	}
	a.transactions.End(end, func(producer int64, epoch, code int16) {
		resp := kmsg.NewPtrEndTxnResponse()
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = producer, epoch, fencedFor(code, r.Version, txnFenced)
		r.Answer(wire.Message(resp, resp.ErrorCode))
	})
}

// txnOffsetCommit answers TxnOffsetCommit 0–5.
func (a *API) txnOffsetCommit(r *wire.Request) {
	req := r.Body.(*kmsg.TxnOffsetCommitRequest)
	verify := func(p topic.Partition, answer func(int16)) {
		if !a.later(func() {
			ctx, cancel := context.WithTimeout(a.closing, patience)
			defer cancel()
			each, err := a.transactions.AddPartitions(ctx, req.TransactionalID, req.ProducerID, req.ProducerEpoch, []topic.Partition{p}, r.Version < implicitOffsets)
			if err == nil {
				err = each[p]
			}
			answer(verdictFor(codeOf(err), r.Version))
		}) {
			answer(kerr.CoordinatorNotAvailable.Code)
		}
	}
	a.groups.TxnOffsetCommit(req, verify, func(resp *kmsg.TxnOffsetCommitResponse) {
		var code first
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				code.see(p.ErrorCode)
			}
		}
		r.Answer(wire.Message(resp, int16(code)))
	})
}

// verdictFor turns the refusal of a transaction's coordinator into what a client of that
// TxnOffsetCommit version handles rightly as the group coordinator's.
// Source: KIP-890; Kafka's AddPartitionsToTxnManager and TxnOffsetCommit response.
func verdictFor(code, version int16) int16 {
	switch code {
	case kerr.ProducerFenced.Code:
		return kerr.InvalidProducerEpoch.Code
	case kerr.TransactionAbortable.Code:
		if version < abortableCommit {
			return kerr.InvalidTxnState.Code
		}
	case kerr.ConcurrentTransactions.Code:
		if version < implicitOffsets {
			return kerr.CoordinatorNotAvailable.Code
		}
	case kerr.CoordinatorLoadInProgress.Code, kerr.NotCoordinator.Code, kerr.RequestTimedOut.Code:
		return kerr.CoordinatorNotAvailable.Code
	}
	return code
}
