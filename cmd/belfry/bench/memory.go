package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// cachedHole is a sparse file whose pages fill the page cache.
//
// Why: a machine that has been up for long has nearly all of its memory in the page cache, and a
// new page is one that held an old file. A virtual machine that stood idle has given its free
// memory back to the host instead, and the first touch of each page takes that much longer – for
// every broker alike, so that all of them measure the host.
// Source: 1 GB written in steps of 1 MB on such a machine takes 1.2 to 1.7 s of system time, again over the
// same pages 0.18 s, after 8 idle seconds 1.2 s, and 0.18 s once they were touched.
type cachedHole struct {
	file *os.File
	size int64
	free int64 // bytes of memory that stay free
	at   int64 // where the next read begins
}

// newCachedHole makes the file in a folder, as large as the machine's memory; nil where the
// system does not tell that.
func newCachedHole(dir string, free int64) (*cachedHole, error) {
	size := memory("MemTotal")
	if size == 0 {
		return nil, nil
	}
	f, err := os.Create(filepath.Join(dir, "hole"))
	if err != nil {
		return nil, fmt.Errorf("cannot make a file to fill the page cache with: %w", err)
	}
	if err := f.Truncate(size); err != nil {
		f.Close() // nothing was written
		return nil, fmt.Errorf("cannot make a file to fill the page cache with: %w", err)
	}
	return &cachedHole{file: f, size: size, free: free}, nil
}

// fill reads the file until hardly any memory is free, at most once as a whole – a file system
// that caches no holes leaves things as they are –, and touches what is left. Errors: I/O.
func (h *cachedHole) fill() error {
	if h == nil {
		return nil
	}
	buffer := make([]byte, 1<<20)
	for read := int64(0); read < h.size && memory("MemFree") > h.free; {
		for range 64 { // to look at the memory costs more than a read
			n, err := h.file.ReadAt(buffer, h.at)
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("cannot fill the page cache: %w", err)
			}
			read += int64(n)
			if h.at += int64(n); h.at >= h.size {
				h.at = 0
			}
		}
	}
	touch(min(memory("MemFree"), h.free) - untouched)
	return nil
}

// untouched is the free memory that fill does not take for a moment, so that nobody else runs short.
const untouched = 128 << 20

func (h *cachedHole) close() {
	if h != nil {
		h.file.Close() // only read
	}
}

// memory gives a value of the system's table of memory in bytes; 0 where it has none.
func memory(name string) int64 {
	var kib int64
	if _, err := fmt.Sscan(field(read("/proc/meminfo"), name), &kib); err != nil {
		return 0
	}
	return kib << 10
}
