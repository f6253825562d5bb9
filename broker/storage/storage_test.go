package storage

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

var (
	testID  = topic.ID{0: 'b', 1: 'e', 15: 1}
	testTP  = topic.Partition{Topic: "bells", Partition: 3}
	smallCf = LogConfig{
		SegmentBytes: 1000, SegmentAge: time.Hour, IndexBytes: 1 << 20, IndexInterval: 200,
		RetentionBytes: -1, RetentionAge: -1, FlushMessages: 1,
	}
)

// batch makes one uncompressed batch of n records with the timestamps ts, ts+1, …
func batch(n int, ts int64) []byte {
	b := record.NewBuilder(record.None)
	for i := range n {
		b.Add(record.Record{Timestamp: ts + int64(i), Key: []byte("k"), Value: []byte("value of a record")})
	}
	out, err := b.Build()
	if err != nil {
		panic(err)
	}
	return out
}

// idempotent makes a batch of a producer.
func idempotent(id int64, epoch int16, seq int32, n int) []byte {
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = id, epoch, seq
	for range n {
		b.Add(record.Record{Timestamp: 1000, Value: []byte("v")})
	}
	out, err := b.Build()
	if err != nil {
		panic(err)
	}
	return out
}

func options(fs disk.FS, dirs ...string) Options {
	if len(dirs) == 0 {
		dirs = []string{"/data"}
	}
	return Options{FS: fs, Dirs: dirs, NodeID: 1, Now: time.Now}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustCreate(t testing.TB, s *Store, c LogConfig) *Log {
	t.Helper()
	l, err := s.Create(testTP, testID, c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustAppend(t testing.TB, l *Log, b []byte) Appended {
	t.Helper()
	r, err := l.Append(b, Append{Assign: true, Epoch: max(1, l.LastEpoch()), Now: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// content gives all bytes of a log from its start, and fails unless the offsets go up.
func content(t testing.TB, l *Log) []byte {
	t.Helper()
	var all []byte
	for at := l.Start(); at < l.End(); {
		s, err := l.Read(at, 300, l.End(), true)
		if err != nil {
			t.Fatalf("read at %d of [%d, %d): %v", at, l.Start(), l.End(), err)
		}
		if s.Len() == 0 {
			t.Fatalf("read at %d of [%d, %d) gives nothing", at, l.Start(), l.End())
		}
		b := make([]byte, s.Len())
		if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		s.Release()
		for rest := b; len(rest) > 0; {
			h, err := record.Verify(rest)
			if err != nil {
				t.Fatalf("read at %d: %v", at, err)
			}
			if h.Last() < at {
				t.Fatalf("read at %d gives a batch that ends at %d", at, h.Last())
			}
			at = h.Last() + 1
			rest = rest[h.Size():]
		}
		all = append(all, b...)
	}
	return all
}

func TestAppendReadRestart(t *testing.T) {
	for name, fs := range map[string]disk.FS{"memory": disk.NewMemory(0), "real": disk.Real{}} {
		t.Run(name, func(t *testing.T) {
			o := options(fs, t.TempDir())
			s := mustOpen(t, o)
			l := mustCreate(t, s, smallCf)
			var want []byte
			next := record.Offset(0)
			for i := range 50 {
				b := batch(1+i%3, int64(1000+i))
				r := mustAppend(t, l, b)
				if r.First != next || r.Last != next+record.Offset(i%3) {
					t.Fatalf("batch %d lies at %d–%d, want from %d", i, r.First, r.Last, next)
				}
				next = r.Last + 1
				want = append(want, b...)
			}
			if got := content(t, l); !bytes.Equal(got, want) {
				t.Fatalf("read %d bytes that are not the %d appended", len(got), len(want))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, o)
			l = mustCreate(t, s, smallCf)
			if l.End() != next || l.Durable() != next {
				t.Fatalf("after restart the log ends at %d, durable to %d, want %d", l.End(), l.Durable(), next)
			}
			if got := content(t, l); !bytes.Equal(got, want) {
				t.Fatalf("after restart: read %d bytes that are not the %d appended", len(got), len(want))
			}
			mustAppend(t, l, batch(1, 5000))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestGroupCommitMakesDurable(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	defer s.Close()
	l := mustCreate(t, s, smallCf)
	moved := make(chan struct{}, 1)
	l.Notify(func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for range 30 {
		r := mustAppend(t, l, batch(2, 1))
		for l.Durable() <= r.Last {
			<-moved
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
