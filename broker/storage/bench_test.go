package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// sized makes a batch of about n bytes, of an idempotent producer.
func sized(n int) []byte {
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = 1, 0, 0
	b.Add(record.Record{Timestamp: 1, Value: make([]byte, n)})
	return must(b.Build())
}

// benchConfig is Kafka's defaults where they matter here.
func benchConfig(flush int64) LogConfig {
	return LogConfig{SegmentBytes: 1 << 30, SegmentAge: 24 * time.Hour, IndexBytes: 10 << 20, IndexInterval: 4096, RetentionBytes: -1, RetentionAge: -1, FlushMessages: flush}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(n>>10, "KiB"), func(b *testing.B) {
			s := mustOpen(b, options(disk.Real{}, b.TempDir()))
			defer s.Close()
			l := mustCreate(b, s, benchConfig(0))
			batch := sized(n)
			h := must(record.ReadHeader(batch))
			now := time.Now().UnixMilli()
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.BaseSequence = int32(i)
				h.Put(batch)
				if _, err := l.Append(batch, Append{Assign: true, Epoch: 1, Now: now}); err != nil {
					b.Fatal(err)
				}
				if l.Size() > 2<<30 {
					b.StopTimer()
					l.SetHighWatermark(l.End())
					if _, err := s.FreeOldest(b.Context(), 1<<30, nil); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkReadTail reads the last batch, as a consumer that keeps up does.
func BenchmarkReadTail(b *testing.B) {
	s := mustOpen(b, options(disk.Real{}, b.TempDir()))
	defer s.Close()
	l := mustCreate(b, s, benchConfig(0))
	for range 10000 {
		mustAppend(b, l, batch(1, 1))
	}
	end := l.End()
	b.ReportAllocs()
	for b.Loop() {
		slice, err := l.Read(end-1, 1<<20, end, true)
		if err != nil || slice.Len() == 0 {
			b.Fatal(err)
		}
		slice.Release()
	}
}

// BenchmarkReadCatchUp reads 1 MiB after the other, as a consumer that lags does.
func BenchmarkReadCatchUp(b *testing.B) {
	s := mustOpen(b, options(disk.Real{}, b.TempDir()))
	defer s.Close()
	c := benchConfig(0)
	c.SegmentBytes = 8 << 20
	l := mustCreate(b, s, c)
	for range 30000 {
		mustAppend(b, l, batch(30, 1))
	}
	if err := l.Flush(); err != nil {
		b.Fatal(err)
	}
	at, end, one := record.Offset(0), l.End(), len(batch(30, 1))
	b.ReportAllocs()
	for b.Loop() {
		slice, err := l.Read(at, 1<<20, end, true)
		if err != nil || slice.Len() == 0 {
			b.Fatal(err)
		}
		b.SetBytes(int64(slice.Len()))
		// The next offset comes from the client; here the batches are all alike.
		at += record.Offset(slice.Len() / one * 30)
		if at >= end {
			at = 0
		}
		slice.Release()
	}
}

// BenchmarkGroupCommit appends from several goroutines and waits until each batch is durable.
func BenchmarkGroupCommit(b *testing.B) {
	for _, logs := range []int{1, 16} {
		b.Run(fmt.Sprint(logs, "logs"), func(b *testing.B) {
			s := mustOpen(b, options(disk.Real{}, b.TempDir()))
			defer s.Close()
			next := make(chan int, logs)
			var all []*Log
			var moved []chan struct{}
			for i := range logs {
				p := testTP
				p.Partition = int32(i)
				l := must(s.Create(p, testID, benchConfig(1)))
				wake := make(chan struct{}, 1)
				l.Notify(func() {
					select {
					case wake <- struct{}{}:
					default:
					}
				})
				all, moved = append(all, l), append(moved, wake)
				next <- i
			}
			stop := runFor(b, s)
			b.SetParallelism(logs)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := <-next
					r := mustAppend(b, all[i], batch(1, 1))
					for all[i].Durable() <= r.Last {
						<-moved[i]
					}
					next <- i
				}
			})
			b.StopTimer()
			stop()
		})
	}
}

func runFor(b *testing.B, s *Store) func() {
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRestart closes and opens a store of many partitions.
func BenchmarkRestart(b *testing.B) {
	o := options(disk.Real{}, b.TempDir())
	s := mustOpen(b, o)
	const logs = 1000
	for i := range logs {
		p := testTP
		p.Partition = int32(i)
		mustAppend(b, must(s.Create(p, testID, benchConfig(0))), batch(3, 1))
	}
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = mustOpen(b, o)
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
