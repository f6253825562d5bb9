package quorum

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft-wal/types"
)

// history is every write and sync of a few files, in order.
type history struct {
	mu  sync.Mutex
	ops []op
}

type op struct {
	file string
	off  int64
	data []byte // nil: a sync
}

func (h *history) add(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

func (h *history) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// watched is a file whose writes and syncs go into a history.
type watched struct {
	types.WritableFile
	name string
	h    *history
}

func (w *watched) WriteAt(b []byte, off int64) (int, error) {
	w.h.add(op{w.name, off, append([]byte{}, b...)})
	return w.WritableFile.WriteAt(b, off)
}

func (w *watched) Sync() error {
	err := w.WritableFile.Sync()
	w.h.add(op{file: w.name})
	return err
}

// at gives the files as a power cut after n operations leaves them: what was
// synced is there; of the rest each sector is there or not.
func (h *history) at(base map[string][]byte, n int, rnd *rand.Rand) map[string][]byte {
	const sector = 512
	synced := make(map[string]int)
	for i, o := range h.ops[:n] {
		if o.data == nil {
			synced[o.file] = i
		}
	}
	files := make(map[string][]byte)
	for name, b := range base {
		files[name] = append([]byte{}, b...)
	}
	for i, o := range h.ops[:n] {
		for from := 0; from < len(o.data); {
			to := min(len(o.data), from+sector-int(o.off+int64(from))%sector)
			if i < synced[o.file] || rnd.IntN(2) == 0 {
				copy(files[o.file][o.off+int64(from):], o.data[from:to])
			}
			from = to
		}
	}
	return files
}

// TestPowerLostAtEveryWrite: whatever the disk kept of what was not synced, a
// node starts, and has everything that was acknowledged.
func TestPowerLostAtEveryWrite(t *testing.T) {
	dir := t.TempDir()
	start(t, options(t, dir)).mustStop()
	q, err := Open(options(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("log files: %v, %v", logs, err)
	}
	segmentName := filepath.Join(logName, filepath.Base(logs[0]))
	base := make(map[string][]byte)
	for _, name := range []string{stateName, segmentName} {
		if base[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := copyDir(t, dir)
	h := new(history)
	q.files.mu.tail.WritableFile = &watched{q.files.mu.tail.WritableFile, segmentName, h}
	q.state.file = &watched{q.state.file, stateName, h}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	n := &node{Quorum: q, t: t}
	var acked []int // operations after which topic i was acknowledged
	for i := range 12 {
		n.propose(created(i)...)
		acked = append(acked, h.len())
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for cut := 0; cut <= len(h.ops); cut++ {
		dir := copyDir(t, before)
		for name, b := range h.at(base, cut, rnd) {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		n := start(t, options(t, dir))
		for i, at := range acked {
			if at <= cut && n.Image().Topic(fmt.Sprintf("t%d", i)) == nil {
				t.Fatalf("power lost after %d of %d operations: topic %d was acknowledged after %d and is gone", cut, len(h.ops), i, at)
			}
		}
		n.mustStop()
	}
}
