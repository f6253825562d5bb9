package storage

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// Who reads while the log is truncated finds an end, or what is written next; it never takes
// the cut for damage.
func TestReadsWhileTheLogIsCut(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	c := smallCf
	c.SegmentBytes = 1000
	l, err := s.Create(testTP, testID, c)
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer over.Store(true)
	for i := range 3 {
		wg.Go(func() {
			for n := 0; !over.Load(); n++ {
				from := max(0, l.End()-record.Offset(n%7))
				var err error
				switch i {
				case 0:
					var slice Slice
					slice, err = l.Read(from, 500, l.End(), true)
					slice.Release()
				case 1:
					_, _, _, _, err = l.OffsetAt(int64(from), l.End())
				case 2:
					_, _, _, _, err = l.MaxTimestamp()
				}
				if err != nil && !errors.Is(err, ErrOffsetOutOfRange) {
					t.Errorf("reader %d is told %v", i, err)
					return
				}
			}
		})
	}
	for range 300 {
		for range 5 {
			if _, err := l.Append(batch(1, int64(l.End())), Append{Assign: true, Epoch: 1, Now: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Truncate(l.End() - 4); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Err(); err != nil {
		t.Errorf("the log is offline: %v", err)
	}
}
