package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

func TestReadBounds(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	defer s.Close()
	l := mustCreate(t, s, smallCf)
	type at struct {
		first, last record.Offset
		size        int
	}
	var all []at
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		b := batch(1+r.IntN(4), 1)
		got := mustAppend(t, l, b)
		all = append(all, at{got.First, got.Last, len(b)})
	}
	for range 3000 {
		from, limit := record.Offset(r.IntN(int(l.End())+1)), record.Offset(r.IntN(int(l.End())+3))
		most, one := r.IntN(900), r.IntN(2) == 0
		slice, err := l.Read(from, most, limit, one)
		if err != nil {
			t.Fatal(err)
		}
		// What the contract says, batch by batch; a read may end early only at a segment's end.
		want, ends := 0, map[int]bool{}
		for _, b := range all {
			if b.last < from || b.first >= limit || from >= limit {
				continue
			}
			if want+b.size > most && (want > 0 || !one) {
				break
			}
			for _, seg := range *l.view.Load() {
				if seg.base == b.first {
					ends[want] = want > 0
				}
			}
			want += b.size
		}
		if n := slice.Len(); n != want && !ends[n] {
			t.Fatalf("Read(%d, %d, %d, %v) gives %d bytes, want %d", from, most, limit, one, n, want)
		}
		if n := l.Bytes(from, limit, most); one && most > 0 && n > most {
			t.Fatalf("Bytes(%d, %d, %d) is %d", from, limit, most, n)
		}
		slice.Release()
	}
	total := 0
	for _, b := range all {
		total += b.size
	}
	if n := l.Bytes(0, l.End(), 1<<30); n != total {
		t.Fatalf("Bytes of everything is %d, want %d", n, total)
	}
	for _, o := range []record.Offset{-1, l.End() + 1} {
		if _, err := l.Read(o, 100, 1<<60, true); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("a read at %d of [%d, %d] gives %v", o, l.Start(), l.End(), err)
		}
	}
	Slice{}.Release()
}

// TestOffsetAtIsExact compares with a look at every record.
func TestOffsetAtIsExact(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.LZ4} {
		memory := disk.NewMemory(0)
		s := mustOpen(t, options(memory))
		l := mustCreate(t, s, smallCf)
		type rec struct {
			o  record.Offset
			ts int64
		}
		var all []rec
		r := rand.New(rand.NewPCG(5, 5))
		for i := range 80 {
			b := record.NewBuilder(codec)
			for range 1 + r.IntN(5) {
				ts := int64(i*10) + r.Int64N(60)
				all = append(all, rec{record.Offset(len(all)), ts})
				b.Add(record.Record{Timestamp: ts, Value: []byte("v")})
			}
			mustAppend(t, l, must(b.Build()))
		}
		compare := func(l *Log, where string) {
			for ts := int64(-1); ts < 900; ts += 3 {
				limit := record.Offset(r.IntN(len(all) + 2))
				want := rec{-1, -1}
				for _, x := range all {
					if x.ts >= ts && x.o < limit && x.o >= l.Start() {
						want = x
						break
					}
				}
				o, at, _, found, err := l.OffsetAt(ts, limit)
				if err != nil || found != (want.o >= 0) || o != want.o || at != want.ts {
					t.Fatalf("%s: OffsetAt(%d, %d) gives %d at %d (%v, %v), want %+v", where, ts, limit, o, at, found, err, want)
				}
			}
			top := rec{-1, -1}
			for _, x := range all {
				if x.o >= l.Start() && x.ts > top.ts {
					top = x
				}
			}
			if o, at, e, _, err := l.MaxTimestamp(); err != nil || o != top.o || at != top.ts || e != 1 {
				t.Fatalf("%s: MaxTimestamp gives %d at %d in epoch %d (%v), want %+v", where, o, at, e, err, top)
			}
		}
		compare(l, "live")
		if _, err := l.DeleteBefore(record.Offset(len(all) - 7)); err != nil {
			t.Fatal(err)
		}
		compare(l, "after a deletion")
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		compare(mustOpen(t, options(memory.Crash(0))).Log(testTP), "after a crash")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		compare(mustOpen(t, options(memory)).Log(testTP), "after a restart")
	}
}

// TestSliceOutlivesDeletion sends a slice to a socket after its segment and log were deleted.
func TestSliceOutlivesDeletion(t *testing.T) {
	s := mustOpen(t, options(disk.Real{}, t.TempDir()))
	l := mustCreate(t, s, smallCf)
	var want []byte
	for range 30 {
		b := batch(3, 1)
		mustAppend(t, l, b)
		want = append(want, b...)
	}
	slice, err := l.Read(0, 1<<20, l.End(), true)
	if err != nil || slice.Len() == 0 {
		t.Fatalf("%d bytes, %v", slice.Len(), err)
	}
	l.SetHighWatermark(l.End())
	if _, err := s.FreeOldest(t.Context(), 1, nil); err != nil || l.Start() == 0 {
		t.Fatalf("the log starts at %d: %v", l.Start(), err)
	}
	if _, err := l.Read(0, 100, l.End(), true); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("a read of what was deleted gives %v", err)
	}
	if err := s.Delete(testTP, testID); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, pos := slice.File()
	if f == nil {
		t.Fatal("there is no file to send")
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", server.Addr().String())
		if err == nil {
			_, err = c.(*net.TCPConn).ReadFrom(io.NewSectionReader(f, pos, int64(slice.Len())))
			c.Close()
		}
		sent <- err
	}()
	c, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want[:slice.Len()]) {
		t.Fatalf("%d bytes came, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	slice.Release()
	if _, err := f.Stat(); err == nil {
		t.Fatal("the file is open after the last release")
	}
}

// follow reads a log up to an offset while others change it.
func follow(t *testing.T, l *Log, to record.Offset) {
	for at := record.Offset(0); at < to; {
		slice, err := l.Read(at, 500, l.End(), true)
		if errors.Is(err, ErrOffsetOutOfRange) {
			at = l.Start()
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		b := make([]byte, slice.Len())
		if _, err := slice.ReadAt(b, 0); err != nil && err != io.EOF {
			t.Error(err)
			return
		}
		for len(b) > 0 {
			h, err := record.Verify(b)
			if err != nil || h.Last() < at {
				t.Errorf("read at %d: batch to %d, %v", at, h.Last(), err)
				return
			}
			at, b = h.Last()+1, b[h.Size():]
		}
		slice.Release()
		if _, _, _, _, err = l.OffsetAt(500, l.End()); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestTogether appends, reads, deletes, cleans and checkpoints at the same time; it is there for the race detector.
func TestTogether(t *testing.T) {
	o := options(disk.Real{}, t.TempDir())
	s := mustOpen(t, o)
	c := smallCf
	c.Compact = true
	l := mustCreate(t, s, c)
	stop := run(t, s)
	var wait sync.WaitGroup
	const batches = 400
	wait.Go(func() {
		for i := range batches {
			mustAppend(t, l, keyed(record.None, fmt.Sprint(i%7), "some value"))
			l.SetHighWatermark(l.Durable())
		}
	})
	for range 3 {
		wait.Go(func() { follow(t, l, batches) })
	}
	wait.Go(func() {
		for range 20 {
			s.checkpointAll(t.Context())
			if err := l.clean(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if _, err := l.DeleteBefore(l.HighWatermark() / 2); err != nil {
				t.Error(err)
			}
			s.dropIdle(t.Context())
		}
	})
	wait.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o).Log(testTP)
	if l.Err() != nil || l.End() != batches {
		t.Fatalf("after a restart the log ends at %d: %v", l.End(), l.Err())
	}
	content(t, l)
}
