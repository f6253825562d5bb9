package checkpoint

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSaveReplacesAndLoadGivesTheLast(t *testing.T) {
	f := New(filepath.Join(t.TempDir(), "state"), "test")
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load before Save: %v, want ErrNotExist", err)
	}
	for _, payload := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("two\n"), 10_000)} {
		if err := f.Save(payload); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load()
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("Load gave %d bytes, %v; want %d bytes", len(got), err, len(payload))
		}
	}
	if _, err := os.Stat(f.Path() + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f := New(path, "test")
	if err := f.Save([]byte("what we know\nabout alarms")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x20
		for what, raw := range map[string][]byte{"flipped": damaged, "torn": whole[:i]} {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Load(); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s at byte %d: Load says %v, want ErrCorrupt", what, i, err)
			}
		}
	}
	if err := f.SetAside(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after SetAside: %v, want ErrNotExist", err)
	}
}

func TestAnotherKindIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := New(path, "alarm").Save([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(path, "task").Load(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Load of another kind: %v, want ErrCorrupt", err)
	}
}

func TestAFailedSaveKeepsTheOldState(t *testing.T) {
	dir := t.TempDir()
	f := New(filepath.Join(dir, "state"), "test")
	if err := f.Save([]byte("old")); err != nil {
		t.Fatal(err)
	}
	// A directory in the way of the temporary file makes every write fail.
	if err := os.MkdirAll(filepath.Join(dir, "state.tmp", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Save([]byte("new")); err == nil {
		t.Fatal("Save succeeded without a place for its temporary file")
	}
	if got, err := f.Load(); err != nil || string(got) != "old" {
		t.Errorf("Load gave %q, %v; want the old state", got, err)
	}
}
