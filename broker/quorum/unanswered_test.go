package quorum

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestUnansweredIsWaitedForAndNotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unanswered
		waited := func(limit time.Duration) time.Duration {
			begin := time.Now()
			u.wait(limit)
			return time.Since(begin)
		}
		if got := waited(time.Second); got != 0 {
			t.Errorf("waited %v for nothing", got)
		}
		u.begin()
		u.begin()
		time.AfterFunc(30*time.Millisecond, u.end)
		time.AfterFunc(50*time.Millisecond, u.end)
		if got := waited(time.Second); got != 50*time.Millisecond {
			t.Errorf("waited %v for answers that came after 50 ms", got)
		}
		u.begin()
		if got := waited(time.Second); got != time.Second {
			t.Errorf("waited %v for what is never answered, with a limit of 1 s", got)
		}
		u.end()
	})
}
