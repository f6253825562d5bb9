package balance

import (
	"cmp"
	"fmt"
	"slices"
)

// Broker is one that may hold replicas. Brokers without a rack count as one rack.
type Broker struct {
	ID   int32
	Rack string
}

// Partition is one as it is now.
type Partition struct {
	Topic    string
	Number   int32
	Replicas []int32 // the preferred leader first
	Bytes    int64   // of one replica
	Fixed    bool    // it stays as it is; where it lies counts for the others
}

// Request says what should be balanced over which brokers.
type Request struct {
	Brokers    []Broker
	Partitions []Partition
	Factor     int // replicas of each partition; 0: as many as it has
}

// Move is one partition's change.
type Move struct {
	Topic  string
	Number int32
	From   []int32 // the replicas it has
	To     []int32 // those it should have, the preferred leader first
	Bytes  int64   // of one replica
}

// Adds gives the brokers that have to copy the partition.
func (m Move) Adds() []int32 {
	return slices.DeleteFunc(slices.Clone(m.To), func(b int32) bool { return slices.Contains(m.From, b) })
}

// Plan gives the moves after which replicas and leaders are even, those with the most bytes
// first. The same request always gives the same plan.
//
// Errors: no broker, one named twice, more replicas wished than there are brokers, a
// partition without replicas and without a wished number.
func Plan(r Request) ([]Move, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s := newState(r)
	for i := range s.parts {
		if !s.parts[i].Fixed {
			s.trim(i)
		}
	}
	for i := range s.parts {
		if !s.parts[i].Fixed {
			s.fill(i)
			s.spread(i)
		}
	}
	s.evenReplicas()
	s.evenLeaders()
	return s.moves(), nil
}

func (r Request) check() error {
	if len(r.Brokers) == 0 {
		return fmt.Errorf("cannot plan without brokers: name at least one")
	}
	seen := map[int32]bool{}
	for _, b := range r.Brokers {
		if seen[b.ID] {
			return fmt.Errorf("cannot plan with broker %d twice: name it once", b.ID)
		}
		seen[b.ID] = true
	}
	if r.Factor < 0 || r.Factor > len(r.Brokers) {
		return fmt.Errorf("cannot plan %d replicas on %d brokers: want 1 to %d", r.Factor, len(r.Brokers), len(r.Brokers))
	}
	for _, p := range r.Partitions {
		if n := len(p.Replicas); r.Factor == 0 && !p.Fixed && (n == 0 || n > len(r.Brokers)) {
			return fmt.Errorf("cannot keep the %d replicas of partition %d of topic %q on %d brokers: name more brokers or another number of replicas", n, p.Number, p.Topic, len(r.Brokers))
		}
	}
	return nil
}

// state is a plan in the making. Brokers are numbered by their place in brokers.
type state struct {
	brokers []Broker
	racks   int
	parts   []part
	held    []bag // by broker: the parts it holds, those first that cost least to take away
	led     []bag // by broker: the parts it leads
}

type part struct {
	Partition
	factor int
	on     []int // brokers; on[0] leads
	was    map[int]bool
}

func newState(r Request) *state {
	s := &state{brokers: slices.SortedFunc(slices.Values(r.Brokers), func(a, b Broker) int { return cmp.Compare(a.ID, b.ID) })}
	at := map[int32]int{}
	racks := map[string]bool{}
	for i, b := range s.brokers {
		at[b.ID], racks[b.Rack] = i, true
	}
	s.held, s.led = make([]bag, len(s.brokers)), make([]bag, len(s.brokers))
	s.racks = len(racks)
	for i, p := range r.Partitions {
		w := part{Partition: p, factor: cmp.Or(r.Factor, len(p.Replicas)), was: map[int]bool{}}
		for _, id := range p.Replicas {
			if b, ok := at[id]; ok && !w.was[b] {
				w.on, w.was[b] = append(w.on, b), true
			}
		}
		s.parts = append(s.parts, w)
		for _, b := range w.on {
			s.hold(b, i)
		}
	}
	return s
}

// hold notes that a broker holds a part, drop that it does not any more.
func (s *state) hold(broker, i int) { s.held[broker].add(i, s.byCost(broker)) }
func (s *state) drop(broker, i int) { s.held[broker].remove(i, s.byCost(broker)) }

