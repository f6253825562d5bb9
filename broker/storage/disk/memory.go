package disk

import (
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// blockSize is the unit in which Memory counts space, as most file systems do.
const blockSize = 4096

// Memory is a file system in this process that remembers what was synced.
// Crash gives what would be found after power was lost.
type Memory struct {
	mu       sync.Mutex
	root     *inode
	capacity int64 // bytes; 0: no limit
	used     int64
	locks    map[string]bool
}

// NewMemory makes an empty one. capacity is its size in bytes, 0 for no limit.
func NewMemory(capacity int64) *Memory {
	return &Memory{root: newDirNode(), capacity: capacity, locks: map[string]bool{}}
}

// SetCapacity changes the size, as if other programs took or gave back space.
func (m *Memory) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used gives the bytes of all blocks in use.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// inode is a file or a directory, with its present and its durable state.
type inode struct {
	dir bool
	// files
	data, durable []byte
	pending       []fileOp // since the last sync
	allocated     int64    // bytes of blocks
	modified      time.Time
	links         int
	open          int
	// directories
	entries, durableEntries map[string]*inode
	pendingDir              []dirOp
}

// fileOp is a write (data) or a truncation (data nil, at the new size).
type fileOp struct {
	at   int64
	data []byte
}

// dirOp changes names: every name in it gets its inode or, nil, goes away; all or nothing.
type dirOp struct {
	names  []string
	inodes []*inode
}

func newDirNode() *inode {
	return &inode{dir: true, entries: map[string]*inode{}, durableEntries: map[string]*inode{}, modified: time.Now()}
}

// Open gives the directory of that path. Directories made by Open are durable at once.
func (m *Memory) Open(p string) (Dir, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if part == "" {
			continue
		}
		next := n.entries[part]
		if next == nil {
			next = newDirNode()
			n.entries[part], n.durableEntries[part] = next, next
		}
		if !next.dir {
			return nil, &fs.PathError{Op: "open", Path: p, Err: syscall.ENOTDIR}
		}
		n = next
	}
	return &memoryDir{fs: m, node: n, path: p}, nil
}

type memoryDir struct {
	fs   *Memory
	node *inode
	path string
}

