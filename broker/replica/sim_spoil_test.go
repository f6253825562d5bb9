package replica

import (
	"slices"
	"strings"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// spoilt is a replica whose bytes were changed on disk.
type spoilt struct {
	n  *simNode
	of *Partition // of then; nil: the node was down
}

// spoil changes a byte of a replica on disk, or takes the end from a file. While the node
// runs it does so in what is closed; while it is down, anywhere. Everybody else's copy is
// good: with two damaged ones nothing could be promised.
func (w *world) spoil(n *simNode, part int) {
	if !w.healed() || !w.allHaveAll(n) {
		return
	}
	set, _ := n.now()
	if set == nil {
		// Why not after a loss of power: then what is not as it was written is nothing unusual.
		if n.kept() && w.spoilFile(n, part, false) {
			w.noteSpoilt(n, nil, part)
		}
		return
	}
	p, err := set.Partition(nameOf(int32(part)))
	if err != nil {
		if w.roll(2) == 0 {
			return
		}
		// The other case: it is killed, and its files are changed before it comes back.
	}
	if err != nil || w.roll(2) == 0 {
		n.kill(false)
		if w.spoilFile(n, part, false) {
			w.noteSpoilt(n, nil, part)
		}
		n.start()
		return
	}
	if w.spoilFile(n, part, true) {
		w.noteSpoilt(n, p, part)
		if w.roll(2) == 0 {
			_, _ = entries(p, p.LogStart(), p.End())
		}
	}
}

func (w *world) noteSpoilt(n *simNode, p *Partition, part int) {
	w.mu.Lock()
	w.mu.bad[part] = spoilt{n, p}
	w.mu.Unlock()
}

// healed tells whether every replica is as good as it ever was: what was spoilt last has
// begun anew, or turned out to be harmless.
func (w *world) healed() bool {
	for part := range w.parts {
		w.mu.Lock()
		bad, was := w.mu.bad[part]
		w.mu.Unlock()
		if !was {
			continue
		}
		set, _ := bad.n.now()
		if set == nil {
			return false
		}
		p, err := set.Partition(nameOf(int32(part)))
		if err != nil || p == bad.of {
			return false
		}
		if _, err := entries(p, p.LogStart(), p.End()); err != nil {
			return false
		}
		w.mu.Lock()
		delete(w.mu.bad, part)
		w.mu.Unlock()
	}
	return true
}

// spoilFile does it; closed says that it must not be in the last segments.
func (w *world) spoilFile(n *simNode, part int, closed bool) bool {
	d, err := n.fs.Open("/data")
	if err != nil {
		w.t.Error(err)
		return false
	}
	defer d.Close()
	folder := idA.String() + "-" + string(rune('0'+part))
	entries, err := d.List(folder)
	if err != nil {
		return false // it has none yet
	}
	var logs []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".log") {
			logs = append(logs, folder+"/"+e.Name)
		}
	}
	slices.Sort(logs)
	if closed {
		logs = logs[:max(0, len(logs)-2)]
	}
	if len(logs) == 0 {
		return false
	}
	name := logs[w.roll(len(logs))]
	b, err := disk.ReadFile(d, name)
	if err != nil || len(b) == 0 {
		return false
	}
	f, err := d.OpenFile(name)
	if err != nil {
		w.t.Error(err)
		return false
	}
	defer f.Close()
	at := coveredByte(b, w.roll)
	w.say("spoils byte %d of %d of %s on node %d (running %t)", at, len(b), name, n.id, closed)
	if _, err := f.WriteAt([]byte{b[at] ^ 1<<w.roll(8)}, int64(at)); err != nil {
		w.t.Error(err)
	}
	return true
}

// coveredByte gives a byte of some batch that its check sum covers. Why no other: who changes
// a batch's offset or epoch to a larger one makes another batch that is as good.
func coveredByte(b []byte, roll func(int) int) int {
	var starts []int
	for at := 0; at+record.HeaderSize <= len(b); {
		h, err := record.ReadHeader(b[at:])
		if err != nil || at+h.Size() > len(b) {
			break
		}
		starts = append(starts, at)
		at += h.Size()
	}
	if len(starts) == 0 {
		return roll(len(b))
	}
	at := starts[roll(len(starts))]
	h, err := record.ReadHeader(b[at:])
	if err != nil {
		return at
	}
	const crc = 17 // where the check sum lies; before it are offset, length, epoch and magic
	return at + crc + roll(h.Size()-crc)
}

// readAll reads every replica, so that what is damaged is found.
func (w *world) readAll() {
	for _, n := range w.nodes {
		set, _ := n.now()
		if set == nil {
			continue
		}
		for part := range w.parts {
			if p, err := set.Partition(nameOf(int32(part))); err == nil {
				_, _ = entries(p, p.LogStart(), p.End())
			}
		}
	}
}
