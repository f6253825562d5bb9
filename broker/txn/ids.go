package txn

import (
	"context"
	"sync"
)

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
