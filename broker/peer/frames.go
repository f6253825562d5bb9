package peer

import "sync"

// Frames that are kept for later answers.
//
// Why: a follower that is written to at full speed takes answers of megabytes, one after the
// other. To find, clear and collect new memory for each took a quarter of its processor time.
const (
	// keptFrames is how many there are at most: two requests under way with each of two leaders.
	keptFrames = 4
	// leastKept is the smallest that is worth it, in bytes; mostKept is above what a follower asks for by default.
	leastKept = 64 << 10
	mostKept  = 16 << 20
)

// frames are the memory of answers that nobody looks at any more.
type frames struct {
	mu   sync.Mutex
	free [][]byte
}

// take gives a frame of a size; what is in it is of no meaning.
func (f *frames) take(size int) []byte {
	if size < leastKept || size > mostKept {
		return make([]byte, size)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	best := -1
	for i, b := range f.free {
		if cap(b) >= size && (best < 0 || cap(b) < cap(f.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]byte, size, roundUp(size))
	}
	b := f.free[best][:size]
	last := len(f.free) - 1
	f.free[best], f.free[last] = f.free[last], nil
	f.free = f.free[:last]
	return b
}

// roundUp gives the power of two from size on, so that the next answer, of about that size, fits.
func roundUp(size int) int {
	n := leastKept
	for n < size {
		n *= 2
	}
	return n
}

// give keeps a frame. Where there is no room, the smallest one goes.
func (f *frames) give(b []byte) {
	if cap(b) < leastKept || cap(b) > mostKept {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.free) < keptFrames {
		f.free = append(f.free, b)
		return
	}
	least := 0
	for i := range f.free {
		if cap(f.free[i]) < cap(f.free[least]) {
			least = i
		}
	}
	if cap(b) > cap(f.free[least]) {
		f.free[least] = b
	}
}
