package disk

import (
	"io"
	"sync"
)

// Kind is a sort of operation that changes the disk or makes a change durable.
type Kind string

// The kinds, as Op carries them.
const (
	Create   Kind = "create"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	SyncFile Kind = "sync"
	SyncDir  Kind = "syncdir"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Mkdir    Kind = "mkdir"
	Allocate Kind = "allocate"
	Read     Kind = "read" // not counted in N
)

// Op is an operation that is about to be done.
type Op struct {
	N    int // counts from 1, reads have 0
	Kind Kind
	Name string
}

// Fault says how an operation fails: with Err, after Short bytes of it were written.
type Fault struct {
	Err   error
	Short int
}

// Faulty is another file system whose operations fail when decide says so.
type Faulty struct {
	inner  FS
	decide func(Op) *Fault
	mu     struct {
		sync.Mutex
		n int
	}
}

// NewFaulty wraps inner. decide is called before each operation, by one goroutine at a time.
func NewFaulty(inner FS, decide func(Op) *Fault) *Faulty {
	return &Faulty{inner: inner, decide: decide}
}

// Count gives the number of operations so far, reads not counted.
func (f *Faulty) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.n
}

func (f *Faulty) ask(k Kind, name string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	op := Op{Kind: k, Name: name}
	if k != Read {
		f.mu.n++
		op.N = f.mu.n
	}
	return f.decide(op)
}

// Open wraps the directory.
func (f *Faulty) Open(path string) (Dir, error) {
	d, err := f.inner.Open(path)
	if err != nil {
		return nil, err
	}
	return &faultyDir{Dir: d, fs: f}, nil
}

type faultyDir struct {
	Dir
	fs *Faulty
}

func (d *faultyDir) Create(name string) (File, error) {
	if x := d.fs.ask(Create, name); x != nil {
		return nil, x.Err
	}
	return d.wrap(name)(d.Dir.Create(name))
}

func (d *faultyDir) OpenFile(name string) (File, error) {
	if x := d.fs.ask(Read, name); x != nil {
		return nil, x.Err
	}
	return d.wrap(name)(d.Dir.OpenFile(name))
}

func (d *faultyDir) wrap(name string) func(File, error) (File, error) {
	return func(f File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{File: f, fs: d.fs, name: name}, nil
	}
}

func (d *faultyDir) Mkdir(name string) error {
	if x := d.fs.ask(Mkdir, name); x != nil {
		return x.Err
	}
	return d.Dir.Mkdir(name)
}

func (d *faultyDir) Rename(from, to string) error {
	if x := d.fs.ask(Rename, from); x != nil {
		return x.Err
	}
	return d.Dir.Rename(from, to)
}

func (d *faultyDir) Remove(name string) error {
	if x := d.fs.ask(Remove, name); x != nil {
		return x.Err
	}
	return d.Dir.Remove(name)
}

func (d *faultyDir) Sync(name string) error {
	if x := d.fs.ask(SyncDir, name); x != nil {
		return x.Err
	}
	return d.Dir.Sync(name)
}

func (d *faultyDir) List(name string) ([]Entry, error) {
	if x := d.fs.ask(Read, name); x != nil {
		return nil, x.Err
	}
	return d.Dir.List(name)
}

func (d *faultyDir) Lock(name string) (io.Closer, error) { return d.Dir.Lock(name) }

type faultyFile struct {
	File
	fs   *Faulty
	name string
}

func (f *faultyFile) ReadAt(b []byte, at int64) (int, error) {
	if x := f.fs.ask(Read, f.name); x != nil {
		return 0, x.Err
	}
	return f.File.ReadAt(b, at)
}

func (f *faultyFile) WriteAt(b []byte, at int64) (int, error) {
	x := f.fs.ask(Write, f.name)
	if x == nil {
		return f.File.WriteAt(b, at)
	}
	n, err := f.File.WriteAt(b[:min(len(b), x.Short)], at)
	if err != nil {
		return n, err
	}
	return n, x.Err
}

func (f *faultyFile) Truncate(size int64) error {
	if x := f.fs.ask(Truncate, f.name); x != nil {
		return x.Err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if x := f.fs.ask(SyncFile, f.name); x != nil {
		return x.Err
	}
	return f.File.Sync()
}

func (f *faultyFile) Allocate(from, n int64) error {
	if x := f.fs.ask(Allocate, f.name); x != nil {
		return x.Err
	}
	return f.File.Allocate(from, n)
}
