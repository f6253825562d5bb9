package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Names of files in a log directory.
const (
	lockFile  = ".lock"
	cleanFile = "clean-shutdown"
)

// Dir is one log directory's state.
type Dir struct {
	Path        string
	UUID        topic.ID
	Err         error // nil: online
	Total, Free int64 // bytes, of the file system
	Size        int64 // bytes of message data in it
}

// directory is one log directory. The first trouble with its disk takes it offline
// for the rest of the process's life (R19).
type directory struct {
	path    string
	disk    disk.Dir
	uuid    topic.ID
	cluster string
	lock    io.Closer
	logger  *slog.Logger
	reserve *reserve
	failed  func() // wakes whoever tells the world; must not block
	logs    atomic.Int32

	err   atomic.Pointer[error]
	told  atomic.Bool // DirFailed was called
	files struct {
		sync.Mutex // serialises the writing of checkpoints; it is held over their I/O, which nothing on the data path does
		written    map[string][]byte
		named      map[string]bool // the folders of which some checkpoint on disk says something
	}
}

// Err gives what took the directory offline, nil while it is online.
func (d *directory) Err() error {
	if e := d.err.Load(); e != nil {
		return *e
	}
	return nil
}

// fail takes the directory offline.
func (d *directory) fail(err error) {
	if d.err.CompareAndSwap(nil, &err) {
		d.logger.Error("log directory failed and is offline", "dir", d.path, "error", err)
		d.failed()
	}
}

// trouble turns an error of the disk into the one to return: a full disk is a
// refusal, a lack of descriptors or memory passes, all else takes the directory offline.
func (d *directory) trouble(err error) error {
	switch {
	case err == nil:
		return nil
	case disk.IsFull(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return err
	case errors.Is(err, ErrFull), errors.Is(err, ErrOffline), errors.Is(err, ErrClosed):
		return err
	}
	d.fail(err)
	return fmt.Errorf("%w: %w", ErrOffline, err)
}

// unsynced takes the directory offline for a sync that failed, whatever its error: the
// kernel may have dropped what it could not write, and says of the next sync that all is
// well (R19). A disk that is full at the sync is no exception.
func (d *directory) unsynced(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return err // a directory could not be opened for the sync: nothing was dropped
	}
	d.fail(err)
	return fmt.Errorf("%w: the sync failed: %v", ErrOffline, err)
}

// must runs a small write that has to work on a full disk too: it gives it space
// from the reserve until there is none.
func (d *directory) must(bytes int64, write func() error) error {
	for {
		err := write()
		if err == nil || !disk.IsFull(err) || !d.reserve.release(bytes) {
			return err
		}
	}
}

// remove removes a file; none is fine.
func (d *directory) remove(name string) error {
	if err := d.disk.Remove(name); err != nil && !disk.IsAbsent(err) {
		return err
	}
	return nil
}

// close lets go of the directory.
func (d *directory) close() {
	if d.disk == nil {
		return // it could not be opened
	}
	d.reserve.close()
	if d.lock != nil {
		_ = d.lock.Close()
	}
	if d.disk != nil {
		_ = d.disk.Close()
	}
}
