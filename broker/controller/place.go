package controller

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// Spot is a broker as placement sees it.
type Spot struct {
	ID     metadata.BrokerID
	Rack   string
	Fenced bool
}

// Place gives the replicas of each partition, the preferred leader first. It is a
// pure function of its arguments and of what rnd gives.
//
// Leaders go round all brokers in service from a random start, so no broker
// leads two partitions more than another; the distance from the leader to its
// followers grows with every round, so pairs of brokers mix. Racks take turns, and
// a partition uses a rack twice only when it has used all. Fenced brokers are
// used only where there are not enough others, and never lead.
//
// Requires: 1 ≤ replicas ≤ len(spots), one spot not fenced.
func Place(spots []Spot, partitions, replicas int, rnd *rand.Rand) [][]metadata.BrokerID {
	live := slices.DeleteFunc(slices.Clone(spots), func(s Spot) bool { return s.Fenced })
	rest := slices.DeleteFunc(slices.Clone(spots), func(s Spot) bool { return !s.Fenced })
	if replicas < 1 || replicas > len(spots) || len(live) == 0 {
		panic("BUG: Place cannot place what it was asked to")
	}
	live, rest = alternate(live), alternate(rest)
	racks := make(map[string]bool)
	for _, s := range spots {
		racks[s.Rack] = true
	}
	start, shift := rnd.IntN(len(live)), rnd.IntN(len(live))
	placed := make([][]metadata.BrokerID, partitions)
	for p := range placed {
		if p > 0 && p%len(live) == 0 {
			shift++
		}
		leader := (start + p) % len(live)
		order := followers(live, leader, shift)
		for i := range rest {
			order = append(order, rest[(start+p+i)%len(rest)])
		}
		placed[p] = choose(live[leader], order, replicas, len(racks))
	}
	return placed
}

// alternate puts spots in an order in which racks take turns.
func alternate(spots []Spot) []Spot {
	slices.SortFunc(spots, func(a, b Spot) int { return cmp.Or(cmp.Compare(a.Rack, b.Rack), cmp.Compare(a.ID, b.ID)) })
	turn := make(map[metadata.BrokerID]int) // the spot's place in its rack
	inRack := make(map[string]int)
	for _, s := range spots {
		turn[s.ID] = inRack[s.Rack]
		inRack[s.Rack]++
	}
	slices.SortStableFunc(spots, func(a, b Spot) int { return cmp.Compare(turn[a.ID], turn[b.ID]) })
	return spots
}

// followers gives the other live spots in the order in which they are tried.
func followers(live []Spot, leader, shift int) []Spot {
	others := len(live) - 1
	order := make([]Spot, 0, len(live))
	for i := range others {
		order = append(order, live[(leader+1+(shift+i)%others)%len(live)])
	}
	return order
}

// choose takes the leader and the first of order that bring a new rack, then,
// when all racks are used, the first that are left.
func choose(leader Spot, order []Spot, replicas, racks int) []metadata.BrokerID {
	ids := []metadata.BrokerID{leader.ID}
	used := map[string]bool{leader.Rack: true}
	// Invariant: order has every spot but the leader, live ones first.
	for len(ids) < replicas {
		at := slices.IndexFunc(order, func(s Spot) bool { return !s.Fenced && !used[s.Rack] })
		if at < 0 && len(used) < racks {
			// Why a fenced broker only now: a copy in service beats one in another rack.
			at = slices.IndexFunc(order, func(s Spot) bool { return !s.Fenced })
		}
		if at < 0 {
			at = 0
		}
		ids = append(ids, order[at].ID)
		used[order[at].Rack] = true
		order = slices.Delete(order, at, at+1)
	}
	return ids
}
