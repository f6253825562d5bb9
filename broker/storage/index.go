package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// Widths of the entries of the two indexes in bytes.
// Source: Kafka's OffsetIndex (relative offset, position) and TimeIndex (timestamp, relative offset).
const (
	offsetEntry = 8
	timeEntry   = 12
	entryRoom   = abortEntry // the widest of all
)

// index is one sparse index: entries of equal width, ascending. While the segment
// grows they are in memory; after save and release they are read from the file.
type index struct {
	dir   disk.Dir
	gone  *atomic.Bool // the segment's
	name  string
	width int
	file  lazyFile

	mu    sync.RWMutex
	mem   []byte // nil: all entries are in the file
	n     int    // entries
	saved int    // leading entries that the file has
}

// entryPool holds buffers to read entries into. Why: a stack buffer would escape through the file's interface.
var entryPool = sync.Pool{New: func() any { return new([entryRoom]byte) }}

func (x *index) add(entry []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mem = append(x.mem, entry...)
	x.n++
}

// len gives the number of entries.
func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// rank gives the number of leading entries for which before is true, and the last
// of these entries in e.
// Requires: before is true for none or some leading entries, then false.
func (x *index) rank(e *[entryRoom]byte, before func(e []byte) bool) (int, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var h *handle
	if x.mem == nil && x.n > 0 {
		var err error
		if h, err = x.file.take(x.open); err != nil {
			return 0, err
		}
		defer h.Release()
	}
	lo, hi := 0, x.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if err := x.readLocked(h, mid, e); err != nil {
			return 0, err
		}
		if before(e[:x.width]) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo > 0 {
		return lo, x.readLocked(h, lo-1, e)
	}
	return 0, nil
}

func (x *index) readLocked(h *handle, i int, e *[entryRoom]byte) error {
	if h == nil {
		copy(e[:], x.mem[i*x.width:(i+1)*x.width])
		return nil
	}
	if n, err := h.ReadAt(e[:x.width], int64(i*x.width)); n < x.width {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // Why: EOF would mean that the segment has nothing from here on
		}
		return fmt.Errorf("cannot read index %q: %w", x.name, err)
	}
	return nil
}

func (x *index) open() (disk.File, error) { return openUnless(x.gone, x.dir, x.name) }

// load takes the entries that the file has; all stay there.
// Errors: no such file; a size that is no multiple of the width.
func (x *index) load() error {
	info, err := x.dir.Stat(x.name)
	if err != nil {
		return err
	}
	if info.Size%int64(x.width) != 0 {
		return errDamaged{fmt.Errorf("cannot load index %q: its size of %d bytes is no multiple of %d", x.name, info.Size, x.width)}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mem, x.n = nil, int(info.Size)/x.width
	x.saved = x.n
	return nil
}

// grow brings the entries into memory, so that more can be added.
func (x *index) grow() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mem != nil {
		return nil
	}
	mem := make([]byte, x.n*x.width, x.n*x.width+64*x.width)
	if x.n > 0 {
		h, err := x.file.take(x.open)
		if err != nil {
			return err
		}
		defer h.Release()
		if n, err := h.ReadAt(mem, 0); n < len(mem) {
			return fmt.Errorf("cannot read index %q: %w", x.name, err)
		}
	}
	x.mem = mem
	return nil
}

// each calls f with the entries from number i on, until it fails.
func (x *index) each(i int, f func(e []byte) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.mem != nil || x.n <= i {
		for ; i < x.n; i++ {
			if err := f(x.mem[i*x.width : (i+1)*x.width]); err != nil {
				return err
			}
		}
		return nil
	}
	h, err := x.file.take(x.open)
	if err != nil {
		return err
	}
	defer h.Release()
	const some = 128
	b := make([]byte, min(some, x.n-i)*x.width)
	for ; i < x.n; i += some {
		b = b[:min(some, x.n-i)*x.width]
		if n, err := h.ReadAt(b, int64(i*x.width)); n < len(b) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("cannot read index %q: %w", x.name, err)
		}
		for e := b; len(e) > 0; e = e[x.width:] {
			if err := f(e[:x.width]); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut drops the entries from number n on. Requires: they are in memory.
func (x *index) cut(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mem, x.n, x.saved = x.mem[:n*x.width], n, min(x.saved, n)
}

// clear makes it empty and in memory; the file is rewritten by the next save.
func (x *index) clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mem, x.n, x.saved = make([]byte, 0, 16*x.width), 0, 0
}

// empty is clear without memory for entries to come.
func (x *index) empty() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mem, x.n, x.saved = nil, 0, 0
}

