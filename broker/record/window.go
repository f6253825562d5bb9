package record

import (
	"errors"
	"fmt"
	"io"
)

// windowSize is what a walk over compressed records holds decompressed at a time, in bytes.
const windowSize = 64 << 10

var (
	errCut     = fmt.Errorf("records end early: %w", ErrInvalid)
	errVarint  = fmt.Errorf("malformed number in record: %w", ErrInvalid)
	errDecoded = fmt.Errorf("records decompress to more than allowed: %w", ErrTooLarge)
)

// window walks over a batch's records, whole ones in memory or a stream of decompressed ones.
type window struct {
	b    []byte // not yet consumed
	r    io.Reader
	buf  []byte // what b is a part of, when r is set
	left int64  // bytes that may still be decompressed
	free func()
	pool *[windowSize]byte
	err  error // first failure of a streamed record
}

// open sets w on the records of a batch; done must be called unless open failed.
func (w *window) open(c Codec, payload []byte, limit int64) error {
	if c == None {
		w.b = payload
		return nil
	}
	r, free, err := newDecoder(c, payload)
	if err != nil {
		if errors.Is(err, ErrCodec) || errors.Is(err, ErrTooLarge) {
			return err
		}
		return fmt.Errorf("cannot decompress records (%s): %w: %w", c, err, ErrCorrupt)
	}
	if limit <= 0 {
		limit = DefaultMaxDecompressed
	}
	w.r, w.free, w.left = r, free, limit
	w.pool = buffers.Get().(*[windowSize]byte)
	w.buf = w.pool[:]
	w.b = w.buf[:0]
	return nil
}

func (w *window) done() {
	if w.r == nil {
		return
	}
	w.free()
	buffers.Put(w.pool)
	*w = window{}
}

// fill tries to have n bytes in w.b; fewer remain there only at the end of the records.
func (w *window) fill(n int) error {
	if w.r == nil || len(w.b) >= n {
		return nil
	}
	for len(w.b) < n {
		if cap(w.b) == len(w.b) || cap(w.b) < min(n, len(w.buf)) {
			w.makeRoom(n)
		}
		got, err := w.r.Read(w.b[len(w.b):cap(w.b)])
		w.b = w.b[:len(w.b)+got]
		w.left -= int64(got)
		if w.left < 0 {
			return errDecoded
		}
		if err == io.EOF {
			w.r = eof{}
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot decompress records: %w: %w", err, ErrCorrupt)
		}
	}
	return nil
}

// makeRoom moves what is in w.b to the front of a buffer. A record that does not fit is
// given room step by step: a claimed length allocates nothing that has not arrived.
func (w *window) makeRoom(n int) {
	if len(w.b) >= len(w.buf) {
		w.buf = make([]byte, min(2*len(w.buf), max(n, len(w.buf)+1)))
	}
	w.b = w.buf[:copy(w.buf, w.b)]
}

// eof stands in for a decoder at its end.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// varint consumes one zig-zag number.
func (w *window) varint() (int64, error) {
	if err := w.fill(maxVarint); err != nil {
		return 0, err
	}
	v, n := varint(w.b)
	if n <= 0 {
		if len(w.b) < maxVarint {
			return 0, errCut
		}
		return 0, errVarint
	}
	w.b = w.b[n:]
	return v, nil
}

// skip consumes n bytes without holding more than the window.
func (w *window) skip(n int64) error {
	for n > int64(len(w.b)) {
		if w.r == nil {
			return errCut
		}
		n -= int64(len(w.b))
		w.b = w.buf[:0]
		if err := w.fill(1); err != nil {
			return err
		}
		if len(w.b) == 0 {
			return errCut
		}
	}
	w.b = w.b[n:]
	return nil
}

// end says whether nothing is left.
func (w *window) end() (bool, error) {
	err := w.fill(1)
	return len(w.b) == 0, err
}

const maxVarint = 10 // bytes of a 64-bit number

// varint reads one zig-zag number; n ≤ 0 when b does not hold one.
func varint(b []byte) (v int64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return longVarint(b) // apart, so that the usual case is compiled into the caller
}

func longVarint(b []byte) (v int64, n int) {
	var u uint64
	for i := 0; i < len(b) && i < maxVarint; i++ {
		c := b[i]
		if i == maxVarint-1 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
	}
	return 0, 0
}

func appendVarint(b []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}
