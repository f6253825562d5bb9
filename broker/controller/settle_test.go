package controller

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// TestSettleKeepsItsPromises plays random lives of one partition.
func TestSettleKeepsItsPromises(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		p := metadata.Partition{Replicas: []metadata.BrokerID{1, 2, 3}, ISR: []metadata.BrokerID{1, 2, 3}, Leader: 1}
		for range 12 {
			s := situation{min: 1 + rnd.IntN(4), unclean: rnd.IntN(8) == 0, prefer: rnd.IntN(4) == 0, lost: metadata.NoBroker}
			up := rnd.IntN(64)
			s.active = func(id metadata.BrokerID) bool { return up&(1<<id) != 0 }
			if rnd.IntN(4) == 0 {
				s.lost = metadata.BrokerID(1 + rnd.IntN(4))
				up &^= 1 << s.lost
			}
			isr := p.ISR
			if p.Leader >= 0 && rnd.IntN(2) == 0 { // its leader found others in sync
				isr = only(p.Replicas, func(id metadata.BrokerID) bool { return id == p.Leader || rnd.IntN(2) == 0 })
			}
			if rnd.IntN(6) == 0 {
				p.Adding, p.Removing = []metadata.BrokerID{4}, []metadata.BrokerID{p.Replicas[0]}
				p.Replicas = slices.Concat(without(p.Replicas, 4), p.Adding)
				if slices.Contains(p.ISR, 4) || p.Replicas[0] == 4 {
					p.Adding, p.Removing = nil, nil
				}
			}
			next, changed := settle(p, isr, s)
			promises(t, p, next, isr, changed, s)
			p = next
		}
	}
}

func promises(t *testing.T, p, next metadata.Partition, isr []metadata.BrokerID, changed bool, s situation) {
	t.Helper()
	fail := func(what string) { t.Helper(); t.Fatalf("%s:\n%+v, proposed %v\n%+v", what, p, isr, next) }
	lead := next.Leader
	switch {
	case lead != metadata.NoBroker && (!slices.Contains(next.ISR, lead) || !s.active(lead)):
		fail("the leader is not in sync or not active")
	case lead == metadata.NoBroker && len(next.ISR) > 0:
		fail("in sync with nobody")
	case lead != p.Leader && next.LeaderEpoch == p.LeaderEpoch:
		fail("two leaders of one epoch")
	case changed != (next.PartitionEpoch == p.PartitionEpoch+1) || !changed && next.PartitionEpoch != p.PartitionEpoch:
		fail("the partition epoch does not tell of the change")
	case len(next.ISR) >= max(1, min(s.min, len(next.Replicas))) && len(next.ELR) > 0:
		fail("an ELR with enough in sync")
	case len(p.ISR)+len(p.ELR) > 0 && len(next.ISR)+len(next.ELR) == 0:
		fail("nobody is left who may lead")
	}
	for _, id := range next.ISR {
		if !slices.Contains(next.Replicas, id) || !s.active(id) || slices.Contains(next.ELR, id) {
			fail("who may not be in sync is")
		}
		grown := !slices.Contains(isr, id) && !slices.Contains(p.ELR, id) && !slices.Contains(p.ISR, id)
		if grown && !s.unclean {
			fail("the ISR grew by itself")
		}
	}
	for _, id := range next.ELR {
		if !slices.Contains(p.ELR, id) && !slices.Contains(p.ISR, id) {
			fail("who was not in sync may lead")
		}
	}
}
