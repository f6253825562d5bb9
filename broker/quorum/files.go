package quorum

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// Sizes of the log on disk.
const (
	// maxBatch is the largest encoded batch. Why: 10 000 partitions with three
	// replicas take about half of it, and a segment holds a few of them.
	maxBatch = 1 << 20
	// segmentLimit is where a segment is sealed.
	segmentLimit = 4 << 20
	// segmentSlack is what the last append can write past the limit: a group of
	// maxBatch, one more entry of maxBatch, headers, the segment's own index.
	segmentSlack = 2*maxBatch + 256<<10
	// innerReserve is kept free in the last segment of a full disk for the
	// entries that raft itself writes at elections (under 100 bytes each).
	innerReserve = 256 << 10
)

const spareName = "spare"

// files is the directory of log segments, with one segment made ahead. It
// implements types.VFS.
type files struct {
	*walfs.FS
	dir    string
	logger *slog.Logger
	// open wraps a segment that is opened for writing; tests put faults there.
	open func(types.WritableFile) types.WritableFile
	// allocate makes a preallocated file; tests put a full disk there.
	allocate func(name string, size int64) error

	mu struct {
		sync.Mutex
		spare bool
		tail  *segment // the segment opened for writing last
	}
}

var _ types.VFS = (*files)(nil)

// openFiles opens the directory of segments.
func openFiles(dir string, logger *slog.Logger) (*files, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f := &files{FS: walfs.New(), dir: dir, logger: logger}
	f.open = func(w types.WritableFile) types.WritableFile { return w }
	f.allocate = f.preallocate
	// Why made anew: a crash while it was made leaves a short one.
	if err := f.dropSpare(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *files) dropSpare() error {
	info, err := os.Stat(filepath.Join(f.dir, spareName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot look at spare metadata segment: %w", err)
	case info.Size() == segmentLimit+segmentSlack:
		f.mu.spare = true // it never had contents: its name is changed before
		return nil
	}
	if err := os.Remove(filepath.Join(f.dir, spareName)); err != nil {
		return fmt.Errorf("cannot remove unfinished metadata segment: %w", err)
	}
	return nil
}

// preallocate makes a file of zeroes that has its blocks, or none.
func (f *files) preallocate(name string, size int64) error {
	file, err := f.FS.Create(f.dir, name, uint64(size))
	if err == nil {
		err = file.Sync() // with the directory
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		err = errors.Join(err, os.Remove(filepath.Join(f.dir, name)))
	}
	return err
}

// Create implements types.VFS: it takes the spare and makes the next one.
func (f *files) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.spareLocked(); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(f.dir, spareName), filepath.Join(f.dir, name)); err != nil {
		return nil, fmt.Errorf("cannot take spare metadata segment: %w", err)
	}
	f.mu.spare = false
	if err := syncDir(f.dir); err != nil {
		return nil, fmt.Errorf("cannot sync metadata log: %w", err)
	}
	seg, err := f.openLocked(name)
	if err != nil {
		return nil, err
	}
	if err := f.spareLocked(); err != nil {
		f.logger.Warn("cannot make the next metadata segment ahead", "dir", f.dir, "err", err)
	}
	return seg, nil
}

// spareLocked makes the spare if there is none.
func (f *files) spareLocked() error {
	if f.mu.spare {
		return nil
	}
	if err := f.allocate(spareName, segmentLimit+segmentSlack); err != nil {
		return fmt.Errorf("cannot allocate %d bytes for the metadata log in %q: %w", segmentLimit+segmentSlack, f.dir, err)
	}
	f.mu.spare = true
	return nil
}

// OpenWriter implements types.VFS. Why the sync: what a killed process wrote but
// did not sync would be served and then lost with the power (R20).
func (f *files) OpenWriter(_, name string) (types.WritableFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seg, err := f.openLocked(name)
	if err != nil {
		return nil, err
	}
	if err := seg.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot sync metadata segment %q: %w", name, err), seg.Close())
	}
	return seg, nil
}

func (f *files) openLocked(name string) (*segment, error) {
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err // Why bare: raft-wal asks for os.ErrNotExist and makes the file
	}
	used, err := usedBytes(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.mu.tail = &segment{WritableFile: f.open(file), used: used}
	return f.mu.tail, nil
}

// usedBytes finds where the zeroes at the end of a file begin.
func usedBytes(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	const step = 64 << 10
	b := make([]byte, step)
	for end := info.Size(); end > 0; {
		n := min(end, step)
		if _, err := file.ReadAt(b[:n], end-n); err != nil && err != io.EOF {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if b[i] != 0 {
				return end - n + i + 1, nil
			}
		}
		end -= n
	}
	return 0, nil
}

// admit tells whether a batch can be written without asking the disk for blocks.
//
// Errors: the disk's, when the next segment is needed and cannot be made.
func (f *files) admit(size int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.spareLocked()
	if err == nil || f.mu.tail != nil && f.mu.tail.end()+int64(size)+innerReserve <= segmentLimit {
		return nil
	}
	return err
}

// segment is a file that knows how far it is written.
type segment struct {
	types.WritableFile

	mu   sync.Mutex
	used int64
}

// WriteAt implements io.WriterAt.
func (s *segment) WriteAt(b []byte, off int64) (int, error) {
	n, err := s.WritableFile.WriteAt(b, off)
	s.mu.Lock()
	s.used = max(s.used, off+int64(n))
	s.mu.Unlock()
	return n, err
}

func (s *segment) end() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
