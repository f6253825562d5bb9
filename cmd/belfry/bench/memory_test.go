package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCachedHole: the file takes no room on the disk, and a system without a table of memory
// has none and fills nothing.
func TestCachedHole(t *testing.T) {
	dir := t.TempDir()
	h, err := newCachedHole(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if memory("MemTotal") == 0 {
		if h != nil || h.fill() != nil {
			t.Errorf("made %v where nothing is known of the memory", h)
		}
		return
	}
	info, err := os.Stat(filepath.Join(dir, "hole"))
	if err != nil || info.Size() != memory("MemTotal") {
		t.Fatalf("%v, %v; want a file of %d bytes", info, err, memory("MemTotal"))
	}
	h.size = 100 << 20 // Why: a test is not to take the machine's memory
	if err := h.fill(); err != nil {
		t.Fatal(err)
	}
	if memory("MemFree") > h.free && h.at == 0 {
		t.Error("nothing was read, although memory is free")
	}
	if memory("no such") != 0 {
		t.Error("a value that the table does not have")
	}
}
