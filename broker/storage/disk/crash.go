package disk

import "math/rand/v2"

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// Crash gives the file system that is found after the power was lost now: all that
// was synced, and of the rest nothing, everything, or a random part of it, as the
// seed says. Writes tear at sectors, creations, renames and removals each survive or
// not, in no order. The receiver stays as it is.
func (m *Memory) Crash(seed uint64) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 17))
	c := crash{r: r, mode: int(seed % 4), seen: map[*inode]*inode{}}
	after := NewMemory(m.capacity)
	after.root = c.copy(m.root)
	for _, n := range c.seen {
		if !n.dir && n.links > 0 {
			n.allocated = blocks(int64(len(n.data)))
			after.used += n.allocated
		}
	}
	return after
}

type crash struct {
	r    *rand.Rand
	mode int // 0: unsynced all lost, 1: all kept, else at random
	seen map[*inode]*inode
}

func (c *crash) keeps() bool {
	switch c.mode {
	case 0:
		return false
	case 1:
		return true
	}
	return c.r.IntN(2) == 0
}

func (c *crash) copy(n *inode) *inode {
	if done := c.seen[n]; done != nil {
		return done
	}
	if !n.dir {
		f := &inode{modified: n.modified}
		c.seen[n] = f
		data := append([]byte(nil), n.durable...)
		for _, op := range n.pending {
			data = c.tear(op, data)
		}
		f.data = data
		f.durable = append([]byte(nil), data...)
		return f
	}
	d := newDirNode()
	c.seen[n] = d
	names := map[string]*inode{}
	for name, child := range n.durableEntries {
		names[name] = child
	}
	for _, op := range n.pendingDir {
		if c.keeps() {
			op.apply(names)
		}
	}
	for name, child := range names {
		copied := c.copy(child)
		copied.links++
		d.entries[name], d.durableEntries[name] = copied, copied
	}
	return d
}

// tear applies an unsynced operation wholly, partly or not.
func (c *crash) tear(op fileOp, data []byte) []byte {
	if op.data == nil || c.mode < 2 {
		if c.keeps() {
			return op.apply(data)
		}
		return data
	}
	switch c.r.IntN(4) {
	case 0:
		return data
	case 1:
		return op.apply(data)
	case 2: // a prefix
		return fileOp{op.at, op.data[:c.r.IntN(len(op.data)+1)]}.apply(data)
	}
	// Some sectors; the size may have been written without the bytes, which are then zero.
	if end := op.at + int64(len(op.data)); end > int64(len(data)) && c.r.IntN(2) == 0 {
		data = fileOp{at: end}.apply(data)
	}
	for from := 0; from < len(op.data); {
		to := min(len(op.data), int((op.at+int64(from))/sectorSize+1)*sectorSize-int(op.at))
		if c.r.IntN(2) == 0 {
			data = fileOp{op.at + int64(from), op.data[from:to]}.apply(data)
		}
		from = to
	}
	return data
}
