// Package checkpoint keeps one small piece of state in one file so that a crash
// leaves either the old state or the new one, never a mixture.
//
// A file is one header line in plain text and the payload behind it:
//
//	belfry-checkpoint 1 KIND CRC32C LENGTH\n
//	payload
//
// KIND names what the payload is ("alarm", "task"), so that two files that were
// swapped by hand are noticed; CRC32C (hexadecimal) covers the payload. Writing
// goes to a temporary file beside the target, is flushed, renamed over the
// target, and the directory is flushed. It is not a log: every Save writes
// everything, so the state has to be small.
package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// MaxBytes bounds a payload, on reading so that a damaged file cannot exhaust
// the memory, on writing so that what is written can be read.
const MaxBytes = 256 << 20

// ErrCorrupt says that a file is there and is not what Save wrote.
var ErrCorrupt = errors.New("checkpoint is corrupt")

const magic = "belfry-checkpoint 1"

// File is one checkpoint. It holds no open file and no lock: one owner at a time.
type File struct {
	path, kind string
}

// New names a checkpoint; nothing is touched. The directory has to exist when
// Save is called. Kind is one word without spaces.
func New(path, kind string) *File { return &File{path: path, kind: kind} }

// Path gives the place of the file, for messages.
func (f *File) Path() string { return f.path }

// Load gives the payload of the last Save that succeeded.
//
// Errors: fs.ErrNotExist before the first Save; ErrCorrupt, after which
// SetAside makes room without destroying the evidence.
func (f *File) Load() ([]byte, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("cannot open checkpoint %q: %w", f.path, err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, MaxBytes+1024))
	if err != nil {
		return nil, fmt.Errorf("cannot read checkpoint %q: %w", f.path, err)
	}
	payload, err := decode(f.kind, raw)
	if err != nil {
		return nil, fmt.Errorf("cannot load checkpoint %q: %w", f.path, err)
	}
	return payload, nil
}

// Save replaces the payload. When it returns nil the new payload survives a loss
// of power; when it returns an error the old one is still there.
// Blocks: on the disk.
func (f *File) Save(payload []byte) error {
	if len(payload) > MaxBytes {
		return fmt.Errorf("cannot save checkpoint %q: %d bytes exceed the limit of %d", f.path, len(payload), MaxBytes)
	}
	tmp := f.path + ".tmp"
	if err := writeSynced(tmp, encode(f.kind, payload)); err != nil {
		// Why: a temporary file that fills the last bytes of a full disk would
		// keep every later Save from succeeding.
		return errors.Join(fmt.Errorf("cannot save checkpoint %q: %w", f.path, err), remove(tmp))
	}
	if err := os.Rename(tmp, f.path); err != nil {
		return errors.Join(fmt.Errorf("cannot save checkpoint %q: %w", f.path, err), remove(tmp))
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("cannot save checkpoint %q: %w", f.path, err)
	}
	return nil
}

// SetAside renames a file that Load could not use to PATH.corrupt, replacing an
// older one there.
func (f *File) SetAside() error {
	if err := os.Rename(f.path, f.path+".corrupt"); err != nil {
		return fmt.Errorf("cannot set checkpoint %q aside: %w", f.path, err)
	}
	return syncDir(filepath.Dir(f.path))
}

func encode(kind string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %08x %d\n", magic, kind, sum(payload), len(payload))
	b.Write(payload)
	return b.Bytes()
}

func decode(kind string, raw []byte) ([]byte, error) {
	head, payload, found := bytes.Cut(raw, []byte{'\n'})
	if !found {
		return nil, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	want := fmt.Sprintf("%s %s %08x %d", magic, kind, sum(payload), len(payload))
	if string(head) != want {
		return nil, fmt.Errorf("%w: header %.80q, and the content asks for %q", ErrCorrupt, head, want)
	}
	return payload, nil
}

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func writeSynced(path string, b []byte) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
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
