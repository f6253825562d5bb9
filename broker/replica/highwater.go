package replica

import (
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
)

// leadership is what the leader of one epoch knows about how far its partition is
// replicated. It is a value without clock, lock or disk.
//
// Invariant: hw never goes back within a leadership; a new leadership begins with the
// highest one this replica has heard of.
type leadership struct {
	self     metadata.BrokerID
	epoch    record.Epoch
	start    record.Offset // log end when the epoch began (R5)
	isr      isr
	replicas []metadata.BrokerID
	required int           // min.insync.replicas as set
	end      record.Offset // the own durable end; -1: not said yet
	others   map[metadata.BrokerID]*follower
	hw       record.Offset
	flaws    flaws
}

// follower is what its leader knows of another replica.
type follower struct {
	end    record.Offset // it has everything below, durably; -1: it has not fetched in this epoch
	start  record.Offset // its log start; -1: not said
	epoch  int64         // its broker epoch when it fetched; -1: not said
	caught time.Time     // when it last had everything that there was
	asked  time.Time     // when it fetched last, and where this log ended then
	saw    record.Offset
	// knocked: its last fetch would have let it join, had it been in service.
	knocked bool
}

// fetched is a follower's fetch as far as it tells of the follower.
type fetched struct {
	broker      metadata.BrokerID
	brokerEpoch int64 // -1: not said
	offset      record.Offset
	start       record.Offset
	logEnd      record.Offset // of this log when it was read
	now         time.Time
}

// lead begins an epoch. start is the own log's end, hw the high watermark known so far.
func lead(self metadata.BrokerID, epoch record.Epoch, start, hw record.Offset) leadership {
	return leadership{
		self: self, epoch: epoch, start: start, required: 1, end: -1,
		others: make(map[metadata.BrokerID]*follower), hw: hw,
	}
}

// reached notes this broker's own durable end and gives the high watermark after it.
func (l *leadership) reached(end record.Offset) record.Offset {
	l.end = end
	return l.advance()
}

// note takes in what a follower's fetch says of it: it has, durably, everything below the
// offset, in this epoch's history.
//
// Errors: ErrNotReplica, ErrStaleBroker.
func (l *leadership) note(f fetched) error {
	o := l.others[f.broker]
	if o == nil {
		return ErrNotReplica
	}
	if f.brokerEpoch >= 0 && f.brokerEpoch < o.epoch {
		return ErrStaleBroker // a process of before, whose disk is another's now (KIP-903)
	}
	// Why two ways: who is at the end now has caught up now; who is where the end was when
	// it asked last had caught up then. Without the second, a follower of a busy leader
	// would never be there.
	switch {
	case f.offset >= f.logEnd:
		o.caught = f.now
	case o.end >= 0 && f.offset >= o.saw && o.asked.After(o.caught):
		o.caught = o.asked
	}
	o.asked, o.saw = f.now, f.logEnd
	o.end, o.start, o.epoch = f.offset, f.start, max(o.epoch, f.brokerEpoch)
	l.advance()
	return nil
}

// members notes who is in sync, out of which replicas. A replica that is new in the set
// counts as caught up now: it has its time to fetch.
func (l *leadership) members(s isr, replicas []metadata.BrokerID, now time.Time) record.Offset {
	for id := range l.others {
		if !contains(replicas, id) {
			delete(l.others, id)
		}
	}
	for _, id := range replicas {
		if id == l.self {
			continue
		}
		o := l.others[id]
		if o == nil {
			o = &follower{end: -1, start: -1, epoch: -1}
			l.others[id] = o
		}
		if contains(s.maximal(), id) && !contains(l.isr.maximal(), id) {
			o.caught = now
		}
	}
	l.isr, l.replicas = s, replicas
	return l.advance()
}

// registered notes a follower's newest registration; changed tells that it was not known. What
// an earlier process of that broker had says nothing of the new one's log.
func (l *leadership) registered(id metadata.BrokerID, epoch int64) (changed bool) {
	o := l.others[id]
	if o == nil || epoch <= o.epoch || l.flaws.zombies {
		return false
	}
	if o.epoch >= 0 {
		o.end, o.knocked = -1, false
	}
	o.epoch = epoch
	return true
}

// require notes a new min.insync.replicas.
func (l *leadership) require(setting int) record.Offset {
	l.required = setting
	return l.advance()
}

// enough tells whether acks=all may be promised now.
func (l *leadership) enough() bool { return l.isr.enough(minInSync(l.required, len(l.replicas))) }

// settled tells whether everything written before this epoch is known to be committed;
// before that "the latest offset" has no answer (R5).
func (l *leadership) settled() bool { return l.hw >= l.start }

// slow gives the committed members that have not caught up for longer than patience.
func (l *leadership) slow(now time.Time, logEnd record.Offset, patience time.Duration) (out []metadata.BrokerID) {
	for _, id := range l.isr.committed {
		o := l.others[id]
		if o == nil || o.end == logEnd || now.Sub(o.caught) <= patience {
			continue
		}
		out = append(out, id)
	}
	return out
}

// joins tells whether a follower has what a member of the in-sync set must have (R8): a
// fetch in this epoch, from the high watermark or above and from this epoch's start or above.
//
// Why not only after the high watermark has reached the epoch's start: with fewer members
// than min.insync.replicas it stands still until somebody joins.
func (l *leadership) joins(id metadata.BrokerID) bool {
	o := l.others[id]
	return o != nil && o.end >= 0 && o.end >= l.hw && o.end >= l.start && !contains(l.isr.maximal(), id)
}

// behind gives how many records the slowest other replica lacks, as far as it is known.
func (l *leadership) behind(logEnd record.Offset) (most record.Offset) {
	for _, o := range l.others {
		if o.end >= 0 {
			most = max(most, logEnd-o.end)
		}
	}
	return most
}

// lowStart gives the smallest log start of all replicas, -1 if a member's is not known. One
// that is out of sync and silent does not count: it will take over the leader's.
func (l *leadership) lowStart(own record.Offset) record.Offset {
	set := l.isr.maximal()
	for id, o := range l.others {
		if o.start >= 0 || contains(set, id) {
			own = min(own, o.start)
		}
	}
	return own
}

func (l *leadership) advance() record.Offset {
	if !l.enough() {
		return l.hw
	}
	lowest := l.end
	set := l.isr.maximal()
	if l.flaws.committedOnly {
		set = l.isr.committed
	}
	for _, id := range set {
		if id == l.self {
			continue
		}
		o := l.others[id]
		if o == nil {
			return l.hw
		}
		lowest = min(lowest, o.end)
	}
	l.hw = max(l.hw, lowest)
	return l.hw
}