// save writes the entries that the file lacks; with sync also durably. The file then
// holds exactly the entries. It is not safe for concurrent use with itself.
func (x *index) save(sync bool) error {
	x.mu.RLock()
	mem, n, saved := x.mem, x.n, x.saved
	x.mu.RUnlock()
	h, err := x.file.take(func() (disk.File, error) {
		f, err := x.open()
		if disk.IsAbsent(err) {
			return x.dir.Create(x.name)
		}
		return f, err
	})
	if err != nil {
		return err
	}
	defer h.Release()
	info, err := h.Stat()
	if err != nil {
		return err
	}
	if info.Size < int64(saved*x.width) {
		saved = 0
	}
	if info.Size > int64(saved*x.width) {
		if err := h.Truncate(int64(saved * x.width)); err != nil {
			return err
		}
	}
	if saved < n {
		if _, err := h.WriteAt(mem[saved*x.width:n*x.width], int64(saved*x.width)); err != nil {
			return err
		}
	}
	if sync {
		if err := h.Sync(); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.n >= n {
		x.saved = n
	}
	return nil
}

// release frees the memory of an index whose entries are all in the file.
func (x *index) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.saved == x.n {
		x.mem = nil
	}
}

// putOffset makes an entry of the offset index.
func putOffset(rel, pos int32) [offsetEntry]byte {
	var e [offsetEntry]byte
	binary.BigEndian.PutUint32(e[0:], uint32(rel))
	binary.BigEndian.PutUint32(e[4:], uint32(pos))
	return e
}

// putTime makes an entry of the time index.
func putTime(ts int64, rel int32) [timeEntry]byte {
	var e [timeEntry]byte
	binary.BigEndian.PutUint64(e[0:], uint64(ts))
	binary.BigEndian.PutUint32(e[8:], uint32(rel))
	return e
}

func relOf(e []byte) int32     { return int32(binary.BigEndian.Uint32(e[0:])) }
func posOf(e []byte) int32     { return int32(binary.BigEndian.Uint32(e[4:])) }
func timeOf(e []byte) int64    { return int64(binary.BigEndian.Uint64(e[0:])) }
func timeRelOf(e []byte) int32 { return int32(binary.BigEndian.Uint32(e[8:])) }

// positionOf gives a position at or before the batch that holds relative offset rel.
func (x *index) positionOf(rel int64) (int64, error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	n, err := x.rank(e, func(e []byte) bool { return int64(relOf(e)) <= rel })
	if n == 0 || err != nil {
		return 0, err
	}
	return int64(posOf(e[:])), nil
}

// boundary gives the last indexed position that is not above pos, 0 without one.
func (x *index) boundary(pos int64) (int64, error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	n, err := x.rank(e, func(e []byte) bool { return int64(posOf(e)) <= pos })
	if n == 0 || err != nil {
		return 0, err
	}
	return int64(posOf(e[:])), nil
}

// anchor gives the last indexed position that is not above pos, and the last offset, relative,
// of the batch there; 0 and -1 without one.
func (x *index) anchor(pos int64) (at, rel int64, err error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	n, err := x.rank(e, func(e []byte) bool { return int64(posOf(e)) <= pos })
	if n == 0 || err != nil {
		return 0, -1, err
	}
	return int64(posOf(e[:])), int64(relOf(e[:])), nil
}

// before gives the relative offset of the last entry whose timestamp is below ts, -1 without one.
func (x *index) before(ts int64) (int64, error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	n, err := x.rank(e, func(e []byte) bool { return timeOf(e) < ts })
	if n == 0 || err != nil {
		return -1, err
	}
	return int64(timeRelOf(e[:])), nil
}

// last gives the last entry of a time index, or -1, -1.
func (x *index) last() (ts, rel int64, err error) {
	e := entryPool.Get().(*[entryRoom]byte)
	defer entryPool.Put(e)
	n, err := x.rank(e, func([]byte) bool { return true })
	if n == 0 || err != nil {
		return -1, -1, err
	}
	return timeOf(e[:]), int64(timeRelOf(e[:])), nil
}
