package storage

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// reserveFile takes up the space that a node needs to start, to commit offsets and
// to write checkpoints on a full disk (R22).
const reserveFile = "reserve"

const (
	// reserveStep is the least that is given away at a time, and reserveSteps into how many
	// parts the reserve is given away: others who write to the same file system shall not
	// get all of it at once.
	reserveStep  = 16 << 10
	reserveSteps = 16
	// reserveShare bounds the reserve on a small file system: at most 1/reserveShare of it.
	reserveShare = 20
)

// reserve is the reserve file of one directory.
type reserve struct {
	dir    disk.Dir
	path   string
	logger *slog.Logger
	// short is true while some of the reserve is given away: only internal logs may then append.
	short atomic.Bool
	mu    struct {
		sync.Mutex // held over I/O: only a full disk brings anybody here
		want, have int64
		file       disk.File
	}
}

// openReserve opens the reserve of want bytes, or what the disk still holds of it.
func openReserve(d disk.Dir, path string, want int64, logger *slog.Logger) (*reserve, error) {
	r := &reserve{dir: d, path: path, logger: logger}
	if want <= 0 {
		return r, nil
	}
	total, _, err := d.Usage()
	if err != nil {
		return nil, err
	}
	r.mu.want = min(want, total/reserveShare)
	f, err := d.OpenFile(reserveFile)
	if disk.IsAbsent(err) {
		f, err = d.Create(reserveFile)
	}
	if disk.IsFull(err) {
		r.short.Store(true)
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r.mu.file, r.mu.have = f, info.Size
	r.short.Store(r.mu.have < r.mu.want)
	return r, nil
}

// release gives bytes (at least a step) back to the file system. false: nothing was left.
func (r *reserve) release(bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.have <= 0 {
		return false
	}
	left := max(0, r.mu.have-max(bytes, reserveStep, r.mu.want/reserveSteps))
	if err := r.mu.file.Truncate(left); err != nil {
		return false
	}
	r.mu.have = left
	if !r.short.Swap(true) {
		r.logger.Warn("disk is full: the reserve is in use, and clients' messages are refused until it is whole again", "dir", r.path, "left", left)
	}
	return true
}

// fill takes the reserve's space again where the file system has it.
// Errors: a failing disk; a full one is not an error.
func (r *reserve) fill() error {
	if !r.short.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.file == nil {
		f, err := r.dir.Create(reserveFile)
		if disk.IsFull(err) {
			return nil
		}
		if err != nil {
			return err
		}
		r.mu.file = f
	}
	err := r.mu.file.Allocate(0, r.mu.want)
	if errors.Is(err, errors.ErrUnsupported) {
		err = r.zeroLocked()
	}
	if err == nil {
		err = r.mu.file.Truncate(r.mu.want)
	}
	if disk.IsFull(err) {
		// Why: a part that was allocated must not stay, nobody would count it.
		return r.mu.file.Truncate(r.mu.have)
	}
	if err != nil {
		return err
	}
	if err := r.mu.file.Sync(); err != nil {
		return err
	}
	r.mu.have = r.mu.want
	r.short.Store(false)
	r.logger.Info("the reserve is whole", "dir", r.path, "bytes", r.mu.want)
	return nil
}

// zeroLocked writes the reserve where the file system cannot allocate.
func (r *reserve) zeroLocked() error {
	zeros := make([]byte, reserveStep)
	for at := r.mu.have; at < r.mu.want; {
		n, err := r.mu.file.WriteAt(zeros[:min(int64(len(zeros)), r.mu.want-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func (r *reserve) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.file != nil {
		_ = r.mu.file.Close()
		r.mu.file, r.mu.have = nil, 0
	}
}
