package quota

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limit is a Bucket for many at a time. While it is unlimited its methods take no lock.
type Limit struct {
	now  func() time.Time
	free atomic.Bool // unlimited
	mu   struct {
		sync.Mutex
		bucket Bucket
	}
}

// New gives a limit of that many bytes a second, or Unlimited.
func New(rate int64, now func() time.Time) *Limit {
	l := &Limit{now: now}
	l.Set(rate)
	return l
}

// Set changes the rate; see Bucket.SetRate.
func (l *Limit) Set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.bucket.SetRate(rate, l.now())
	l.free.Store(rate == Unlimited)
}

// Rate gives the rate in bytes a second.
func (l *Limit) Rate() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.bucket.Rate()
}

// Free tells whether everything flows.
func (l *Limit) Free() bool { return l.free.Load() }

// Left gives how many bytes may be spent now; below 1 none.
func (l *Limit) Left() int64 {
	if l.free.Load() {
		return Unlimited
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.bucket.Left(l.now())
}

// Spend notes bytes that flow; negative ones do not flow after all.
func (l *Limit) Spend(n int) {
	if n == 0 || l.free.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.bucket.Spend(int64(n), l.now())
}

// Pass notes bytes that flow whatever is left; see Bucket.Pass.
func (l *Limit) Pass(n int) {
	if n == 0 || l.free.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.bucket.Pass(int64(n), l.now())
}

// Wait gives how long it takes until a useful share is left: a tenth of what the rate gives
// in a second. Why not less: who comes for each byte does nothing else.
func (l *Limit) Wait() time.Duration {
	if l.free.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.bucket.Wait(max(1, l.mu.bucket.Rate()/useful), l.now())
}

const useful = 10
