package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a Memory in one small file: it exists while produce is refused.
type File struct{ path string }

// NewFile names the file; its directory must exist.
func NewFile(path string) File { return File{path} }

// Load tells whether the file exists.
func (f File) Load() (bool, error) {
	_, err := os.Stat(f.path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("cannot read capacity state %q: %w", f.path, err)
}

// Store makes or removes the file, durably. Why an empty file: on a full disk a directory entry is the most that may
// still be had, and there is no half-written content to doubt.
func (f File) Store(refusing bool) error {
	var err error
	if refusing {
		var made *os.File
		if made, err = os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			err = made.Close()
		}
	} else if err = os.Remove(f.path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("cannot write capacity state %q: %w", f.path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
