package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run starts the writer and gives what ends it.
func run(t *testing.T, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestTasksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	stop := run(t, s)
	done := s.Begin("delete oldest data", "0", "")
	done.Report(40, "4 of 10 segments")
	done.Finish(nil)
	done.Finish(errors.New("too late")) // only the first counts
	bad := s.Begin("restart", "0", "ann")
	bad.Finish(errors.New("no space"))
	gone := s.Begin("balance", "orders", "ann")
	gone.Finish(fmt.Errorf("stopped: %w", context.Canceled))
	half := s.Begin("reject produce", "0", "")
	half.Report(170, "")
	stop()

	s = open(t, dir)
	want := map[string]State{done.ID(): Succeeded, bad.ID(): Failed, gone.ID(): Cancelled, half.ID(): Interrupted}
	for id, state := range want {
		if got, ok := s.Find(id); !ok || got.State != state || got.End.IsZero() {
			t.Errorf("task %q: %+v; want state %s", got.Name, got, state)
		}
	}
	if got, _ := s.Find(half.ID()); got.Progress != 100 {
		t.Errorf("progress %v, want it capped at 100", got.Progress)
	}
	if got := s.List(Filter{State: Failed}); len(got) != 1 || got[0].Error != "no space" || got[0].User != "ann" {
		t.Errorf("failed tasks: %+v", got)
	}
	if got := s.List(Filter{Name: "DELETE"}); len(got) != 1 || got[0].Detail != "4 of 10 segments" {
		t.Errorf("tasks by name: %+v", got)
	}
	if got := s.List(Filter{From: time.Now().Add(time.Hour)}); len(got) != 0 {
		t.Errorf("tasks of the future: %+v", got)
	}
}

func TestDelete(t *testing.T) {
	s := open(t, t.TempDir())
	h := s.Begin("x", "", "")
	if err := s.Delete(h.ID()); !errors.Is(err, ErrRunning) {
		t.Errorf("deleting a running task: %v", err)
	}
	h.Finish(nil)
	if err := s.Delete(h.ID()); err != nil {
		t.Error(err)
	}
	if err := s.Delete(h.ID()); !errors.Is(err, ErrUnknown) {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestTheListIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	first := s.Begin("runs on", "", "")
	for range maxTasks + 10 {
		s.Begin("x", "", "").Finish(nil)
	}
	if got := s.List(Filter{}); len(got) != maxTasks {
		t.Errorf("%d tasks, want %d", len(got), maxTasks)
	}
	if _, ok := s.Find(first.ID()); !ok {
		t.Error("a running task was forgotten")
	}
}

func TestAFailingDiskIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	block := filepath.Join(dir, "tasks.tmp", "x")
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir)
		stop := run(t, s)
		h := s.Begin("x", "", "")
		time.Sleep(saveEvery / 2)
		synctest.Wait()
		if err := os.RemoveAll(filepath.Join(dir, "tasks.tmp")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveEvery)
		synctest.Wait()
		if got, ok := open(t, dir).Find(h.ID()); !ok || got.Name != "x" {
			t.Errorf("after the disk came back: %+v, %v", got, ok)
		}
		stop()
	})
}

func TestADamagedListIsSetAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).List(Filter{}); len(got) != 0 {
		t.Errorf("tasks out of rubbish: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "tasks.corrupt")); err != nil {
		t.Error(err)
	}
}
