package balance

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// world makes a random cluster: brokers in racks, partitions anywhere.
func world(rnd *rand.Rand, racks int) Request {
	var r Request
	n := 1 + rnd.IntN(9)
	for i := range n {
		b := Broker{ID: int32(i * 3)}
		if racks > 1 {
			b.Rack = fmt.Sprint("r", i%racks)
		}
		r.Brokers = append(r.Brokers, b)
	}
	fixed := rnd.IntN(3) == 0
	others := n + rnd.IntN(3) // some replicas lie on brokers that are not asked for
	for p := range rnd.IntN(60) {
		factor := 1 + rnd.IntN(min(3, n))
		var ids []int32
		for _, b := range rnd.Perm(others)[:factor] {
			ids = append(ids, int32(b*3))
		}
		r.Partitions = append(r.Partitions, Partition{Topic: fmt.Sprint("t", p%4), Number: int32(p / 4), Replicas: ids, Bytes: rnd.Int64N(1000), Fixed: fixed && p%4 == 1})
	}
	if rnd.IntN(2) == 0 {
		r.Factor = 1 + rnd.IntN(n)
	}
	return r
}

// outcome is how the partitions lie after the moves.
func outcome(r Request, ms []Move) [][]int32 {
	out := make([][]int32, len(r.Partitions))
	for i, p := range r.Partitions {
		out[i] = p.Replicas
		for _, m := range ms {
			if m.Topic == p.Topic && m.Number == p.Number {
				out[i] = m.To
			}
		}
	}
	return out
}

func spread(counts map[int32]int, bs []Broker) int {
	least, most := counts[bs[0].ID], counts[bs[0].ID]
	for _, b := range bs {
		least, most = min(least, counts[b.ID]), max(most, counts[b.ID])
	}
	return most - least
}

func TestPlanKeepsItsPromises(t *testing.T) {
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		racks := 1 + rnd.IntN(3)
		r := world(rnd, racks)
		ms, err := Plan(r)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		held, led := map[int32]int{}, map[int32]int{}
		known := map[int32]string{}
		have := map[string]bool{}
		for _, b := range r.Brokers {
			known[b.ID] = b.Rack
			have[b.Rack] = true
		}
		fixed := false
		for i, ids := range outcome(r, ms) {
			p := r.Partitions[i]
			if p.Fixed {
				fixed = true
				if !slices.Equal(ids, p.Replicas) {
					t.Fatalf("seed %d: fixed partition %v goes to %v", seed, p, ids)
				}
				continue
			}
			want := r.Factor
			if want == 0 {
				want = len(p.Replicas)
			}
			seen, in := map[int32]bool{}, map[string]bool{}
			for _, id := range ids {
				if _, ok := known[id]; !ok || seen[id] {
					t.Fatalf("seed %d: partition %v lies on %v", seed, p, ids)
				}
				seen[id], in[known[id]] = true, true
				held[id]++
			}
			if len(ids) != want {
				t.Fatalf("seed %d: partition %v has %d replicas, want %d", seed, p, len(ids), want)
			}
			led[ids[0]]++
			if len(in) < min(want, len(have)) {
				t.Fatalf("seed %d: partition %v lies on %v, in %d racks of %d", seed, p, ids, len(in), len(have))
			}
		}
		if s := spread(held, r.Brokers); racks == 1 && s > 1 && !fixed {
			t.Fatalf("seed %d: replicas differ by %d: %v", seed, s, held)
		}
		if s := spread(led, r.Brokers); r.Factor == len(r.Brokers) && s > 1 && !fixed {
			t.Fatalf("seed %d: every broker has every partition, and leaders differ by %d: %v", seed, s, led)
		}
		// What is even stays as it is.
		again := r
		again.Partitions = slices.Clone(r.Partitions)
		for i, ids := range outcome(r, ms) {
			again.Partitions[i].Replicas = ids
		}
		if more, err := Plan(again); err != nil || len(more) > 0 {
			t.Fatalf("seed %d: a second plan moves %v, %v", seed, more, err)
		}
	}
}

