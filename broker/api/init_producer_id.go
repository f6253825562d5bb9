package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Versions from which on the producer of an old epoch hears PRODUCER_FENCED; before that it
// is INVALID_PRODUCER_EPOCH.
// Source: KIP-588.
const (
	initFenced = 4
	txnFenced  = 2 // of AddPartitionsToTxn, AddOffsetsToTxn, EndTxn
)

// fencedFor gives the code that a client of that version knows for an old epoch.
func fencedFor(code, version, since int16) int16 {
	if code == kerr.ProducerFenced.Code && version < since {
		return kerr.InvalidProducerEpoch.Code
	}
	return code
}

// initProducerID answers InitProducerId 0–5. An idempotent producer gets a fresh ID with
// epoch 0 (KIP-98); what it had (3+, KIP-360) is of no use without a transactional ID. A
// transactional one gets the next epoch of its transactional ID.
func (a *API) initProducerID(r *wire.Request) {
	req := r.Body.(*kmsg.InitProducerIDRequest)
	resp := kmsg.NewPtrInitProducerIDResponse()
	answer := func(id int64, epoch, code int16) {
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = id, epoch, fencedFor(code, r.Version, initFenced)
		r.Answer(wire.Message(resp, resp.ErrorCode))
	}
	if (req.ProducerID < 0) != (req.ProducerEpoch < 0) {
		answer(-1, -1, kerr.InvalidRequest.Code)
		return
	}
	if req.TransactionalID != nil {
		// The response has no room for a text; FindCoordinator, which comes before this, says it.
		a.transactions.Init(txn.Init{
			ID: *req.TransactionalID, Timeout: time.Duration(req.TransactionTimeoutMillis) * time.Millisecond,
			Producer: req.ProducerID, Epoch: req.ProducerEpoch,
		}, answer)
		return
	}
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	id, err := a.transactions.ProducerID(ctx)
	code, _ := a.answer("InitProducerId", err)
	if err != nil {
		answer(-1, -1, code)
		return
	}
	answer(id, 0, 0)
}
