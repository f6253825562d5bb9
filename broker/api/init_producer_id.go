package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// initProducerID answers InitProducerId 0–5 for idempotent producers: a fresh ID
// with epoch 0 (KIP-98). The ID that a producer had (3+, KIP-360) is of no use
// without a transactional ID.
func (a *API) initProducerID(r *wire.Request) {
	req := r.Body.(*kmsg.InitProducerIDRequest)
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		// The response has no room for a text; FindCoordinator, which comes before this, says it.
		resp.ErrorCode = kerr.InvalidRequest.Code
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	id, err := a.producers.next(ctx, a.producerBlock)
	resp.ErrorCode, _ = a.answer("InitProducerId", err)
	if err == nil {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// producerIDs hands out the IDs of the block that the controller gave this broker.
// Invariant: an ID is given out once in the life of the cluster; what is left of a
// block at a restart is lost.
type producerIDs struct {
	mu struct {
		sync.Mutex
		id, end int64
	}
}

func (p *producerIDs) next(ctx context.Context, block func(context.Context) (int64, int, error)) (int64, error) {
	// Why under the lock: those who come while a block is fetched need that very block.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.id == p.mu.end {
		start, n, err := block(ctx)
		if err != nil {
			return -1, err
		}
		p.mu.id, p.mu.end = start, start+int64(n)
	}
	id := p.mu.id
	p.mu.id++
	return id, nil
}
