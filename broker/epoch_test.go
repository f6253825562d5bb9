package broker

import (
	"strings"
	"syscall"
	"testing"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

func TestEpochOfTheStartBefore(t *testing.T) {
	fs, dir := disk.Real{}, t.TempDir()
	previous := func(boot string) int64 {
		t.Helper()
		epoch, err := previousEpoch(fs, dir, boot)
		if err != nil {
			t.Fatal(err)
		}
		return epoch
	}
	if got := previous("b1"); got != controller.NoEpoch {
		t.Fatalf("a first start has epoch %d", got)
	}
	if err := noteEpoch(fs, dir, 41, "b1"); err != nil {
		t.Fatal(err)
	}
	// The process died; the page cache of the boot has all that it wrote.
	if got := previous("b1"); got != 41 {
		t.Fatalf("after the death of the process: %d", got)
	}
	// The machine started anew, or nobody can tell.
	for _, boot := range []string{"b2", ""} {
		if got := previous(boot); got != controller.NoEpoch {
			t.Fatalf("boot %q: %d", boot, got)
		}
	}
	if err := noteEpoch(fs, dir, 42, endedWell); err != nil {
		t.Fatal(err)
	}
	if got := previous("b2"); got != 42 {
		t.Fatalf("after a clean stop: %d", got)
	}
	if err := forgetEpoch(fs, dir); err != nil {
		t.Fatal(err)
	}
	if got := previous("b1"); got != controller.NoEpoch {
		t.Fatalf("after a disk failed: %d", got)
	}
	if err := noteEpoch(fs, dir, 43, ""); err != nil { // where the boot is not known
		t.Fatal(err)
	}
	if got := previous(""); got != controller.NoEpoch {
		t.Fatalf("%d", got)
	}
}

func TestDamagedEpochSaysNothing(t *testing.T) {
	good := epochText(7, endedWell)
	if got := readEpoch(good, ""); got != 7 {
		t.Fatalf("%d", got)
	}
	for i := range good {
		bad := good[:i] + string(good[i]^1) + good[i+1:]
		if got := readEpoch(bad, ""); got != controller.NoEpoch {
			t.Errorf("byte %d changed, and it reads as %d", i, got)
		}
		if got := readEpoch(good[:i], ""); got != controller.NoEpoch {
			t.Errorf("cut at byte %d, and it reads as %d", i, got)
		}
	}
	if got := readEpoch(strings.Repeat("x", 100), ""); got != controller.NoEpoch {
		t.Fatalf("%d", got)
	}
}

// TestEpochOnAFullDisk: a node starts and stops on a full disk, and claims nothing that it could not write down.
func TestEpochOnAFullDisk(t *testing.T) {
	full := false
	dir := t.TempDir()
	fs := disk.NewFaulty(disk.Real{}, func(op disk.Op) *disk.Fault {
		if full && op.Kind == disk.Write {
			return &disk.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	if err := noteEpoch(fs, dir, 41, endedWell); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := noteEpoch(fs, dir, 42, "b1"); err != nil {
		t.Fatal(err)
	}
	if got, err := previousEpoch(fs, dir, "b1"); got != controller.NoEpoch || err != nil {
		t.Errorf("after a start on a full disk: %d, %v", got, err)
	}
}
