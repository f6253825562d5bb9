package quorum

import (
	"context"
	"sync"
	"time"
)

// unanswered counts what raft was asked and has not answered. The zero value counts none.
type unanswered struct {
	mu struct {
		sync.Mutex
		n    int
		none chan struct{} // closed when n comes to 0; nil: nobody waits
	}
}

func (u *unanswered) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.n++
}

func (u *unanswered) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mu.n--; u.mu.n < 0 {
		panic("BUG: raft answered what nobody asked")
	}
	if u.mu.n == 0 && u.mu.none != nil {
		close(u.mu.none)
		u.mu.none = nil
	}
}

// wait waits until all is answered, for so long at most.
func (u *unanswered) wait(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	u.mu.Lock()
	if u.mu.n == 0 {
		u.mu.Unlock()
		return
	}
	if u.mu.none == nil {
		u.mu.none = make(chan struct{})
	}
	none := u.mu.none
	u.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
