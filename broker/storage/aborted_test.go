package storage

import (
	"bytes"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestAbortedIndexIsKafkas compares with what Kafka 4.3.1 wrote: two transactions, the
// second one open while the first was aborted.
func TestAbortedIndexIsKafkas(t *testing.T) {
	ps := newProducers()
	begin := func(id int64, at record.Offset) {
		ps.follow(&record.Header{ProducerID: id, Base: at, Attributes: record.TransactionalBit}, nil, 0)
	}
	abort := func(id int64, at record.Offset) {
		ps.follow(&record.Header{ProducerID: id, Base: at, Attributes: record.TransactionalBit | record.ControlBit}, &record.Marker{}, 0)
	}
	begin(5, 2)
	begin(9, 3)
	abort(5, 7)
	abort(9, 8)
	var got []byte
	for _, e := range ps.ended {
		b := putAborted(e)
		got = append(got, b[:]...)
		if again := abortedOf(b[:]); again != e {
			t.Errorf("%+v reads as %+v", e, again)
		}
	}
	match(t, "txnindex-kafka", got)
}

// TestDamagedAbortedIndex: a file that cannot be what it should is made anew from the batches.
func TestDamagedAbortedIndex(t *testing.T) {
	fs := disk.NewMemory(0)
	s := mustOpen(t, options(fs))
	l := mustCreate(t, s, smallCf)
	for i := range int32(40) {
		mustAppend(t, l, transactional(5, 0, 3*i, 3))
		mustAppend(t, l, record.Marker{ProducerID: 5}.Batch(1))
	}
	settle(t, s, l)
	want := must(abortedIn(*l.view.Load(), 0, l.End()))
	if len(want) != 40 || len(*l.view.Load()) < 5 {
		t.Fatalf("%d aborted transactions in %d segments", len(want), len(*l.view.Load()))
	}
	segments := *l.view.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d := must(fs.Open("/data"))
	for i, bad := range [][]byte{{1}, bytes.Repeat([]byte{0xff}, abortEntry), make([]byte, 2*abortEntry), bytes.Repeat([]byte{0}, abortEntry+3)} {
		if err := disk.WriteAtomic(d, segments[i+1].name(abortSuffix), bad); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // made anew, then from the files that were written
		s = mustOpen(t, options(fs))
		l = s.Log(testTP)
		if got := must(abortedIn(*l.view.Load(), 0, l.End())); !slices.Equal(got, want) {
			t.Fatalf("aborted are %v\nwant %v", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAbortedGoWithTheirSegments: retention takes the entries of what it deletes, and no
// others; what is still open stays open.
func TestAbortedGoWithTheirSegments(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, smallCf)
	mustAppend(t, l, transactional(9, 0, 0, 1)) // never ends
	for i := range int32(40) {
		mustAppend(t, l, transactional(5, 0, 3*i, 3))
		mustAppend(t, l, record.Marker{ProducerID: 5}.Batch(1))
	}
	settle(t, s, l)
	all := must(abortedIn(*l.view.Load(), 0, l.End()))
	start := must(l.DeleteBefore(100))
	if start != 100 || l.LastStable(l.HighWatermark()) != 100 {
		t.Fatalf("the log starts at %d, the last stable offset is %d", start, l.LastStable(l.HighWatermark()))
	}
	want := slices.DeleteFunc(all, func(e endedTxn) bool { return e.last < 100 })
	if got := must(abortedIn(*l.view.Load(), 100, l.End())); !slices.Equal(got, want) {
		t.Errorf("aborted are %v\nwant %v", got, want)
	}
	if ps := l.Producers(); len(ps) != 1 || ps[0].ID != 9 || ps[0].CurrentTxnStart != 0 {
		t.Errorf("producers %+v, the one with the open transaction is to be there", ps)
	}
	mustAppend(t, l, record.Marker{ProducerID: 9}.Batch(1))
	l.SetHighWatermark(l.End())
	if got := l.LastStable(l.HighWatermark()); got != l.End() {
		t.Errorf("the last stable offset is %d, want the end %d", got, l.End())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzAbortedIndex loads a file that is what the fuzzer makes of it: what passes for an
// index can be searched, and cut.
func FuzzAbortedIndex(f *testing.F) {
	f.Add(undump(f, "txnindex-kafka"), int64(3), int64(8))
	f.Add([]byte{1, 2, 3}, int64(0), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, from, to int64) {
		fs := disk.NewMemory(0)
		d := must(fs.Open("/data"))
		if err := d.Mkdir("log"); err != nil {
			t.Fatal(err)
		}
		s := newSegment(d, "log", 0)
		if err := disk.WriteAtomic(d, s.name(abortSuffix), b); err != nil {
			t.Fatal(err)
		}
		if err := s.loadAborts(); err != nil {
			return
		}
		out, _, err := s.aborted(record.Offset(from), record.Offset(to), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out {
			if e.last < record.Offset(from) || e.first >= record.Offset(to) {
				t.Errorf("%+v is not in [%d, %d)", e, from, to)
			}
		}
		if err := s.cutAborts(record.Offset(from)); err != nil {
			t.Fatal(err)
		}
		if out, _, err := s.aborted(record.Offset(from), 1<<62, nil); err != nil || len(out) > 0 {
			t.Errorf("after a cut at %d: %v %v", from, out, err)
		}
	})
}
