package wire

import (
	"context"
	"math/bits"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Frames are pooled by powers of two between these sizes.
const (
	minFrameBits = 14
	maxFrameBits = 20
)

// Larger frames are kept one by one. Why not in a pool of the runtime: that is emptied by the
// garbage collector, which runs all the more often the larger what is allocated; a client
// that fills its requests then gets new memory, zeroed, for nearly each of them.
const (
	bigStep = 1 << 20  // bytes: big frames are multiples of it
	bigKept = 32 << 20 // bytes of big frames that are kept for the next request
	bigAge  = 10 * time.Second
)

// framePool holds the frames of Produce requests. Why only theirs: handlers keep parts of other requests (group
// metadata, names), and those frames are small.
type framePool struct {
	classes [maxFrameBits - minFrameBits + 1]sync.Pool
	big     struct {
		sync.Mutex
		frames []*frame
		bytes  int // of them
		least  int // frames that lay unused since the last look
	}
	hollow sync.Pool // frames without bytes
}

// frame is memory for one request.
type frame struct {
	b     []byte
	class int                 // -1: big
	req   kmsg.ProduceRequest // what was decoded from b
}

// sizeOf gives the bytes that a frame of n bytes takes.
func (*framePool) sizeOf(n int) (size, class int) {
	class = max(bits.Len(uint(n-1)), minFrameBits) - minFrameBits
	if class > maxFrameBits-minFrameBits {
		return (n + bigStep - 1) / bigStep * bigStep, -1
	}
	return 1 << (class + minFrameBits), class
}

func (p *framePool) take(n int) *frame {
	size, class := p.sizeOf(n)
	var f *frame
	if class < 0 {
		f = p.takeBig(size)
	} else if pooled, ok := p.classes[class].Get().(*frame); ok {
		f = pooled
	}
	if f == nil {
		f = &frame{b: make([]byte, n, size), class: class}
	}
	f.b = f.b[:n]
	return f
}

func (p *framePool) put(f *frame) {
	f.forget()
	if f.b == nil {
		p.hollow.Put(f)
		return
	}
	if f.class >= 0 {
		p.classes[f.class].Put(f)
		return
	}
	p.big.Lock()
	defer p.big.Unlock()
	if p.big.bytes+cap(f.b) <= bigKept {
		p.big.frames = append(p.big.frames, f)
		p.big.bytes += cap(f.b)
	}
}

// empty takes the bytes of a frame for the next request and leaves it what was decoded from them.
func (p *framePool) empty(f *frame) {
	if f.b == nil {
		return
	}
	next, ok := p.hollow.Get().(*frame)
	if !ok {
		next = &frame{}
	}
	next.b, next.class, f.b = f.b, f.class, nil
	p.put(next)
}

// takeBig gives a kept frame of size bytes or somewhat more, nil if there is none.
func (p *framePool) takeBig(size int) *frame {
	p.big.Lock()
	defer p.big.Unlock()
	best := -1
	for i, f := range p.big.frames {
		// Why not much more: only size is taken from the budget.
		if c := cap(f.b); c >= size && c <= size+size/2 && (best < 0 || c < cap(p.big.frames[best].b)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	f := p.big.frames[best]
	p.removeLocked(best)
	p.big.least = min(p.big.least, len(p.big.frames))
	return f
}

// removeLocked keeps the order of the others: the oldest are first.
func (p *framePool) removeLocked(i int) {
	p.big.bytes -= cap(p.big.frames[i].b)
	n := copy(p.big.frames[i:], p.big.frames[i+1:]) + i
	p.big.frames[n] = nil
	p.big.frames = p.big.frames[:n]
}

// age lets go of big frames that nobody needed for a while, until ctx ends.
func (p *framePool) age(ctx context.Context) {
	tick := time.NewTicker(bigAge)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.release()
		}
	}
}

// release drops as many big frames as were never needed since it was last called.
func (p *framePool) release() {
	p.big.Lock()
	defer p.big.Unlock()
	for range p.big.least {
		p.removeLocked(0)
	}
	p.big.least = len(p.big.frames)
}
