package limit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func flushData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// Settle has the disk take what is dirty of some files, so that no measurement pays for an
// earlier one. Files that have gone meanwhile are fine.
func Settle(files []string) error { return each(files, flushData) }

// Evict takes files out of the page cache. Why not by dropping all of it: that needs the
// superuser, and others on the machine would pay.
func Evict(files []string) error {
	return each(files, func(f *os.File) error {
		if err := flushData(f); err != nil { // only what is clean can go
			return err
		}
		// Why more than once: pages that another processor has just touched, or that are being
		// moved, are passed over.
		for range evictTries {
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
				return err
			}
			if share, err := Resident([]string{f.Name()}); err != nil || share == 0 {
				return err
			}
		}
		return nil
	})
}

// evictTries is how often the system is asked to let go of a file.
const evictTries = 5

func each(files []string, do func(*os.File) error) error {
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = do(f)
		_ = f.Close() // only read
		if err != nil {
			return fmt.Errorf("cannot settle %q: %w", name, err)
		}
	}
	return nil
}

// Resident tells which share of the files is in the page cache, 0 to 1.
func Resident(files []string) (float64, error) {
	var in, all int
	err := each(files, func(f *os.File) error {
		info, err := f.Stat()
		if err != nil || info.Size() == 0 {
			return err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(m) // only looked at
		pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
		if _, _, no := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0]))); no != 0 {
			return no
		}
		for _, p := range pages {
			in += int(p & 1)
		}
		all += len(pages)
		return nil
	})
	return float64(in) / float64(max(all, 1)), err
}