// What stays as it is counts: the others go where there is room beside it.
func TestFixedPartitionsCount(t *testing.T) {
	r := Request{Brokers: []Broker{{ID: 1}, {ID: 2}}}
	for p := range int32(4) {
		r.Partitions = append(r.Partitions,
			Partition{Topic: "kept", Number: p, Replicas: []int32{1}, Bytes: 10, Fixed: true},
			Partition{Topic: "free", Number: p, Replicas: []int32{1}, Bytes: 10})
	}
	ms, err := Plan(r)
	if err != nil || len(ms) != 4 {
		t.Fatalf("%v, %v: want four moves", ms, err)
	}
	for _, m := range ms {
		if m.Topic != "free" || !slices.Equal(m.To, []int32{2}) {
			t.Errorf("%+v: want the free ones on broker 2", m)
		}
	}
}

// A broker that is added takes its share and not one replica more.
func TestAddedBrokerTakesItsShare(t *testing.T) {
	var r Request
	for p := range int32(12) {
		r.Partitions = append(r.Partitions, Partition{Topic: "a", Number: p, Replicas: []int32{1 + p%3, 1 + (p+1)%3}, Bytes: 10})
	}
	r.Brokers = []Broker{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}
	ms, err := Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	copied := int64(0)
	led := map[int32]int{}
	for _, ids := range outcome(r, ms) {
		led[ids[0]]++
	}
	for _, m := range ms {
		copied += m.Copied()
	}
	if copied != 60 {
		t.Errorf("copies %d bytes, want 60: six replicas of ten", copied)
	}
	if want := map[int32]int{1: 3, 2: 3, 3: 3, 4: 3}; !reflect.DeepEqual(led, want) {
		t.Errorf("leaders %v, want %v", led, want)
	}
}

func TestPlanRefuses(t *testing.T) {
	one := []Broker{{ID: 1}}
	two := []Partition{{Topic: "a", Replicas: []int32{1, 2}}}
	for name, r := range map[string]Request{
		"no broker":         {Partitions: two},
		"a broker twice":    {Brokers: []Broker{{ID: 1}, {ID: 1}}},
		"too many replicas": {Brokers: one, Factor: 2, Partitions: two},
		"too few brokers":   {Brokers: one, Partitions: two},
	} {
		if ms, err := Plan(r); err == nil {
			t.Errorf("%s: planned %v", name, ms)
		}
	}
}

func TestCosts(t *testing.T) {
	ms := []Move{
		{Topic: "a", From: []int32{1, 2}, To: []int32{3, 1}, Bytes: 100},
		{Topic: "a", Number: 1, From: []int32{2, 1}, To: []int32{1, 2}, Bytes: 50}, // only another leader
	}
	ts := Costs(ms, func(m Move) int32 { return m.From[0] })
	if want := []Traffic{{Broker: 1, Out: 100}, {Broker: 3, In: 100}}; !slices.Equal(ts, want) {
		t.Fatalf("costs %v, want %v", ts, want)
	}
	now := map[int32]Rate{1: {Out: 5}, 3: {In: 10}}
	if b := Bandwidth(ts, now, 10*time.Second); b != 20 {
		t.Errorf("needs %v bytes a second, want 20", b)
	}
	if d, ok := Duration(ts, now, 20); !ok || d != 10*time.Second {
		t.Errorf("takes %v, %v, want 10 s", d, ok)
	}
	if _, ok := Duration(ts, now, 10); ok {
		t.Error("a limit that normal replication uses up is taken for enough")
	}
}

// Ten thousand partitions of one broker, to be spread over fifty in five racks.
func BenchmarkPlan(b *testing.B) {
	var r Request
	for i := range int32(50) {
		r.Brokers = append(r.Brokers, Broker{ID: i, Rack: fmt.Sprint(i % 5)})
	}
	for p := range int32(10_000) {
		r.Partitions = append(r.Partitions, Partition{Topic: "a", Number: p, Replicas: []int32{p % 7, (p + 1) % 7, (p + 2) % 7}, Bytes: int64(p)})
	}
	for b.Loop() {
		if _, err := Plan(r); err != nil {
			b.Fatal(err)
		}
	}
}
