package storage

import (
	"fmt"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestRotStaysInItsLog changes each byte of a batch on disk, one at a time, and lets a
// search by time and the cleaner meet it. Rot of one log must not take its directory, with
// all other logs, out of service.
func TestRotStaysInItsLog(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Gzip} {
		for _, work := range []string{"search", "clean"} {
			for at := int64(codec); at < 90; at += 1 + 6*int64(codec) {
				s := mustOpen(t, options(disk.NewMemory(0)))
				l := mustCreate(t, s, compactCf)
				for i := range 40 {
					mustAppend(t, l, keyed(codec, fmt.Sprint("key ", i%5), fmt.Sprint("value ", i)))
				}
				settle(t, s, l)
				h := must((*l.view.Load())[1].take())
				b := make([]byte, 1)
				must(h.ReadAt(b, at))
				must(h.WriteAt([]byte{b[0] ^ 0xff}, at))
				h.Release()
				if work == "search" {
					first := (*l.view.Load())[1].base
					if _, err := l.DeleteBefore(first); err != nil {
						t.Fatal(err)
					}
					_, _, _, _, _ = l.OffsetAt(0, l.End())
				} else {
					_ = l.clean(t.Context(), 1)
				}
				if err := s.dirs[0].Err(); err != nil {
					t.Errorf("%v, %s, byte %d: the directory is offline: %v", codec, work, at, err)
				}
				_ = s.Close()
			}
		}
	}
}
