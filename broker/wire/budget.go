package wire

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// budget is the memory for requests of all connections, in lanes of equal size, so that one kind of request cannot
// starve what would free its memory, or what keeps the node alive: a Produce with acks=all waits for followers, whose
// fetches come in by the same door; someone who sends a hundred megabytes slowly must not stop those who send little.
type budget struct {
	small, other   lane
	produce, large lane
}

// Frames up to these sizes go by the lanes for small ones, in bytes.
const (
	smallFrame   = 16 << 10
	smallProduce = 2 << 20 // what clients send by default, and its header
)

// lane is the memory for one kind of request. Why two parts: a request that waits to be decoded holds its frame; if
// decoded requests needed memory of the same part, frames could take it all and nothing would move.
type lane struct {
	frames, decoded part
}

// part hands out bytes in the order in which they were asked for.
type part struct {
	size int64
	sem  *semaphore.Weighted
}

func newBudget(total int64) *budget {
	const lanes = 4
	// What Produce is decoded to is small: the records stay in the frame.
	records := func() lane { return lane{newPart(total / lanes * 7 / 8), newPart(total / lanes / 8)} }
	plain := func() lane { return lane{newPart(total / lanes / 2), newPart(total / lanes / 2)} }
	return &budget{small: plain(), other: plain(), produce: records(), large: records()}
}

func newPart(size int64) part {
	size = max(size, 1)
	return part{size: size, sem: semaphore.NewWeighted(size)}
}

// lane gives the lane of a frame of size bytes.
func (b *budget) lane(produce bool, size int) *lane {
	switch {
	case produce && size <= smallProduce:
		return &b.produce
	case produce:
		return &b.large
	case size <= smallFrame:
		return &b.small
	}
	return &b.other
}

// take waits for n bytes and gives what to put back. What is larger than the whole part gets all of it, alone:
// a small budget makes large requests slow, never impossible.
func (p part) take(ctx context.Context, n int64) (int64, error) {
	n = min(n, p.size)
	return n, p.sem.Acquire(ctx, n)
}

// try is take without waiting; false: there are not as many.
func (p part) try(n int64) (int64, bool) {
	n = min(n, p.size)
	return n, p.sem.TryAcquire(n)
}

func (p part) put(n int64) { p.sem.Release(n) }
