package limit

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFlush(t *testing.T) {
	root := t.TempDir()
	a, err := Flush(t.Context(), root, 2, 64<<10, 50*time.Millisecond)
	if err != nil || a.Bytes == 0 || a.Bytes%(64<<10) != 0 || a.Took <= 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if es, err := os.ReadDir(root); err != nil || len(es) > 0 {
		t.Errorf("left behind: %v, %v", es, err)
	}
	if _, err := Flush(t.Context(), filepath.Join(root, "missing"), 1, 1, time.Millisecond); err == nil {
		t.Error("flushed into a folder that is not there")
	}
}

// TestSend sends files once to their end, or over and over until the time is over, and takes
// them out of the page cache.
func TestSend(t *testing.T) {
	const size = 5 << 20
	var files []string
	for _, name := range []string{"a", "b"} {
		files = append(files, filepath.Join(t.TempDir(), name))
		if err := os.WriteFile(files[len(files)-1], make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := Send(t.Context(), files, false, time.Minute); err != nil || a.Bytes != 2*size {
		t.Errorf("once: %+v, %v", a, err)
	}
	if a, err := Send(t.Context(), files, true, 200*time.Millisecond); err != nil || a.Bytes <= 2*size {
		t.Errorf("again: %+v, %v", a, err)
	}
	if share, err := Resident(files); err != nil || share < 0.9 {
		t.Errorf("in the page cache after reading: %v, %v", share, err)
	}
	if err := Evict(append(files, "missing")); err != nil {
		t.Fatal(err)
	}
	if share, err := Resident(files); err != nil || share > 0.1 {
		t.Errorf("in the page cache after taking them out: %v, %v", share, err)
	}
	if _, err := Send(t.Context(), []string{"missing"}, false, time.Second); err == nil {
		t.Error("sent a file that is not there")
	}
}
