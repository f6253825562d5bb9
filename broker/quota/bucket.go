// Package quota says how many bytes may flow now under a rate, and when more may.
//
// Bucket is the arithmetic, without clock or lock; Limit is a bucket that many use at a time.
// What it is not: it delays and refuses nothing. Who moves bytes asks Left before, says by
// Spend what went, and comes again after Wait.
//
// Invariant: over any time, what was spent is at most the rate times that time, the burst,
// and the last thing that was spent: it may be larger than what was left, because a batch
// cannot be cut. What goes too far is a debt, and nothing flows until it is paid. Bytes that
// Pass, without asking, leave less for the others, but not for longer than they go on.
package quota

import (
	"math"
	"time"
)

// Unlimited is the rate that limits nothing.
const Unlimited = math.MaxInt64

// burst is how long a rate is saved up while nothing flows. Why not longer: a limit is set to
// protect others, and what was saved is taken at full speed.
const burst = time.Second

// longest bounds a wait, so that it can be added to any time.
const longest = time.Hour

// Bucket is one rate and what is left of it. The zero Bucket lets nothing through.
type Bucket struct {
	rate  int64     // bytes a second; Unlimited: everything flows
	level float64   // bytes that may be spent; negative: a debt
	at    time.Time // when level was so
}

// Rate gives the rate in bytes a second.
func (b *Bucket) Rate() int64 { return b.rate }

// SetRate changes the rate. A debt is forgiven and what was saved is gone: both were made
// under another rate. Setting the same rate changes nothing.
func (b *Bucket) SetRate(rate int64, now time.Time) {
	if rate == b.rate {
		return
	}
	b.rate, b.level, b.at = max(0, rate), 0, now
}

// Left gives how many bytes may be spent now; below 1 none.
func (b *Bucket) Left(now time.Time) int64 {
	if b.rate == Unlimited {
		return Unlimited
	}
	b.fill(now)
	return int64(b.level)
}

// Spend notes bytes that flow; negative ones, that were noted before, do not flow after all.
func (b *Bucket) Spend(n int64, now time.Time) {
	if b.rate == Unlimited {
		return
	}
	b.fill(now)
	b.level = min(b.level-float64(n), b.most())
}

// Pass notes bytes that flow whatever is left. Their debt is at most what is ever saved up:
// when they come no more, it is paid in a second.
func (b *Bucket) Pass(n int64, now time.Time) {
	if b.rate == Unlimited {
		return
	}
	b.fill(now)
	b.level = max(b.level-float64(n), min(b.level, -b.most()))
}

// Wait gives how long it takes until n bytes are left, or as many as are ever saved up; at
// most an hour.
func (b *Bucket) Wait(n int64, now time.Time) time.Duration {
	if b.rate == Unlimited {
		return 0
	}
	b.fill(now)
	lack := min(float64(n), b.most()) - b.level
	if lack <= 0 {
		return 0
	}
	if b.rate == 0 || lack/float64(b.rate) > longest.Seconds() {
		return longest
	}
	// Why one more: rounded down it would come a moment too early, and have to come again.
	return time.Duration(lack/float64(b.rate)*float64(time.Second)) + 1
}

// most is what is saved up: at least a byte, so that the slowest rate flows too.
func (b *Bucket) most() float64 { return max(1, float64(b.rate)*burst.Seconds()) }

func (b *Bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(b.level+float64(b.rate)*d.Seconds(), b.most())
		b.at = now
	}
}
