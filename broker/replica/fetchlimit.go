package replica

import (
	"time"

	"github.com/belfry-mq/belfry/broker/peer"
)

// limitedLeast is the least that is asked for of a limited partition at once, in bytes.
const limitedLeast = 16 << 10

// slowed tells whether the limit holds for a partition now: it does while this replica is
// not in sync.
func (f *fetcher) slowed(w *followed) bool {
	return !f.limit.Free() && !w.level && !w.p.member.Load() && w.p.followsLimited()
}

// slow has the partitions rest that the limit holds for, if nothing is left of it.
func (f *fetcher) slow(now time.Time) {
	if f.limit.Left() > 0 {
		return
	}
	// Why not as long as it takes: the limit may be lifted.
	until := now.Add(min(f.limit.Wait(), f.o.FetchWait))
	for _, w := range f.list {
		if f.slowed(w) && w.rest.Before(until) {
			w.rest = until
			f.queue(w)
		}
	}
}

// most gives how much is asked for of a partition at once: of a limited one its share of what
// the limit gives in a second, so that what comes does not use it up for long.
func (f *fetcher) most(w *followed) int {
	if !f.slowed(w) {
		return f.o.FetchPartitionBytes
	}
	share := f.limit.Rate() / int64(max(1, f.limited))
	return int(min(int64(f.o.FetchPartitionBytes), max(limitedLeast, share)))
}

// count takes in what an answer, well received, says of the limit.
func (f *fetcher) count(w *followed, got *peer.FetchedPartition) {
	if got.Code != 0 || got.Diverged {
		w.level = false
		return
	}
	asked := f.slowed(w)
	w.level = w.p.log.End() >= got.HighWatermark
	if !w.p.followsLimited() {
		return
	}
	w.p.numbers.LimitedIn(len(got.Records))
	if asked {
		f.limit.Spend(len(got.Records))
	} else {
		f.limit.Pass(len(got.Records))
	}
}
