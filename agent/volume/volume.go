// Package volume tells how full the disk under the data directories is.
//
// Metric, alarm and capacity guard all ask here, so that they never disagree:
// one number for one truth. It reads the file system's own counters and, where a
// storage capacity is set, the sizes of the files; it never goes through the
// broker, so that it works while the broker is stuck.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// ErrNoDirs is given when there is no directory to measure.
var ErrNoDirs = errors.New("no data directory")

// Usage tells how many bytes are used, of how many, and the share in percent.
//
// With capacity 0 it measures the file systems that hold the directories, each
// file system once, and the share is df's: used ÷ (used + available to
// unprivileged users), the root reserve left out of both; of several file systems
// it is the fullest one's, because that is where trouble comes first. With a capacity in
// bytes, used is what the files below the directories take and total is the
// capacity; but a file system that is really fuller than that wins, because a
// logical size does not make room on a full disk.
//
// Errors: no directory can be measured. A directory that is missing or broken is
// left out as long as another one answers.
func Usage(dirs []string, capacity int64) (used, total int64, percent float64, err error) {
	systems, err := fileSystems(dirs)
	if err != nil {
		return 0, 0, 0, err
	}
	var fullest float64
	for _, s := range systems {
		used += s.used
		total += s.used + s.available
		fullest = max(fullest, share(s.used, s.used+s.available))
	}
	percent = fullest
	if capacity <= 0 {
		return used, total, percent, nil
	}
	held, err := Held(dirs)
	if err != nil {
		return 0, 0, 0, err
	}
	return held, capacity, max(share(held, capacity), realLimit(fullest, held, systems, capacity)), nil
}

// realLimit is the share to report when the real file system leaves less room
// than the capacity promises: 0 while it does not.
//
// Why: with a capacity of 1 TB on a disk that has 10 GB left, 100 % comes when
// those 10 GB are gone, and the guard must act before.
func realLimit(fullest float64, held int64, systems []system, capacity int64) float64 {
	var available int64
	for _, s := range systems {
		available += s.available
	}
	if held+available >= capacity {
		return 0
	}
	return fullest
}

func share(used, total int64) float64 {
	if total <= 0 {
		return 100
	}
	return min(100, float64(used)*100/float64(total))
}

type system struct{ used, available int64 }

// fileSystems measures each file system below the directories once.
func fileSystems(dirs []string) ([]system, error) {
	if len(dirs) == 0 {
		return nil, ErrNoDirs
	}
	var trouble error
	var systems []system
	seen := map[uint64]bool{}
	for _, dir := range dirs {
		var stat syscall.Stat_t
		if err := syscall.Stat(dir, &stat); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("cannot stat directory %q: %w", dir, err))
			continue
		}
		if seen[uint64(stat.Dev)] {
			continue
		}
		var s syscall.Statfs_t
		if err := statfs(dir, &s); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("cannot measure file system of %q: %w", dir, err))
			continue
		}
		seen[uint64(stat.Dev)] = true
		size := int64(s.Bsize)
		systems = append(systems, system{
			used:      (int64(s.Blocks) - int64(s.Bfree)) * size,
			available: int64(s.Bavail) * size,
		})
	}
	if len(systems) == 0 {
		return nil, trouble
	}
	return systems, nil
}

// statfs asks again when a signal came in between.
func statfs(dir string, s *syscall.Statfs_t) error {
	for {
		err := syscall.Statfs(dir, s)
		if err != syscall.EINTR {
			return err
		}
	}
}

// Held sums the data that the files below the directories hold: of each file its
// length or its blocks, whichever is less.
//
// Why: a sparse index is long but holds little, and a segment with blocks
// allocated ahead takes room but holds nothing yet. Files that vanish in between
// (retention) are left out.
func Held(dirs []string) (int64, error) {
	var sum int64
	seen := map[[2]uint64]bool{}
	var trouble error
	ok := false
	for _, dir := range dirs {
		err := walk(dir, func(stat *syscall.Stat_t) {
			if inode := [2]uint64{uint64(stat.Dev), stat.Ino}; stat.Nlink > 1 || len(dirs) > 1 {
				if seen[inode] {
					return
				}
				seen[inode] = true
			}
			sum += min(stat.Size, stat.Blocks*512)
		})
		if err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("cannot size up directory %q: %w", dir, err))
			continue
		}
		ok = true
	}
	if !ok {
		return 0, errors.Join(ErrNoDirs, trouble)
	}
	return sum, nil
}

// walk visits every regular file below a directory, which may be a link to one.
func walk(dir string, visit func(*syscall.Stat_t)) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path != root && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		var stat syscall.Stat_t
		switch err := syscall.Lstat(path, &stat); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		visit(&stat)
		return nil
	})
}
