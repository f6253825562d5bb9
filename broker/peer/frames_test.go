package peer

import "testing"

// TestFrames gives the smallest frame that fits, keeps a few of the largest, and none of those that are not worth it.
func TestFrames(t *testing.T) {
	var f frames
	a, b := f.take(100<<10), f.take(3<<20)
	if len(a) != 100<<10 || cap(a) != 128<<10 || len(b) != 3<<20 || cap(b) != 4<<20 {
		t.Fatalf("got %d of %d and %d of %d", len(a), cap(a), len(b), cap(b))
	}
	f.give(b)
	f.give(a)
	if c := f.take(120 << 10); &c[0] != &a[0] || len(c) != 120<<10 {
		t.Error("the small one fits and was not given")
	}
	if c := f.take(2 << 20); &c[0] != &b[0] {
		t.Error("the large one fits and was not given")
	}
	if c := f.take(2 << 20); &c[0] == &b[0] {
		t.Error("a frame was given twice")
	}
	for size := 1 << 20; size <= 32<<20; size *= 2 {
		f.give(make([]byte, size))
	}
	f.give(make([]byte, 1000))
	if n := len(f.free); n != keptFrames {
		t.Errorf("%d are kept", n)
	}
	for _, b := range f.free {
		if cap(b) < 2<<20 || cap(b) > mostKept {
			t.Errorf("one of %d bytes is kept", cap(b))
		}
	}
	if c := f.take(10); cap(c) >= leastKept {
		t.Errorf("an answer of 10 bytes lies in %d", cap(c))
	}
}

// TestRelease gives the memory of an answer back once, however often it is called.
func TestRelease(t *testing.T) {
	var f frames
	a := &FetchAnswer{frame: make([]byte, leastKept), frames: &f, Partitions: make([]FetchedPartition, 1)}
	a.Release()
	a.Release()
	if len(f.free) != 1 || a.Partitions != nil {
		t.Errorf("%d are kept, %d partitions are left", len(f.free), len(a.Partitions))
	}
	new(FetchAnswer).Release() // of no client
}
