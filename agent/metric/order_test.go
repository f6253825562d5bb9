package metric

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

// TestOrderRemembersNothingWrong gives one Order tick after tick, in which series come, go, change
// places and come twice, and wants each arranged as if it was the first.
func TestOrderRemembersNothingWrong(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var o Order
	var given []Sample
	for tick := range 200 {
		switch rng.IntN(4) {
		case 0:
			rng.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
		case 1:
			for range rng.IntN(20) {
				given = append(given, Sample{
					ID:     []ID{Ticks, Brokers, GroupMembers}[rng.IntN(3)],
					Labels: Labels(LabelGroup, strconv.Itoa(rng.IntN(5)), LabelTopic, strconv.Itoa(rng.IntN(5))),
				})
			}
		case 2:
			given = given[:rng.IntN(len(given)+1)]
		}
		for i := range given {
			given[i].Value = float64(tick*1000 + i)
		}
		want := slices.Clone(given)
		slices.SortStableFunc(want, Compare)
		want = slices.CompactFunc(want, func(a, b Sample) bool { return Compare(a, b) == 0 })
		got, dropped := o.Arrange(slices.Clone(given))
		if dropped != len(given)-len(want) || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("tick %d: %d dropped, %v, want %v", tick, dropped, got, want)
		}
	}
}

// BenchmarkArrange is a tick of 1 000 partitions and 200 groups of five topics each.
func BenchmarkArrange(b *testing.B) {
	var samples []Sample
	for g := range 200 {
		for i := range 5 {
			for p := range 5 {
				l := Labels(LabelGroup, "readers-"+strconv.Itoa(g), LabelTopic, "furniture-"+strconv.Itoa((g+i)%200), LabelPartition, strconv.Itoa(p))
				samples = append(samples, Sample{ID: MessagesConsumed, Labels: l}, Sample{ID: MessagesRemained, Labels: l})
			}
		}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Arrange(slices.Clone(samples))
		}
	})
	b.Run("again", func(b *testing.B) {
		var o Order
		b.ReportAllocs()
		for b.Loop() {
			o.Arrange(slices.Clone(samples))
		}
	})
}
