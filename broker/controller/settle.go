package controller

import (
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// situation is what counts when it is decided who leads a partition and who is in sync.
type situation struct {
	active  func(metadata.BrokerID) bool // in service and not about to stop
	min     int                          // min.insync.replicas
	unclean bool                         // a replica that is not in sync may lead if no other can
	prefer  bool                         // the preferred replica takes over if it is in sync
	// lost is a broker that came back without having stopped cleanly: its copy may miss
	// what it had. NoBroker: none.
	lost metadata.BrokerID
}

// settle gives what becomes of a partition when isr is proposed as its replicas in sync;
// changed is false if all stays as it was. It is a pure function.
//
// Who is not active leaves the ISR. When that leaves fewer than min.insync.replicas, the
// leaver is kept as one that may lead (ELR): without it nothing more was acknowledged, so
// it has all that was (KIP-966). Elected is, in the order of the replicas: from the ISR,
// else from the ELR, else, if that is allowed, from all (R13). A move is finished when all
// new replicas are in sync and enough of those that stay are (R15).
func settle(p metadata.Partition, isr []metadata.BrokerID, s situation) (result metadata.Partition, changed bool) {
	next := moving{p}
	in := func(id metadata.BrokerID) bool { return s.active(id) && id != s.lost }
	next.ISR = only(isr, in)
	finished := next.finishMove(s)
	least := max(1, min(s.min, len(next.Replicas)))
	next.ELR = nil
	if len(next.ISR) < least {
		next.ELR = only(next.Replicas, func(id metadata.BrokerID) bool {
			had := slices.Contains(p.ELR, id) || slices.Contains(p.ISR, id)
			return had && !slices.Contains(next.ISR, id)
		})
		// Why the last one stays: nobody has more than it.
		if rest := without(next.ELR, s.lost); len(rest)+len(next.ISR) > 0 {
			next.ELR = rest
		}
	}
	next.chooseLeader(s)
	if len(next.ISR) >= least {
		next.ELR = nil
	}
	if next.Leader != p.Leader || finished {
		next.LeaderEpoch++
	}
	changed = finished || next.Leader != p.Leader || !slices.Equal(next.ISR, p.ISR) || !slices.Equal(next.ELR, p.ELR)
	if changed {
		next.PartitionEpoch++
	}
	return next.Partition, changed
}

// moving is a partition's state on its way to the next one. Its lists may be shared
// with the image: they are replaced, never written to.
type moving struct{ metadata.Partition }

// finishMove ends a reassignment if its new replicas are all in sync.
func (next *moving) finishMove(s situation) bool {
	if len(next.Adding)+len(next.Removing) == 0 {
		return false
	}
	stays := only(next.Replicas, func(id metadata.BrokerID) bool { return !slices.Contains(next.Removing, id) })
	isr := only(next.ISR, func(id metadata.BrokerID) bool { return slices.Contains(stays, id) })
	for _, id := range next.Adding {
		if !slices.Contains(isr, id) {
			return false
		}
	}
	if len(isr) < max(1, min(s.min, len(stays))) {
		return false
	}
	next.place(stays)
	next.ISR, next.Adding, next.Removing = isr, nil, nil
	return true
}

// place gives the partition these replicas; each that it had keeps its directory.
func (next *moving) place(replicas []metadata.BrokerID) {
	if len(next.Dirs) > 0 {
		dirs := make([]topic.ID, len(replicas))
		for i, id := range replicas {
			if at := slices.Index(next.Replicas, id); at >= 0 {
				dirs[i] = next.Dirs[at]
			}
		}
		next.Dirs = dirs
	}
	next.Replicas = slices.Clone(replicas)
}

// chooseLeader keeps the leader if it is in sync, and else elects one.
func (next *moving) chooseLeader(s situation) {
	inSync := func(id metadata.BrokerID) bool { return slices.Contains(next.ISR, id) }
	switch {
	case s.prefer && inSync(next.Replicas[0]):
		next.Leader = next.Replicas[0]
		return
	case inSync(next.Leader):
		return
	}
	// Why those that stay first: who is being moved away would lead for a short time only.
	order := slices.Concat(without(next.Replicas, next.Removing...), next.Removing)
	if at := slices.IndexFunc(order, inSync); at >= 0 {
		next.Leader = order[at]
		return
	}
	may := func(id metadata.BrokerID) bool { return slices.Contains(next.ELR, id) && s.active(id) }
	at := slices.IndexFunc(order, may)
	if at >= 0 {
		next.Leader, next.ISR, next.ELR = order[at], []metadata.BrokerID{order[at]}, without(next.ELR, order[at])
		return
	}
	if at = slices.IndexFunc(order, s.active); at >= 0 && s.unclean {
		next.Leader, next.ISR, next.ELR = order[at], []metadata.BrokerID{order[at]}, nil // what the others have beyond it is lost
		return
	}
	next.Leader = metadata.NoBroker
}

// only gives the brokers for which keep says so; the list itself stays as it is.
func only(ids []metadata.BrokerID, keep func(metadata.BrokerID) bool) (kept []metadata.BrokerID) {
	for _, id := range ids {
		if keep(id) {
			kept = append(kept, id)
		}
	}
	return kept
}

func without(ids []metadata.BrokerID, drop ...metadata.BrokerID) []metadata.BrokerID {
	return only(ids, func(id metadata.BrokerID) bool { return !slices.Contains(drop, id) })
}
