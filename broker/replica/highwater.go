package replica

import (
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
)

// leadership is what the leader of one epoch knows about how far its partition is
// replicated. It is a value without clock, lock or disk; every method gives the high
// watermark after the event.
//
// Invariant: hw never goes back within a leadership; a new leadership begins with the
// highest one this replica has heard of.
type leadership struct {
	self     metadata.BrokerID
	epoch    record.Epoch
	start    record.Offset // log end when the epoch began (R5)
	isr      isr
	replicas int
	required int                                 // min.insync.replicas as set
	ends     map[metadata.BrokerID]record.Offset // log ends heard of in this epoch
	hw       record.Offset
}

// lead begins an epoch. end is the own log's durable end, hw the high watermark known so far.
func lead(self metadata.BrokerID, epoch record.Epoch, start, hw record.Offset) leadership {
	return leadership{
		self: self, epoch: epoch, start: start, required: 1,
		ends: make(map[metadata.BrokerID]record.Offset), hw: hw,
	}
}

// reached notes a replica's log end: this broker's own durable end, or the offset from
// which a follower fetched in this epoch (it has, durably, everything below).
func (l *leadership) reached(id metadata.BrokerID, end record.Offset) record.Offset {
	l.ends[id] = end
	return l.advance()
}

// members notes who is in sync, out of how many replicas.
func (l *leadership) members(s isr, replicas int) record.Offset {
	l.isr, l.replicas = s, replicas
	return l.advance()
}

// require notes a new min.insync.replicas.
func (l *leadership) require(setting int) record.Offset {
	l.required = setting
	return l.advance()
}

// enough tells whether acks=all may be promised now.
func (l *leadership) enough() bool { return l.isr.enough(minInSync(l.required, l.replicas)) }

// settled tells whether everything written before this epoch is known to be committed;
// before that "the latest offset" has no answer (R5).
func (l *leadership) settled() bool { return l.hw >= l.start }

func (l *leadership) advance() record.Offset {
	if !l.enough() {
		return l.hw
	}
	lowest := record.Offset(-1)
	for _, id := range l.isr.maximal() {
		end, heard := l.ends[id]
		if !heard {
			return l.hw
		}
		if lowest < 0 || end < lowest {
			lowest = end
		}
	}
	l.hw = max(l.hw, lowest)
	return l.hw
}
