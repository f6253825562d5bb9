package wire

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// budget is the memory for requests of all connections.
//
// It has three parts so that one kind of request cannot starve what would free its memory: a Produce with acks=all
// waits for followers, whose fetches come in by the same door; and a frame that waits to be decoded holds its own
// memory while others need theirs to finish.
type budget struct {
	produce, other, decoded part
}

// part hands out bytes in the order in which they were asked for.
type part struct {
	size int64
	sem  *semaphore.Weighted
}

func newBudget(total int64) *budget {
	return &budget{produce: newPart(total / 2), other: newPart(total / 4), decoded: newPart(total / 4)}
}

func newPart(size int64) part {
	size = max(size, 1)
	return part{size: size, sem: semaphore.NewWeighted(size)}
}

// take waits for n bytes and gives what to put back. What is larger than the whole part gets all of it, alone:
// a small budget makes large requests slow, never impossible.
func (p part) take(ctx context.Context, n int64) (int64, error) {
	n = min(n, p.size)
	return n, p.sem.Acquire(ctx, n)
}

func (p part) put(n int64) { p.sem.Release(n) }
