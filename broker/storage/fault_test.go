package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// run starts the store's background work and gives what ends it.
func run(t *testing.T, s *Store) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestFailedSyncTakesTheDirectoryOffline(t *testing.T) {
	bad := ""
	fs := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
		if bad != "" && op.Kind == disk.SyncFile && strings.Contains(op.Name, bad) {
			return &disk.Fault{Err: syscall.EIO}
		}
		return nil
	})
	o := options(fs, "/a", "/b")
	failed := make(chan string, 4)
	o.DirFailed = func(dir string, err error) { failed <- fmt.Sprint(dir, errors.Is(err, syscall.EIO)) }
	s := mustOpen(t, o)
	first := mustCreate(t, s, smallCf)
	second, err := s.Create(topic.Partition{Topic: "other"}, topic.ID{1}, smallCf)
	if err != nil || first.Dir() == second.Dir() {
		t.Fatalf("the second log is in %q like the first one (%v)", second.Dir(), err)
	}
	mustAppend(t, first, batch(1, 1))
	bad = first.folder
	if err := first.Flush(); !errors.Is(err, ErrOffline) {
		t.Fatalf("a failed sync gives %v, want %v", err, ErrOffline)
	}
	bad = ""
	stop := run(t, s)
	if got := <-failed; got != first.Dir()+"true" {
		t.Fatalf("DirFailed was told %q", got)
	}
	if _, err := first.Append(batch(1, 1), Append{Assign: true}); !errors.Is(err, ErrOffline) {
		t.Fatalf("an append to a failed directory gives %v", err)
	}
	if _, err := first.Read(0, 100, 1, true); !errors.Is(err, ErrOffline) {
		t.Fatalf("a read from a failed directory gives %v", err)
	}
	if first.Durable() != 0 {
		t.Fatalf("%d records count as durable after a failed sync", first.Durable())
	}
	mustAppend(t, second, batch(1, 1))
	if err := second.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(failed) > 0 {
		t.Fatal("DirFailed was called twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clean := map[string]bool{}
	for _, dir := range o.Dirs {
		d, _ := fs.Open(dir)
		_, err := d.Stat(cleanFile)
		clean[dir] = err == nil
	}
	if clean[first.Dir()] || !clean[second.Dir()] {
		t.Fatalf("clean-shutdown files: %v, the directory that failed is %q", clean, first.Dir())
	}
}

func TestRunEndsWithTheLastDirectory(t *testing.T) {
	broken := false
	fs := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
		if broken && op.Kind == disk.Write {
			return &disk.Fault{Err: syscall.EIO, Short: 10}
		}
		return nil
	})
	s := mustOpen(t, options(fs))
	l := mustCreate(t, s, smallCf)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	broken = true
	if _, err := l.Append(batch(1, 1), Append{Assign: true}); !errors.Is(err, ErrOffline) {
		t.Fatalf("a failed write gives %v", err)
	}
	if err := <-done; !errors.Is(err, syscall.EIO) {
		t.Fatalf("Run ends with %v", err)
	}
	if l.End() != 0 {
		t.Fatalf("the log ends at %d after a failed write", l.End())
	}
	_ = s.Close()
}

// TestFullAtEveryOperation makes the disk full for a while from each operation on.
func TestFullAtEveryOperation(t *testing.T) {
	for from := 1; from < 260; from++ {
		memory := disk.NewMemory(0)
		full := false
		fs := disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
			full = op.N >= from && op.N < from+15
			needs := op.Kind == disk.Write || op.Kind == disk.Create || op.Kind == disk.Mkdir || op.Kind == disk.Allocate
			if full && needs {
				return &disk.Fault{Err: syscall.ENOSPC, Short: from % 90}
			}
			return nil
		})
		s, err := Open(options(fs))
		if err != nil {
			continue // the disk was full while the directory was formatted
		}
		l, err := s.Create(testTP, testID, smallCf)
		for errors.Is(err, ErrFull) {
			l, err = s.Create(testTP, testID, smallCf)
		}
		if err != nil {
			t.Fatalf("full from %d: create: %v", from, err)
		}
		var want []byte
		for i := range 60 {
			b := batch(1+i%3, int64(i))
			_, err := l.Append(b, Append{Assign: true, Epoch: record.Epoch(i / 10), Now: 5})
			if err == nil {
				want = append(want, b...)
			} else if !errors.Is(err, ErrFull) {
				t.Fatalf("full from %d: append: %v", from, err)
			}
			if i%7 == 0 {
				if err := l.Flush(); err != nil {
					t.Fatalf("full from %d: flush: %v", from, err)
				}
				s.checkpointAll(context.Background())
			}
		}
		if err := l.Err(); err != nil {
			t.Fatalf("full from %d: %v", from, err)
		}
		if got := content(t, l); !bytes.Equal(got, want) {
			t.Fatalf("full from %d: the content is not what was appended", from)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("full from %d: close: %v", from, err)
		}
		s = mustOpen(t, options(memory))
		l = mustCreate(t, s, smallCf)
		if got := content(t, l); !bytes.Equal(got, want) {
			t.Fatalf("full from %d: after a restart the content is not what was appended", from)
		}
		if r := mustAppend(t, l, batch(1, 1)); r.First != r.Last {
			t.Fatal("no append after a restart")
		}
	}
}

