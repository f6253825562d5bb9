package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestCompactionLag holds the cleaner to the shortest and the longest time that messages
// may stay uncompacted.
func TestCompactionLag(t *testing.T) {
	for name, c := range map[string]LogConfig{
		"shortest": {SegmentBytes: 600, MinCleanable: 0.01, MinLag: time.Hour},
		// Without the limit neither the size nor the share of dirty bytes would ever do.
		"longest": {SegmentBytes: 1 << 20, MinCleanable: 2, MaxLag: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := options(disk.NewMemory(0))
			o.Checkpoint, o.CleanEvery = 10*time.Second, time.Minute
			s := mustOpen(t, o)
			c.Compact, c.IndexBytes, c.FlushMessages, c.RetentionBytes, c.RetentionAge = true, 1<<20, 1, -1, -1
			l := mustCreate(t, s, c)
			stop := run(t, s)
			defer func() {
				if err := errors.Join(stop(), s.Close()); err != nil {
					t.Error(err)
				}
			}()
			for i := range 60 {
				now := time.Now().UnixMilli()
				b := keyed(record.None, "k", fmt.Sprint("v", i))
				record.StampAppendTime(b, now)
				if _, err := l.Append(b, Append{Assign: true, Epoch: 1, Now: now}); err != nil {
					t.Fatal(err)
				}
			}
			l.SetHighWatermark(l.End())
			full := l.Size()
			time.Sleep(55 * time.Minute)
			if l.Size() != full {
				t.Fatalf("%s: after 55 min of the hour %d of %d bytes are left", name, l.Size(), full)
			}
			time.Sleep(10 * time.Minute)
			if l.Size() > full/4 {
				t.Fatalf("%s: 5 min after the hour %d of %d bytes are left", name, l.Size(), full)
			}
		})
	}
}

// TestProducerExpiry forgets a silent producer after the time that the settings say.
func TestProducerExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(disk.NewMemory(0))
		o.Checkpoint, o.ProducerExpiry = time.Minute, 10*time.Minute
		s := mustOpen(t, o)
		l := mustCreate(t, s, smallCf)
		stop := run(t, s)
		defer func() {
			if err := errors.Join(stop(), s.Close()); err != nil {
				t.Error(err)
			}
		}()
		if _, err := l.Append(idempotent(7, 0, 0, 1), Append{Assign: true, Epoch: 1, Now: time.Now().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		if len(l.Producers()) != 1 {
			t.Fatal("the producer is forgotten after 9 of 10 minutes")
		}
		time.Sleep(3 * time.Minute)
		if n := len(l.Producers()); n != 0 {
			t.Fatalf("%d producers are remembered after 12 of 10 minutes", n)
		}
	})
}

// TestProducerExpiryOfAClockThatJumps: a clock that is set forward makes nobody forget what was appended a moment ago.
func TestProducerExpiryOfAClockThatJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(disk.NewMemory(0))
		o.Checkpoint, o.ProducerExpiry = time.Minute, 24*time.Hour
		var ahead atomic.Int64
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		s := mustOpen(t, o)
		l := mustCreate(t, s, smallCf)
		stop := run(t, s)
		defer func() {
			if err := errors.Join(stop(), s.Close()); err != nil {
				t.Error(err)
			}
		}()
		if _, err := l.Append(idempotent(7, 0, 0, 1), Append{Assign: true, Epoch: 1, Now: o.Now().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		ahead.Store(int64(48 * time.Hour))
		time.Sleep(5 * time.Minute)
		if len(l.Producers()) != 1 {
			t.Fatal("the producer is forgotten")
		}
		if r, err := l.Append(idempotent(7, 0, 0, 1), Append{Assign: true, Epoch: 1, Now: o.Now().UnixMilli()}); err != nil || !r.Duplicate {
			t.Fatalf("a batch that is sent again: %+v, %v", r, err)
		}
		time.Sleep(25 * time.Hour)
		if n := len(l.Producers()); n != 0 {
			t.Fatalf("%d producers are remembered after 25 hours", n)
		}
	})
}
