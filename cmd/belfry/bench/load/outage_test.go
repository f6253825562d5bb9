package load

import (
	"errors"
	"testing"
	"time"
)

// TestLongestGap counts from the acknowledgement before the moment, and no gap that was over by then.
func TestLongestGap(t *testing.T) {
	ms := func(all ...int) (ds []time.Duration) {
		for _, n := range all {
			ds = append(ds, time.Duration(n)*time.Millisecond)
		}
		return ds
	}
	for _, c := range []struct {
		acked []time.Duration
		from  time.Duration
		want  time.Duration
	}{
		{nil, 0, 0},
		{ms(5), 0, 0},
		{ms(10, 20, 30), 15 * time.Millisecond, 10 * time.Millisecond},
		{ms(10, 500, 510, 520), 505 * time.Millisecond, 10 * time.Millisecond},
		{ms(490, 500, 900, 910), 505 * time.Millisecond, 400 * time.Millisecond},
		{ms(490, 500, 510, 1000, 1010), 505 * time.Millisecond, 490 * time.Millisecond},
	} {
		if got := longestGap(c.acked, c.from); got != c.want {
			t.Errorf("%v from %v: %v, want %v", c.acked, c.from, got, c.want)
		}
	}
}

// TestPulsePast waits for messages that were sent after the moment, not for late answers to older ones.
func TestPulsePast(t *testing.T) {
	p := &Pulse{begin: time.Now()}
	p.mu.parts, p.mu.news = make([]pulsed, 2), make(chan struct{})
	moment := p.begin.Add(time.Second)
	p.acknowledged(0, 2*time.Second, nil)
	p.acknowledged(1, time.Second/2, nil)
	if n, _ := p.behind(moment.Sub(p.begin)); n != 1 {
		t.Fatalf("%d partitions are behind, want 1", n)
	}
	past := make(chan error, 1)
	go func() { past <- p.Past(t.Context(), moment) }()
	p.acknowledged(1, 3*time.Second, errors.New("given up"))
	p.acknowledged(1, 3*time.Second/2, nil)
	if err := <-past; err != nil {
		t.Fatal(err)
	}
	if n, why := p.Failed(); n != 1 || why == nil {
		t.Errorf("%d failed: %v", n, why)
	}
}