// byCost orders the parts on a broker: those that would only now be copied to it, then by size.
func (s *state) byCost(broker int) func(i, j int) int {
	return func(i, j int) int {
		a, b := &s.parts[i], &s.parts[j]
		if a.was[broker] != b.was[broker] {
			if b.was[broker] {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(i, j))
	}
}

// inRack counts the part's replicas in a broker's rack, without those on the broker itself.
func (s *state) inRack(p *part, broker int) (n int) {
	for _, b := range p.on {
		if b != broker && s.brokers[b].Rack == s.brokers[broker].Rack {
			n++
		}
	}
	return n
}

// trim takes away what a part has too much: where a rack holds it twice, then where
// the most replicas are, the leader last.
func (s *state) trim(i int) {
	p := &s.parts[i]
	for len(p.on) > p.factor {
		worst := slices.MaxFunc(p.on, func(a, b int) int {
			return cmp.Or(
				cmp.Compare(min(s.inRack(p, a), 1), min(s.inRack(p, b), 1)),
				cmp.Compare(len(s.held[a]), len(s.held[b])),
				cmp.Compare(slices.Index(p.on, a), slices.Index(p.on, b)))
		})
		p.on = slices.DeleteFunc(p.on, func(b int) bool { return b == worst })
		s.drop(worst, i)
	}
}

// fill gives a part what it lacks: first in new racks, then where the fewest replicas are.
func (s *state) fill(i int) {
	p := &s.parts[i]
	for len(p.on) < p.factor {
		where := -1
		for b := range s.brokers {
			if slices.Contains(p.on, b) {
				continue
			}
			if where < 0 || cmp.Or(cmp.Compare(s.inRack(p, b), s.inRack(p, where)), cmp.Compare(len(s.held[b]), len(s.held[where]))) < 0 {
				where = b
			}
		}
		p.on = append(p.on, where)
		s.hold(where, i)
	}
}

// spread moves replicas out of racks that hold the part more often than others could.
func (s *state) spread(i int) {
	p := &s.parts[i]
	for {
		from, to := -1, -1
		for _, b := range slices.Backward(p.on) { // the leader last
			for c := range s.brokers {
				if slices.Contains(p.on, c) || s.brokers[b].Rack == s.brokers[c].Rack || s.inRack(p, c) >= s.inRack(p, b) {
					continue
				}
				if to < 0 || len(s.held[c]) < len(s.held[to]) {
					from, to = b, c
				}
			}
		}
		if to < 0 {
			return
		}
		p.on[slices.Index(p.on, from)] = to
		s.drop(from, i)
		s.hold(to, i)
	}
}

// mayMove tells whether a part's replica can go from one broker to another without
// being in fewer racks than before.
func (s *state) mayMove(p *part, from, to int) bool {
	if p.Fixed || slices.Contains(p.on, to) {
		return false
	}
	if s.racks == 1 || s.brokers[from].Rack == s.brokers[to].Rack {
		return true
	}
	return s.inRack(p, to) <= s.inRack(p, from)
}

// evenReplicas moves replicas from brokers with more to brokers with at least two less,
// over others where there is no direct way.
func (s *state) evenReplicas() {
	even(s.held, s.byCost, func(i, from, to int) int {
		if s.mayMove(&s.parts[i], from, to) {
			return best
		}
		return never
	}, func(i, from, to int) {
		p := &s.parts[i]
		p.on[slices.Index(p.on, from)] = to
	})
}

// evenLeaders changes the order of replicas, which costs no copying.
func (s *state) evenLeaders() {
	byNumber := func(int) func(i, j int) int { return func(i, j int) int { return cmp.Compare(i, j) } }
	for i := range s.parts {
		p := &s.parts[i]
		if len(p.on) == 0 {
			continue // a fixed one, on brokers that were not asked for
		}
		// The present leader, or whoever has the data, leads if it can.
		slices.SortStableFunc(p.on, func(a, b int) int { return cmp.Compare(s.place(p, a), s.place(p, b)) })
		s.led[p.on[0]].add(i, byNumber(0))
	}
	even(s.led, byNumber, func(i, _, to int) int {
		p := &s.parts[i]
		switch {
		case p.Fixed, !slices.Contains(p.on, to):
			return never
		case p.was[to]:
			return best
		}
		return best + 1 // it would have to copy first
	}, func(i, _, to int) {
		p := &s.parts[i]
		at := slices.Index(p.on, to)
		p.on[0], p.on[at] = p.on[at], p.on[0]
	})
}

// place is where a broker stands among the replicas that a part has now; new ones come last.
func (s *state) place(p *part, broker int) int {
	if at := slices.Index(p.Replicas, s.brokers[broker].ID); at >= 0 {
		return at
	}
	return len(p.Replicas)
}

func (s *state) moves() []Move {
	var ms []Move
	for _, p := range s.parts {
		if p.Fixed {
			continue
		}
		m := Move{Topic: p.Topic, Number: p.Number, From: p.Replicas, Bytes: p.Bytes}
		for _, b := range p.on {
			m.To = append(m.To, s.brokers[b].ID)
		}
		if !slices.Equal(m.From, m.To) {
			ms = append(ms, m)
		}
	}
	slices.SortStableFunc(ms, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Copied(), a.Copied()), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	return ms
}
