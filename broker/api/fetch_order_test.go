package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/topic"
)

// TestByTopic turns partitions of few and many topics, named or by ID: each topic comes once, in the order of its
// first partition, and its partitions keep their order.
func TestByTopic(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		topics, byID := 1+r.IntN(30), r.IntN(2) == 0
		results := make([]result, r.IntN(60))
		for i := range results {
			n := r.IntN(topics)
			if r.IntN(2) == 0 { // some requests are in order
				n = i * topics / len(results)
			}
			results[i].want.name = topic.Partition{Topic: fmt.Sprint(n), Partition: int32(i)}
			if byID {
				results[i].want.id = topic.ID{1, byte(n)}
			}
		}
		var order []string
		want := map[string][]int32{}
		for i := range results {
			name := results[i].want.name
			if want[name.Topic] == nil {
				order = append(order, name.Topic)
			}
			want[name.Topic] = append(want[name.Topic], name.Partition)
		}
		byTopic(results)
		at := 0
		for _, name := range order {
			for _, n := range want[name] {
				if got := results[at].want.name; got.Topic != name || got.Partition != n {
					t.Fatalf("result %d of %d is %v, want partition %d of topic %s", at, len(results), got, n, name)
				}
				at++
			}
		}
		if !slices.IsSortedFunc(results, func(a, b result) int {
			return slices.Index(order, a.want.name.Topic) - slices.Index(order, b.want.name.Topic)
		}) {
			t.Fatal("a topic comes twice")
		}
	}
}
