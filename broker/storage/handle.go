package storage

import (
	"os"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// handle is an open file with a count of its users; the last one closes it.
// A deleted file's bytes stay readable until then.
type handle struct {
	disk.File
	users atomic.Int32
}

func newHandle(f disk.File) *handle {
	h := &handle{File: f}
	h.users.Store(1)
	return h
}

// take adds a user, unless the file is closed already.
func (h *handle) take() bool {
	for {
		n := h.users.Load()
		if n == 0 {
			return false
		}
		if h.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release takes a user away.
func (h *handle) Release() {
	switch n := h.users.Add(-1); {
	case n == 0:
		// Why: nothing unsynced is in a file that is closed, so the error says nothing.
		_ = h.Close()
	case n < 0:
		panic("BUG: file released more often than taken")
	}
}

// OS gives the operating system's file, nil when there is none.
func (h *handle) OS() *os.File { return h.File.OS() }

// lazyFile opens a file on first use and can let go of it when it lies idle.
type lazyFile struct {
	h    atomic.Pointer[handle]
	used atomic.Bool // since the last idle
}

// take gives the open file, opened by open if needed, to be released by the caller.
func (f *lazyFile) take(open func() (disk.File, error)) (*handle, error) {
	if !f.used.Load() {
		f.used.Store(true)
	}
	for {
		if h := f.h.Load(); h != nil && h.take() {
			return h, nil
		}
		opened, err := open()
		if err != nil {
			return nil, err
		}
		h := newHandle(opened)
		h.users.Add(1)
		if f.h.CompareAndSwap(nil, h) {
			return h, nil
		}
		h.Release()
		h.Release()
	}
}

// set makes an open file the one that take gives.
func (f *lazyFile) set(opened disk.File) {
	f.used.Store(true)
	if old := f.h.Swap(newHandle(opened)); old != nil {
		old.Release()
	}
}

// drop lets go of the file; users keep it open.
func (f *lazyFile) drop() {
	if h := f.h.Swap(nil); h != nil {
		h.Release()
	}
}

// idle drops the file if nobody took it since the last call.
func (f *lazyFile) idle() {
	if !f.used.Swap(false) {
		f.drop()
	}
}