// walkLocked finds the directory that holds name, and the last part.
func (d *memoryDir) walkLocked(op, name string) (*inode, string, error) {
	if !fs.ValidPath(name) {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := d.node
	parts := strings.Split(name, "/")
	for _, p := range parts[:len(parts)-1] {
		n = n.entries[p]
		if n == nil || !n.dir {
			return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, parts[len(parts)-1], nil
}

// findLocked gives the inode called name.
func (d *memoryDir) findLocked(op, name string) (*inode, error) {
	if name == "." {
		return d.node, nil
	}
	n, last, err := d.walkLocked(op, name)
	if err != nil {
		return nil, err
	}
	if n.entries[last] == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n.entries[last], nil
}

func (n *inode) change(op dirOp) {
	for i, name := range op.names {
		if op.inodes[i] == nil {
			delete(n.entries, name)
		} else {
			n.entries[name] = op.inodes[i]
		}
	}
	n.pendingDir = append(n.pendingDir, op)
}

func (d *memoryDir) Create(name string) (File, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, last, err := d.walkLocked("create", name)
	if err != nil {
		return nil, err
	}
	if n.entries[last] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f := &inode{modified: time.Now(), links: 1, open: 1}
	n.change(dirOp{[]string{last}, []*inode{f}})
	return &memoryFile{fs: d.fs, node: f, name: name}, nil
}

func (d *memoryDir) OpenFile(name string) (File, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, err := d.findLocked("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	n.open++
	return &memoryFile{fs: d.fs, node: n, name: name}, nil
}

func (d *memoryDir) Mkdir(name string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, last, err := d.walkLocked("mkdir", name)
	if err != nil {
		return err
	}
	if n.entries[last] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	n.change(dirOp{[]string{last}, []*inode{newDirNode()}})
	return nil
}

func (d *memoryDir) Rename(from, to string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	a, aname, err := d.walkLocked("rename", from)
	if err != nil {
		return err
	}
	b, bname, err := d.walkLocked("rename", to)
	if err != nil {
		return err
	}
	n := a.entries[aname]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if a != b {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EXDEV}
	}
	if old := b.entries[bname]; old != nil && old != n {
		d.fs.unlinkLocked(old)
	}
	a.change(dirOp{[]string{aname, bname}, []*inode{nil, n}})
	return nil
}

func (d *memoryDir) Remove(name string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, last, err := d.walkLocked("remove", name)
	if err != nil {
		return err
	}
	f := n.entries[last]
	if f == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if f.dir && len(f.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	n.change(dirOp{[]string{last}, []*inode{nil}})
	d.fs.unlinkLocked(f)
	return nil
}

// unlinkLocked gives the blocks of a file back when nobody has it open.
func (m *Memory) unlinkLocked(n *inode) {
	if n.dir {
		return
	}
	n.links--
	m.freeLocked(n)
}

func (m *Memory) freeLocked(n *inode) {
	if n.links <= 0 && n.open <= 0 {
		m.used -= n.allocated
		n.allocated = 0
	}
}

func (d *memoryDir) List(name string) ([]Entry, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, err := d.findLocked("list", name)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for e, c := range n.entries {
		entries = append(entries, Entry{Name: e, Dir: c.dir})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries, nil
}

func (d *memoryDir) Stat(name string) (Info, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, err := d.findLocked("stat", name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: int64(len(n.data)), Modified: n.modified, Dir: n.dir}, nil
}

func (d *memoryDir) Sync(name string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, err := d.findLocked("sync", name)
	if err != nil {
		return err
	}
	for _, op := range n.pendingDir {
		op.apply(n.durableEntries)
	}
	n.pendingDir = nil
	return nil
}

func (op dirOp) apply(entries map[string]*inode) {
	for i, name := range op.names {
		if op.inodes[i] == nil {
			delete(entries, name)
		} else {
			entries[name] = op.inodes[i]
		}
	}
}

func (d *memoryDir) Usage() (total, free int64, err error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.fs.capacity == 0 {
		return 1 << 50, 1<<50 - d.fs.used, nil
	}
	return d.fs.capacity, max(0, d.fs.capacity-d.fs.used), nil
}

func (d *memoryDir) Lock(name string) (io.Closer, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	key := path.Join(d.path, name)
	if d.fs.locks[key] {
		return nil, ErrLocked
	}
	d.fs.locks[key] = true
	return memoryLock{d.fs, key}, nil
}

func (d *memoryDir) Close() error { return nil }

type memoryLock struct {
	fs  *Memory
	key string
}

func (l memoryLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.key)
	return nil
}

type memoryFile struct {
	fs     *Memory
	node   *inode
	name   string
	closed bool
}

func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	if at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	n := int64(len(b))
	// Why: a full disk takes what still fits, like write(2) does.
	full := false
	if need := f.fs.needLocked(f.node, at+n); need > 0 {
		n, full = min(n, max(0, f.fs.roomLocked(f.node)-at)), true
	}
	if n > 0 {
		f.fs.growLocked(f.node, at+n)
		w := fileOp{at, append([]byte(nil), b[:n]...)}
		f.node.data = w.apply(f.node.data)
		f.node.pending = append(f.node.pending, w)
		f.node.modified = time.Now()
	}
	if full {
		return int(n), &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return int(n), nil
}

func (op fileOp) apply(data []byte) []byte {
	if op.data == nil {
		if op.at <= int64(len(data)) {
			return data[:op.at]
		}
		return append(data, make([]byte, op.at-int64(len(data)))...)
	}
	if end := op.at + int64(len(op.data)); end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[op.at:], op.data)
	return data
}

func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

// needLocked gives the bytes that are missing on the disk for the file to have that size.
func (m *Memory) needLocked(n *inode, size int64) int64 {
	if m.capacity == 0 {
		return 0
	}
	return max(0, blocks(size)-n.allocated-max(0, m.capacity-m.used))
}

// roomLocked gives the size up to which the file may grow.
func (m *Memory) roomLocked(n *inode) int64 {
	return n.allocated + max(0, m.capacity-m.used)/blockSize*blockSize
}

func (m *Memory) growLocked(n *inode, size int64) {
	if more := blocks(size) - n.allocated; more > 0 {
		n.allocated += more
		m.used += more
	}
}

func (f *memoryFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	op := fileOp{at: size}
	f.node.data = op.apply(f.node.data)
	f.node.pending = append(f.node.pending, op)
	if less := f.node.allocated - blocks(size); less > 0 {
		f.node.allocated -= less
		f.fs.used -= less
	}
	f.node.modified = time.Now()
	return nil
}

func (f *memoryFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for _, op := range f.node.pending {
		f.node.durable = op.apply(f.node.durable)
	}
	f.node.pending = nil
	return nil
}

func (f *memoryFile) Allocate(from, n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.needLocked(f.node, from+n) > 0 {
		return &fs.PathError{Op: "allocate", Path: f.name, Err: syscall.ENOSPC}
	}
	f.fs.growLocked(f.node, from+n)
	return nil
}

func (f *memoryFile) Stat() (Info, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return Info{Size: int64(len(f.node.data)), Modified: f.node.modified}, nil
}

func (f *memoryFile) OS() *os.File { return nil }

func (f *memoryFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.node.open--
	f.fs.freeLocked(f.node)
	return nil
}
