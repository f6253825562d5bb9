package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestSameOnBoth runs the operations on the machine's file system and on the one in memory.
func TestSameOnBoth(t *testing.T) {
	for name, f := range map[string]FS{"real": Real{}, "memory": NewMemory(0)} {
		t.Run(name, func(t *testing.T) {
			d := must(f.Open(filepath.Join(t.TempDir(), "a/b")))
			defer d.Close()
			if err := d.Mkdir("x"); err != nil {
				t.Fatal(err)
			}
			file := must(d.Create("x/one"))
			if _, err := d.Create("x/one"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a file is made twice: %v", err)
			}
			if _, err := file.WriteAt([]byte("hello"), 3); err != nil {
				t.Fatal(err)
			}
			if err := file.Allocate(0, 1<<16); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			if info := must(file.Stat()); info.Size != 8 {
				t.Errorf("the size is %d", info.Size)
			}
			if err := file.Truncate(6); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(file.Sync(), d.Sync("x"), d.Sync("."), file.Close()); err != nil {
				t.Fatal(err)
			}
			if got := must(ReadFile(d, "x/one")); string(got) != "\x00\x00\x00hel" {
				t.Errorf("content %q", got)
			}
			if err := WriteAtomic(d, "x/two", []byte("2")); err != nil {
				t.Fatal(err)
			}
			if err := d.Rename("x/two", "x/one"); err != nil {
				t.Fatal(err)
			}
			entries := must(d.List("x"))
			if len(entries) != 1 || entries[0] != (Entry{Name: "one"}) || string(must(ReadFile(d, "x/one"))) != "2" {
				t.Errorf("after the rename there are %v", entries)
			}
			if err := d.Remove("x"); err == nil {
				t.Error("a full directory is removed")
			}
			for _, bad := range []string{"../x", "/etc/passwd", "x/../../y"} {
				if _, err := d.OpenFile(bad); err == nil {
					t.Errorf("%q is opened", bad)
				}
			}
			lock := must(d.Lock("lock"))
			if _, err := d.Lock("lock"); !errors.Is(err, ErrLocked) {
				t.Errorf("two locks: %v", err)
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			must(d.Lock("lock")).Close()
			if err := RemoveAll(d, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Stat("x"); !IsAbsent(err) {
				t.Errorf("x is there: %v", err)
			}
			total, free, err := d.Usage()
			if err != nil || total <= 0 || free < 0 || free > total {
				t.Errorf("usage %d of %d, %v", free, total, err)
			}
		})
	}
}

func TestRootHoldsSymlinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	d := must(Real{}.Open(dir))
	defer d.Close()
	if _, err := d.List("out"); err == nil {
		t.Error("a symbolic link leads out of the directory")
	}
}

// TestCrash checks what is promised of lost power, and that all that may happen does.
func TestCrash(t *testing.T) {
	m := NewMemory(0)
	d := must(m.Open("/d"))
	f := must(d.Create("kept"))
	synced := bytes.Repeat([]byte("s"), 1000)
	must(f.WriteAt(synced, 0))
	if err := errors.Join(f.Sync(), d.Sync(".")); err != nil {
		t.Fatal(err)
	}
	must(f.WriteAt(bytes.Repeat([]byte("u"), 3000), 1000))
	must(d.Create("new"))
	if err := d.Rename("kept", "moved"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for seed := range uint64(200) {
		after := must(m.Crash(seed).Open("/d"))
		name := "kept"
		if _, err := after.Stat(name); err != nil {
			name = "moved"
			seen["moved"]++
		}
		b := must(ReadFile(after, name))
		if !bytes.HasPrefix(b, synced) {
			t.Fatalf("seed %d: synced bytes are lost", seed)
		}
		if _, err := after.Stat("new"); err == nil {
			seen["new"]++
		}
		switch rest := b[1000:]; {
		case len(rest) == 0:
			seen["lost"]++
		case len(rest) == 3000 && bytes.Count(rest, []byte("u")) == 3000:
			seen["whole"]++
		case bytes.Contains(rest, []byte{0}):
			seen["holes"]++
		default:
			seen["short"]++
		}
	}
	for _, what := range []string{"moved", "new", "lost", "whole", "holes", "short"} {
		if n := seen[what]; n < 5 || n > 195 {
			t.Errorf("%q is seen %d times of 200", what, n)
		}
	}
}

func TestMemoryIsFull(t *testing.T) {
	m := NewMemory(3 * blockSize)
	d := must(m.Open("/d"))
	a, b := must(d.Create("a")), must(d.Create("b"))
	must(a.WriteAt(make([]byte, blockSize+1), 0))
	n, err := b.WriteAt(make([]byte, 2*blockSize), 0)
	if n != blockSize || !IsFull(err) {
		t.Fatalf("%d bytes are written to a disk with room for %d: %v", n, blockSize, err)
	}
	if err := b.Allocate(blockSize, 1); !IsFull(err) {
		t.Fatalf("allocation on a full disk: %v", err)
	}
	if _, err := a.WriteAt(make([]byte, blockSize-1), blockSize+1); err != nil {
		t.Fatalf("a block that is taken cannot be filled: %v", err)
	}
	if err := d.Remove("a"); err != nil || m.Used() != 3*blockSize {
		t.Fatalf("%d bytes are used while the removed file is open", m.Used())
	}
	a.Close()
	if m.Used() != blockSize {
		t.Fatalf("%d bytes are used", m.Used())
	}
	if err := WriteAtomic(d, "c", make([]byte, 3*blockSize)); !IsFull(err) || len(must(d.List("."))) != 1 {
		t.Fatalf("a failed WriteAtomic leaves %v: %v", must(d.List(".")), err)
	}
}

func TestFaulty(t *testing.T) {
	f := NewFaulty(NewMemory(0), func(op Op) *Fault {
		if op.N == 2 && op.Kind == Write {
			return &Fault{Err: syscall.EIO, Short: 2}
		}
		return nil
	})
	d := must(f.Open("/d"))
	a := must(d.Create("a"))
	if n, err := a.WriteAt([]byte("abc"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if got := must(ReadFile(d, "a")); string(got) != "ab" || f.Count() != 2 {
		t.Fatalf("%q after %d operations", got, f.Count())
	}
}
