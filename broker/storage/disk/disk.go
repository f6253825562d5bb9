// Package disk is the file system as the log sees it: a few operations, no path
// that escapes its directory, and every operation that may fail named.
//
// Three of them: Real (the machine's, on os.Root), Memory (in this process, with a
// model of lost power and of a full disk) and Faulty (any other one with failures
// at chosen operations). The room knows nothing of logs.
//
// Invariant: names given to a Dir are relative and slash-separated; nothing outside
// of the directory can be reached through them.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// FS opens directories.
type FS interface {
	// Open gives the directory of that path, made with its parents when it is not there.
	Open(path string) (Dir, error)
}

// Dir is an open directory and all that is below it. Safe for concurrent use.
type Dir interface {
	// Create makes a new file for reading and writing. Errors: fs.ErrExist.
	Create(name string) (File, error)
	// OpenFile opens a file that is there for reading and writing. Errors: fs.ErrNotExist.
	OpenFile(name string) (File, error)
	Mkdir(name string) error
	// Rename replaces the target if there is one.
	Rename(from, to string) error
	Remove(name string) error
	// List gives the entries of the directory called name ("." is the Dir itself), sorted by name.
	List(name string) ([]Entry, error)
	Stat(name string) (Info, error)
	// Sync makes creations, renames and removals in the directory called name durable.
	Sync(name string) error
	// Usage gives the bytes of the file system and those that are free for us.
	Usage() (total, free int64, err error)
	// Lock takes the exclusive lock that the file called name stands for. Errors: ErrLocked.
	Lock(name string) (io.Closer, error)
	Close() error
}

// File is an open file. Reads and writes may run at the same time.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	// Sync makes the file's bytes and its size durable, not its name (see Dir.Sync).
	Sync() error
	// Allocate reserves blocks for [from, from+n) without changing the size.
	// Errors: a full disk; errors.ErrUnsupported where the file system cannot.
	Allocate(from, n int64) error
	Stat() (Info, error)
	// OS gives the operating system's file, nil when there is none.
	OS() *os.File
	Close() error
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool
}

// Info is what the file system knows of a file.
type Info struct {
	Size     int64
	Modified time.Time
	Dir      bool
}

// ErrLocked tells that another process (or another opener in this one) holds the lock.
var ErrLocked = errors.New("the lock is held by another process")

// IsFull tells whether err means that there is no space (or quota) left.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsAbsent tells whether err means that the file is not there.
func IsAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// ReadFile gives the whole content of a file.
func ReadFile(d Dir, name string) ([]byte, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// RemoveAll removes name and everything below it; nothing there is not an error.
func RemoveAll(d Dir, name string) error {
	info, err := d.Stat(name)
	if IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Dir {
		entries, err := d.List(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := RemoveAll(d, name+"/"+e.Name); err != nil {
				return err
			}
		}
	}
	return d.Remove(name)
}

// WriteAtomic puts a file with the content in place of what was there: temporary
// file, sync, rename, sync of the directory. After a crash the old or the new
// content is there, whole.
func WriteAtomic(d Dir, name string, content []byte) (err error) {
	tmp := name + ".tmp"
	if err := d.Remove(tmp); err != nil && !IsAbsent(err) {
		return err
	}
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.Rename(tmp, name)
	}
	if err != nil {
		if IsFull(err) {
			// Why: a half-written temporary file would eat the last free block.
			_ = d.Remove(tmp)
		}
		return err
	}
	return d.Sync(parent(name))
}

// parent gives the directory part of a name.
func parent(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return "."
}
