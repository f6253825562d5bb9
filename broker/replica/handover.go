package replica

import (
	"context"
	"time"
)

// lately is how long a broker that resigned knows better than a client that asks it.
const lately = time.Second

// AwaitLead waits until this broker leads, unless it resigned just now, or its role changes
// otherwise, or ctx ends. It says nothing: who asks looks again.
//
// Why: when a leader resigns, its clients hear at once who is next, and may ask that one
// before it has heard so itself. A refusal would cost them the whole wait that they have
// between two tries, many times what a change of the metadata takes to get here.
func (p *Partition) AwaitLead(ctx context.Context) {
	p.mu.Lock()
	if p.mu.gone != nil || p.mu.lead != nil || p.now().Sub(p.mu.resigned) < lately {
		p.mu.Unlock()
		return
	}
	if p.mu.turn == nil {
		p.mu.turn = make(chan struct{})
	}
	turn := p.mu.turn
	p.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
	}
}

// turnedLocked tells those in AwaitLead that the role is another one. Requires: mu is held.
func (p *Partition) turnedLocked() {
	if p.mu.turn != nil {
		close(p.mu.turn)
		p.mu.turn = nil
	}
}
