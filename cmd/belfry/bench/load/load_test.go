package load

import (
	"encoding/binary"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	ts := make(Times, 1000)
	for i := range ts {
		ts[i] = time.Duration(i+1) * time.Millisecond
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 501, 0.99: 991, 0.999: 1000, 1: 1000} {
		if got := ts.Quantile(q); got != want {
			t.Errorf("quantile %v = %v, want %v", q, got, want)
		}
	}
	if got := Times(nil).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing = %v", got)
	}
}

func TestAmount(t *testing.T) {
	a := Amount{Bytes: 3_000_000, Took: 1500 * time.Millisecond}
	if a.Rate() != 2 || a.Gigabytes() != 0.003 {
		t.Errorf("got %v MB/s, %v GB", a.Rate(), a.Gigabytes())
	}
}

// TestPace sends as many messages as are due, each no earlier than its moment.
func TestPace(t *testing.T) {
	p := Pace{Rate: 5000, For: 100 * time.Millisecond}
	var n int
	p.each(t.Context(), func(i int, due time.Time) {
		if i != n {
			t.Fatalf("message %d came as number %d", i, n)
		}
		if early := time.Until(due); early > 0 {
			t.Errorf("message %d is %v early", i, early)
		}
		n++
	})
	if n != 500 {
		t.Errorf("%d messages, want 500", n)
	}
}

// TestValues has the same messages for everybody, of the wanted size, none like the other.
func TestValues(t *testing.T) {
	a, b := Values(100), Values(100)
	seen := map[string]bool{}
	for i := range a {
		if len(a[i]) != 100 || string(a[i]) != string(b[i]) || seen[string(a[i])] {
			t.Fatalf("message %d: %q and %q", i, a[i], b[i])
		}
		seen[string(a[i])] = true
	}
}

// TestHeads counts whole batches only and continues after the last of them.
func TestHeads(t *testing.T) {
	batch := func(base uint64, delta uint32, size int) []byte {
		b := make([]byte, size)
		binary.BigEndian.PutUint64(b, base)
		binary.BigEndian.PutUint32(b[8:], uint32(size-12))
		binary.BigEndian.PutUint32(b[23:], delta)
		return b
	}
	two := append(batch(100, 4, 80), batch(105, 9, 200)...)
	for _, c := range []struct {
		in      []byte
		n, next int64
	}{{nil, 0, 0}, {two, 280, 115}, {two[:279], 80, 105}, {two[:20], 0, 0}, {make([]byte, 100), 0, 0}} {
		if n, next := heads(c.in); n != c.n || next != c.next {
			t.Errorf("%d bytes: got %d, %d, want %d, %d", len(c.in), n, next, c.n, c.next)
		}
	}
}
