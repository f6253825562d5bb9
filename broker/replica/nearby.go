package replica

import (
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// Serves tells whether a consumer that believes in this leader epoch (-1: it did not say)
// may read here: from the leader, and with anywhere from a follower too (KIP-392).
//
// Errors: those of CheckLeader.
func (p *Partition) Serves(epoch record.Epoch, anywhere bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.checkLeaderLocked(epoch)
	if anywhere && err == ErrNotLeader && p.mu.leader != metadata.NoBroker {
		return nil
	}
	return err
}

// ReadNearby is Read for a consumer that may read from a follower: there, what lies above
// this replica's end may well be in the leader's log.
//
// Errors: as Read; ErrOffsetNotAvailable above a follower's end.
func (p *Partition) ReadNearby(from record.Offset, max int, minOne, committed bool) (Fetched, error) {
	if err := p.Serves(-1, true); err != nil {
		return Fetched{}, err
	}
	got, err := p.read(from, max, minOne, committed)
	if err == storage.ErrOffsetOutOfRange && from > got.LogStart && p.CheckLeader(-1) != nil {
		err = ErrOffsetNotAvailable
	}
	return got, err
}

// Preferred gives the replica from which a consumer in that rack had better read the offset
// on: one in sync, in the same rack, that has it, the most advanced of them (KIP-392).
// NoBroker: this one, the leader.
func (p *Partition) Preferred(rack string, from record.Offset) metadata.BrokerID {
	if own := p.cluster.broker(p.self); own == nil || own.Rack == rack {
		return metadata.NoBroker
	}
	best, end := metadata.NoBroker, record.Offset(-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.lead == nil {
		return metadata.NoBroker
	}
	for _, id := range p.mu.lead.isr.committed {
		o := p.mu.lead.others[id]
		if o == nil || o.end < from || o.start > from || o.end <= end {
			continue
		}
		if b := p.cluster.broker(id); b != nil && !b.Fenced && b.Rack == rack {
			best, end = id, o.end
		}
	}
	return best
}