// appendUntilFull appends batches of n records until the disk is full.
func appendUntilFull(t *testing.T, l *Log, n int) {
	t.Helper()
	for {
		_, err := l.Append(batch(n, 1), Append{Assign: true, Epoch: 1, Now: 1})
		if errors.Is(err, ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoByteLeft runs a node into a disk without a free byte, restarts it there, and frees space.
func TestNoByteLeft(t *testing.T) {
	const capacity = 4 << 20
	memory := disk.NewMemory(capacity)
	o := options(memory)
	o.Reserve = 1 << 20 // bounded to a twentieth
	s := mustOpen(t, o)
	c := smallCf
	c.SegmentBytes, c.FlushMessages = 64<<10, 0
	l := mustCreate(t, s, c)
	c.Internal = true
	inner, err := s.Create(topic.Partition{Topic: topic.ConsumerOffsets}, topic.ID{9}, c)
	if err != nil {
		t.Fatal(err)
	}
	for n := 200; n > 0; n /= 2 {
		appendUntilFull(t, l, n)
	}
	memory.SetCapacity(memory.Used()) // others take the rest
	if inner.End() != 0 {
		t.Fatal("the internal log is not empty")
	}
	mustAppend(t, inner, batch(3, 1))
	if _, err := l.Append(batch(1, 1), Append{Assign: true, Epoch: 1, Now: 1}); !errors.Is(err, ErrFull) {
		t.Fatalf("a client's append to a full disk gives %v", err)
	}
	// What ends a transaction is taken: an open one would hold up readers and cleaner.
	if _, err := l.Append(record.Marker{ProducerID: 9, Commit: true}.Batch(1), Append{Assign: true, Epoch: 1, Now: 1, Marker: true}); err != nil {
		t.Fatalf("a marker on a full disk gives %v", err)
	}
	s.checkpointAll(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	memory.SetCapacity(memory.Used())

	s = mustOpen(t, o)
	l, inner = mustCreate(t, s, smallCf), s.Log(topic.Partition{Topic: topic.ConsumerOffsets})
	content(t, l)
	mustAppend(t, inner, batch(3, 1))
	if inner.End() != 6 || inner.Flush() != nil {
		t.Fatalf("the internal log ends at %d on a full disk, want 6", inner.End())
	}
	l.SetHighWatermark(l.End())
	if start, err := l.DeleteBefore(l.Start() + 1); err != nil || start != 1 {
		t.Fatalf("deletion on a full disk gives start %d, %v", start, err)
	}
	for s.dirs[0].reserve.mu.have > 0 {
		memory.SetCapacity(memory.Used()) // others take all that the reserve gave
		appendUntilFull(t, inner, 200)
	}
	if _, err := l.DeleteBefore(2); !errors.Is(err, ErrFull) {
		t.Fatalf("deletion without a byte and without reserve: %v", err)
	}
	if start, err := l.DeleteBefore(5000); err != nil || start != 5000 {
		t.Fatalf("deletion of whole segments without reserve: start %d, %v", start, err)
	}
	memory.SetCapacity(memory.Used())
	before := memory.Used()
	freed, err := s.FreeOldest(t.Context(), 300<<10, nil)
	if err != nil || freed < 300<<10 || l.Start() == 5000 {
		t.Fatalf("freed %d bytes, the log starts at %d: %v", freed, l.Start(), err)
	}
	if got := before - memory.Used(); got < 100<<10 {
		t.Fatalf("only %d bytes of the disk are free again", got)
	}
	s.tidy(t.Context())
	mustAppend(t, l, batch(1, 1))
	content(t, l)
	if s.dirs[0].Err() != nil {
		t.Fatal(s.dirs[0].Err())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRetentionByTimeAndSize(t *testing.T) {
	c := smallCf
	c.Delete, c.RetentionAge = true, time.Hour
	s := mustOpen(t, options(disk.NewMemory(0)))
	defer s.Close()
	l := mustCreate(t, s, c)
	now := time.Now().UnixMilli()
	old := now - 2*time.Hour.Milliseconds()
	for range 20 {
		if _, err := l.Append(batch(2, old), Append{Assign: true, Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	l.SetHighWatermark(25)
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if l.Start() == 0 || l.Start() > 25 {
		t.Fatalf("with a high watermark of 25 the log starts at %d", l.Start())
	}
	l.SetHighWatermark(l.End())
	end := l.End()
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if l.Start() != end || l.Size() != 0 {
		t.Fatalf("all is expired, but the log is [%d, %d) of %d bytes", l.Start(), l.End(), l.Size())
	}
	c.RetentionAge, c.RetentionBytes = -1, 3000
	l.Reconfigure(c)
	for range 60 {
		mustAppend(t, l, batch(2, now))
	}
	l.SetHighWatermark(l.End())
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if n := l.Size(); n < 3000 || n > 4000 {
		t.Fatalf("retention by size leaves %d bytes of 3000", n)
	}
	content(t, l)
}

// setForward gives a time as the system does after its wall clock was set: the monotonic reading has not moved, as it
// has after Add.
func setForward(now time.Time, by time.Duration) time.Time {
	if !strings.Contains(now.String(), " m=") {
		panic("BUG: a time without a monotonic reading")
	}
	*(*uint64)(unsafe.Pointer(&now)) += uint64(by/time.Second) << 30 // its wall seconds lie from bit 30 on
	return now
}

func TestClockJumpDeletesNothing(t *testing.T) {
	now := time.Now()
	c := newRetentionClock(func() time.Time { return now })
	if got, jumped := c.now(); jumped || got != now {
		t.Fatal("a right clock is not believed")
	}
	now = setForward(now, 1000*time.Hour)
	if got, jumped := c.now(); !jumped || now.Round(0).Sub(got.Round(0)) < 999*time.Hour {
		t.Fatalf("after a jump of 1000 h retention counts from %v, %v", got, jumped)
	}
	if _, jumped := c.now(); jumped {
		t.Fatal("one jump is told twice")
	}
}

func TestMetaMismatchRefuses(t *testing.T) {
	memory := disk.NewMemory(0)
	o := options(memory)
	s := mustOpen(t, o)
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Fatalf("two stores in one directory: %v", err)
	}
	cluster := s.ClusterID()
	mustCreate(t, s, smallCf)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.NodeID = 7
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), `/data/meta.properties" says node.id 1, the configuration says 7`) {
		t.Fatalf("another node's directory: %v", err)
	}
	o.NodeID, o.ClusterID = 1, "another"
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), cluster) || !strings.Contains(err.Error(), "another") {
		t.Fatalf("another cluster's directory: %v", err)
	}
	d, _ := memory.Open("/data")
	if err := d.Remove(metaFile); err != nil {
		t.Fatal(err)
	}
	o.ClusterID = cluster
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "holds logs") {
		t.Fatalf("logs without meta.properties: %v", err)
	}
}

func TestDamageBelowTheRecoveryPoint(t *testing.T) {
	memory := disk.NewMemory(0)
	o := options(memory)
	s := mustOpen(t, o)
	l := mustCreate(t, s, smallCf)
	for range 5 {
		mustAppend(t, l, batch(1, 1))
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	s.checkpointAll(t.Context())
	d, _ := memory.Open("/data")
	f, err := d.OpenFile(l.active().name(logSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 150); err != nil {
		t.Fatal(err)
	}
	size := l.Size()
	s = mustOpen(t, options(memory.Crash(1)))
	l = s.Log(testTP)
	if l.Err() == nil {
		t.Fatal("the damaged log serves")
	}
	if _, err := l.Append(batch(1, 1), Append{Assign: true}); !errors.Is(err, ErrOffline) {
		t.Fatalf("an append to it gives %v", err)
	}
	if s.Dirs()[0].Err != nil {
		t.Fatal("the directory is offline too")
	}
	info, err := s.dirs[0].disk.Stat(fileName(l.folder, 0, logSuffix))
	if err != nil || info.Size != size {
		t.Fatalf("the damaged file has %d bytes, it had %d: %v", info.Size, size, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.dirs[0].disk.Stat(cleanFile); err == nil {
		t.Fatal("a clean shutdown is claimed, so that the next start would not look")
	}
}
