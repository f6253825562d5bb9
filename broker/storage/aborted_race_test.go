package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestCommittedReadersBesideCleaner reads, over and over, a log that is appended to, rolled,
// cleaned, cut from below and truncated meanwhile: no reader ever sees an aborted record.
func TestCommittedReadersBesideCleaner(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, compactCf)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				readCommittedOnce(t, l, 400*(1+5*n))
			}
		})
	}
	m := muddle{want: map[string]string{}}
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		for range 40 {
			m.step(t, l, r)
		}
		settle(t, s, l)
		if err := l.clean(ctx, int64(round)); err != nil {
			t.Error(err)
		}
		switch round % 6 {
		case 2:
			if _, err := l.DeleteBefore(l.Start() + (l.LastStable(l.End())-l.Start())/2); err != nil {
				t.Error(err)
			}
		case 5:
			// What is cut was never committed: appended, and not below the high watermark yet.
			end := l.End()
			mustAppend(t, l, keyed(record.None, "cut", "cut"))
			mustAppend(t, l, record.Marker{ProducerID: 1, CoordinatorEpoch: 1}.Batch(1000))
			if err := l.Truncate(end); err != nil {
				t.Error(err)
			}
		}
	}
	cancel()
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// readCommittedOnce reads from the log start to the last stable offset.
func readCommittedOnce(t *testing.T, l *Log, most int) {
	for at := l.Start(); ; {
		at = max(at, l.Start())
		next, got, err := committedFrom(l, at, most, l.LastStable(l.HighWatermark()))
		if errors.Is(err, ErrOffsetOutOfRange) {
			continue // retention was faster
		}
		if err != nil {
			t.Error(err)
			return
		}
		for _, r := range got {
			if strings.HasPrefix(string(r.Value), "aborted") || string(r.Value) == "cut" {
				t.Errorf("the record at %d is %q", r.Offset, r.Value)
			}
		}
		if next == at {
			return
		}
		at = next
	}
}
