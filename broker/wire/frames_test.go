package wire

import "testing"

func TestFramesAreUsedAgain(t *testing.T) {
	var p framePool
	a := p.take(5<<20 + 1)
	if len(a.b) != 5<<20+1 || cap(a.b) != 6<<20 {
		t.Fatalf("frame of %d bytes in %d", len(a.b), cap(a.b))
	}
	p.put(a)
	if b := p.take(9 << 20); b == a {
		t.Error("a frame that is too small was given")
	}
	if b := p.take(2 << 20); b == a {
		t.Error("a frame was given that is far too large")
	}
	b := p.take(4 << 20)
	if b != a || len(b.b) != 4<<20 {
		t.Errorf("frame %p of %d bytes, want %p", b, len(b.b), a)
	}
	p.put(b)
}

// TestEmptiedFrame: the bytes of a frame go to the next request while the first still waits.
func TestEmptiedFrame(t *testing.T) {
	var p framePool
	for _, n := range []int{5 << 20, 20 << 10} {
		a := p.take(n)
		first := &a.b[0]
		p.empty(a)
		p.empty(a)
		if a.b != nil {
			t.Fatalf("an emptied frame has %d bytes", len(a.b))
		}
		// Only the large ones are kept for sure: the others are in a pool of the runtime.
		if b := p.take(n); len(b.b) != n || n > 1<<maxFrameBits && &b.b[0] != first {
			t.Errorf("frame of %d bytes, not in the memory of the emptied one", len(b.b))
		}
		p.put(a)
		if p.big.bytes != 0 || len(p.big.frames) != 0 {
			t.Errorf("a frame without bytes is kept as one of %d", p.big.bytes)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	var p framePool
	var taken []*frame
	for range 20 {
		taken = append(taken, p.take(3<<20))
	}
	for _, f := range taken {
		p.put(f)
	}
	if p.big.bytes > bigKept || p.big.bytes != len(p.big.frames)*3<<20 {
		t.Errorf("%d frames of %d bytes are kept", len(p.big.frames), p.big.bytes)
	}
	huge := p.take(40 << 20)
	p.put(huge)
	if p.take(40<<20) == huge {
		t.Error("a frame above the bound was kept")
	}
}

func TestUnusedFramesGo(t *testing.T) {
	var p framePool
	two := []*frame{p.take(2 << 20), p.take(2 << 20)}
	p.put(two[0])
	p.put(two[1])
	p.release() // both came since the last look
	if len(p.big.frames) != 2 {
		t.Fatalf("%d frames are kept, want 2", len(p.big.frames))
	}
	p.put(p.take(2 << 20)) // one is needed
	p.release()
	if len(p.big.frames) != 1 || p.big.bytes != 2<<20 {
		t.Fatalf("%d frames of %d bytes are kept, want 1", len(p.big.frames), p.big.bytes)
	}
	p.release()
	if len(p.big.frames) != 0 || p.big.bytes != 0 {
		t.Errorf("%d frames of %d bytes are kept, want none", len(p.big.frames), p.big.bytes)
	}
}
