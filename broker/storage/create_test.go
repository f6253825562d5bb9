package storage

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestCreateBesideEachOther makes many logs at the same time, each by two callers: both get
// the same log, and the directories fill evenly.
func TestCreateBesideEachOther(t *testing.T) {
	fs := disk.NewMemory(0)
	s := mustOpen(t, options(fs, "/a", "/b"))
	const n = 64
	var got [2][n]*Log
	var wg sync.WaitGroup
	for who := range got {
		for p := range n {
			wg.Go(func() {
				l, err := s.Create(topic.Partition{Topic: "bells", Partition: int32(p)}, testID, smallCf)
				if err != nil {
					t.Error(err)
				}
				got[who][p] = l
			})
		}
	}
	wg.Wait()
	dirs := map[string]int{}
	for p := range n {
		if got[0][p] == nil || got[0][p] != got[1][p] {
			t.Fatalf("partition %d: two callers got %p and %p", p, got[0][p], got[1][p])
		}
		dirs[got[0][p].Dir()]++
	}
	if want := fmt.Sprint(map[string]int{"/a": n / 2, "/b": n / 2}); fmt.Sprint(dirs) != want {
		t.Errorf("logs of each directory: %v, want %v", dirs, want)
	}
	if all := len(s.Logs()); all != n {
		t.Errorf("the store has %d logs, want %d", all, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = mustOpen(t, options(fs, "/a", "/b")); len(s.Logs()) != n {
		t.Errorf("after a restart the store has %d logs, want %d", len(s.Logs()), n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEmptyLogRestartsInSilence: a log without batches has no indexes, and nobody misses them.
func TestEmptyLogRestartsInSilence(t *testing.T) {
	var lines bytes.Buffer
	o := options(disk.NewMemory(0))
	o.Logger = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for range 3 {
		s := mustOpen(t, o)
		if err := mustCreate(t, s, smallCf).BeginEpoch(1); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if lines.Len() > 0 {
		t.Errorf("the log says:\n%s", lines.String())
	}
}
