package balance

import (
	"cmp"
	"slices"
)

// bag is a set of items in an order of its owner's.
type bag []int

func (b *bag) add(item int, order func(i, j int) int) {
	at, _ := slices.BinarySearchFunc(*b, item, order)
	*b = slices.Insert(*b, at, item)
}

func (b *bag) remove(item int, order func(i, j int) int) {
	at, found := slices.BinarySearchFunc(*b, item, order)
	if !found {
		panic("BUG: an item is taken out of a bag that does not hold it")
	}
	*b = slices.Delete(*b, at, at+1)
}

// How well an item may go from one bag to another: never, or a class, the smallest first.
const (
	never = -1
	best  = 0
)

// fit tells the class of a move.
type fit func(item, from, to int) int

// even moves items between bags until no bag has two more than another that it can reach.
// order gives the order within a bag, fit says what may go, move carries it out; the bags
// themselves are kept here. Each round goes a shortest way, which makes a full bag
// smaller, one with at least two less bigger, and leaves those between as they were: the
// sum of the squares falls, and so it ends.
func even(bags []bag, order func(bag int) func(i, j int) int, fit fit, move func(item, from, to int)) {
	for {
		way := shortest(bags, fit)
		if way == nil {
			return
		}
		// From the end, so that an item that arrives is not taken on at once.
		for n := len(way) - 2; n >= 0; n-- {
			from, to := way[n], way[n+1]
			item := cheapest(bags[from], from, to, fit)
			bags[from].remove(item, order(from))
			move(item, from, to)
			bags[to].add(item, order(to))
		}
	}
}

// shortest gives the bags on a way from the fullest bag that has one to a bag with at
// least two items less; nil: there is none.
func shortest(bags []bag, fit fit) []int {
	bySize := make([]int, len(bags))
	for i := range bySize {
		bySize[i] = i
	}
	slices.SortStableFunc(bySize, func(a, b int) int { return cmp.Compare(len(bags[a]), len(bags[b])) })
	least := len(bags[bySize[0]])
	for _, start := range slices.Backward(bySize) {
		if len(bags[start]) < least+2 {
			return nil
		}
		before := map[int]int{start: -1}
		for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
			from := queue[0]
			for _, to := range bySize {
				if _, seen := before[to]; seen || cheapest(bags[from], from, to, fit) < 0 {
					continue
				}
				before[to] = from
				if len(bags[to]) <= len(bags[start])-2 {
					return back(before, to)
				}
				queue = append(queue, to)
			}
		}
	}
	return nil
}

// back gives the way to a bag from the one that has none before it.
func back(before map[int]int, to int) (way []int) {
	for ; to >= 0; to = before[to] {
		way = append(way, to)
	}
	slices.Reverse(way)
	return way
}

// cheapest gives the first item of the best class; -1: none may go.
func cheapest(b bag, from, to int, fit fit) int {
	item, class := -1, 0
	for _, i := range b {
		if c := fit(i, from, to); c != never && (item < 0 || c < class) {
			if item, class = i, c; c == best {
				break
			}
		}
	}
	return item
}
