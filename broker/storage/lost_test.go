package storage

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestLostRecoveryPoints takes the file of the recovery points away while the node is
// down. The gaps that compaction left must not pass for segments that were never written.
func TestLostRecoveryPoints(t *testing.T) {
	for _, clean := range []bool{true, false} {
		memory := disk.NewMemory(0)
		s := mustOpen(t, options(memory))
		l := mustCreate(t, s, compactCf)
		want := map[string]string{}
		for i := range 300 {
			k, v := fmt.Sprint("k", i%7), fmt.Sprint("v", i)
			mustAppend(t, l, keyed(record.None, k, v))
			want[k] = v
		}
		settle(t, s, l)
		s.cleanAll(t.Context())
		for i := range 3 {
			k, v := fmt.Sprint("n", i), fmt.Sprint("w", i)
			mustAppend(t, l, keyed(record.None, k, v))
			want[k] = v
		}
		settle(t, s, l)
		if err := s.dirs[0].disk.Remove(recoveryFile); err != nil {
			t.Fatal(err)
		}
		if clean {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			d := must(memory.Open("/data"))
			if err := d.Remove(recoveryFile); err != nil && !disk.IsAbsent(err) {
				t.Fatal(err)
			}
		} else {
			_ = s.dirs[0].disk.Sync(".")
			memory = memory.Crash(1)
		}
		s = mustOpen(t, options(memory))
		l = mustCreate(t, s, compactCf)
		if got := latest(t, l); !maps.Equal(got, want) {
			t.Fatalf("clean %v: after the loss of the recovery points the log has %v, want %v", clean, got, want)
		}
		_ = s.Close()
	}
}

// TestSnapshotsDoNotPileUp restarts a node again and again. The producer state that each
// stop leaves behind is of no use after the next one.
func TestSnapshotsDoNotPileUp(t *testing.T) {
	memory := disk.NewMemory(0)
	var s *Store
	for i := range 20 {
		s = mustOpen(t, options(memory))
		l := mustCreate(t, s, smallCf)
		mustAppend(t, l, idempotent(7, 0, int32(i), 1))
		if i < 19 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := s.Log(testTP)
	segments := len(*l.view.Load())
	if names := files(t, s, l.folder, snapshotSuffix); len(names) > segments+1 {
		t.Errorf("%d snapshots of producer state beside %d segments: %q", len(names), segments, names)
	}
	if r := mustAppend(t, l, idempotent(7, 0, 19, 1)); !r.Duplicate {
		t.Error("the producer's last batch is not known any more")
	}
	_ = s.Close()
}

// TestEmptyLogsStartQuietly leaves files beside empty segments that do not fit them. Nothing
// is lost by that, and nobody is warned; of a segment with records somebody is.
func TestEmptyLogsStartQuietly(t *testing.T) {
	for _, records := range []int{0, 3} {
		for _, suffix := range []string{indexSuffix, timeSuffix, abortSuffix} {
			memory := disk.NewMemory(0)
			s := mustOpen(t, options(memory))
			l := mustCreate(t, s, smallCf)
			for range records {
				mustAppend(t, l, batch(1, 1))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			d := must(memory.Open("/data"))
			name := l.folder + "/00000000000000000000" + suffix
			f, err := d.OpenFile(name)
			if disk.IsAbsent(err) {
				f, err = d.Create(name)
			}
			if err != nil {
				t.Fatal(err)
			}
			info := must(f.Stat())
			must(f.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7}, info.Size))
			_, _ = f.Close(), d.Close()
			var said bytes.Buffer
			o := options(memory)
			o.Logger = slog.New(slog.NewTextHandler(&said, nil))
			s = mustOpen(t, o)
			if l = s.Log(testTP); l.Err() != nil || int(l.End()) != records {
				t.Fatalf("%s: the log ends at %d, %v", suffix, l.End(), l.Err())
			}
			if warned := strings.Contains(said.String(), "anew"); warned != (records > 0) {
				t.Errorf("%s beside %d records: it says %q", suffix, records, said.String())
			}
			_ = s.Close()
		}
	}
}
