package storage

import (
	"fmt"
	"maps"
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
