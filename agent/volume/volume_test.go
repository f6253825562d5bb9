package volume

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func write(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUsageOfCapacity(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a", "0.log"), 64<<10)
	write(t, filepath.Join(dir, "b", "0.log"), 16<<10)
	sparse, err := os.Create(filepath.Join(dir, "b", "0.index"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(10 << 20); err != nil {
		t.Fatal(err)
	}
	sparse.Close()
	if err := os.Link(filepath.Join(dir, "a", "0.log"), filepath.Join(dir, "b", "link.log")); err != nil {
		t.Fatal(err)
	}
	used, total, percent, err := Usage([]string{dir, dir}, 160<<10)
	if err != nil {
		t.Fatal(err)
	}
	if used != 80<<10 || total != 160<<10 || percent != 50 {
		t.Errorf("got %d of %d (%v %%), want 80 KiB of 160 KiB, 50 %%", used, total, percent)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if used, _, _, err := Usage([]string{link}, 160<<10); err != nil || used != 80<<10 {
		t.Errorf("through a link: %d, %v", used, err)
	}
	if _, _, percent, err = Usage([]string{dir}, 10<<10); err != nil || percent != 100 {
		t.Errorf("got %v %%, %v; want 100 %% past the capacity", percent, err)
	}
}

// TestUsageIsDfs holds our number against the tool that people will compare it with.
func TestUsageIsDfs(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("df", "--output=pcent", dir).Output()
	if err != nil {
		t.Fatalf("cannot run df: %v", err)
	}
	lines := strings.Fields(string(out))
	want, err := strconv.Atoi(strings.TrimSuffix(lines[len(lines)-1], "%"))
	if err != nil {
		t.Fatal(err)
	}
	used, total, percent, err := Usage([]string{dir}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(percent-float64(want)) > 1.5 { // df rounds up, and others write to the disk
		t.Errorf("got %v %%, df says %d %%", percent, want)
	}
	if used <= 0 || total < used {
		t.Errorf("got %d of %d bytes", used, total)
	}
}

func TestRealDiskWins(t *testing.T) {
	for _, c := range []struct {
		name            string
		fullest         float64
		held, available int64
		capacity        int64
		want            float64
	}{
		{"room for the whole capacity", 70, 10, 100, 100, 0},
		{"exactly enough room", 70, 10, 90, 100, 0},
		{"disk ends before the capacity", 97, 10, 50, 100, 97},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := realLimit(c.fullest, c.held, []system{{available: c.available}}, c.capacity)
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestUsageFailures(t *testing.T) {
	if _, _, _, err := Usage(nil, 0); !errors.Is(err, ErrNoDirs) {
		t.Errorf("got %v, want ErrNoDirs", err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if _, _, _, err := Usage([]string{gone}, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	here := t.TempDir()
	write(t, filepath.Join(here, "x"), 8192)
	used, _, _, err := Usage([]string{gone, here}, 1<<30)
	if err != nil || used != 8192 {
		t.Errorf("got %d, %v; one broken directory must not hide the other", used, err)
	}
}
