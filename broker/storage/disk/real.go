package disk

import (
	"io"
	"os"
	"sort"
)

// Real is the machine's file system.
type Real struct{}

// Open makes the directory if needed and opens it as a root that no name escapes.
func (Real) Open(path string) (Dir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &realDir{path: path, root: root}, nil
}

type realDir struct {
	path string
	root *os.Root
}

func (d *realDir) Create(name string) (File, error) {
	return open(d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640))
}

func (d *realDir) OpenFile(name string) (File, error) {
	return open(d.root.OpenFile(name, os.O_RDWR, 0))
}

func (d *realDir) Mkdir(name string) error      { return d.root.Mkdir(name, 0o750) }
func (d *realDir) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d *realDir) Remove(name string) error     { return d.root.Remove(name) }
func (d *realDir) Close() error                 { return d.root.Close() }

func (d *realDir) List(name string) ([]Entry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(found))
	for i, e := range found {
		entries[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries, nil
}

func (d *realDir) Stat(name string) (Info, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}, nil
}

func (d *realDir) Sync(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *realDir) Usage() (total, free int64, err error) { return usage(d.path) }

func (d *realDir) Lock(name string) (io.Closer, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type realFile struct{ *os.File }

func open(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (f realFile) OS() *os.File                 { return f.File }
func (f realFile) Sync() error                  { return datasync(f.File) }
func (f realFile) Allocate(from, n int64) error { return allocate(f.File, from, n) }

func (f realFile) Stat() (Info, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return Info{}, err
	}
	return Info{Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}, nil
}
