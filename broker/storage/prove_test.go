package storage

import (
	"errors"
	"fmt"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestReadFindsEveryFlippedBit flips each bit of batches – the first one of a segment, one in
// the middle, the last one – offset and epoch too, which no check sum covers, and reads from
// where the batch was and from the one before.
func TestReadFindsEveryFlippedBit(t *testing.T) {
	memory := disk.NewMemory(0)
	s := mustOpen(t, options(memory))
	c := smallCf
	c.IndexInterval = 150
	l := mustCreate(t, s, c)
	for i := range 60 {
		if _, err := l.Append(batch(1, int64(i)), Append{Assign: true, Epoch: record.Epoch(3 + i/4), Now: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, s, l)
	v := *l.view.Load()
	seg := v[2]
	var heads []record.Header
	var places []int64
	if err := l.eachHeader(seg, seg.base, func(h *record.Header, at int64) bool {
		heads, places = append(heads, *h), append(places, at)
		return true
	}); err != nil || len(heads) < 5 {
		t.Fatalf("%d batches, %v", len(heads), err)
	}
	h := must(seg.take())
	defer h.Release()
	for _, n := range []int{0, len(heads) / 2, len(heads) - 1} {
		for bit := range heads[n].Size() * 8 {
			at := places[n] + int64(bit/8)
			b := make([]byte, 1)
			must(h.ReadAt(b, at))
			must(h.WriteAt([]byte{b[0] ^ 1<<(bit%8)}, at))
			for _, from := range []record.Offset{heads[n].Base, heads[n].Base - 1} {
				seg.proven.Store(0)
				seg.hint.Store(0)
				got, err := l.Read(from, 1, l.End(), true)
				if err == nil && from < heads[n].Base { // the one before is good, if it is that one
					first := record.Header{Base: -1}
					if got.Len() > 0 {
						first, err = head(got)
					}
					got.Release()
					if err != nil || first.Base != from {
						t.Errorf("batch %d, bit %d: a read from %d gives offset %d, %v", n, bit, from, first.Base, err)
					}
				} else if !errors.Is(err, ErrOffline) {
					t.Errorf("batch %d, bit %d: a read from %d gives %v", n, bit, from, err)
				}
				l.damage.Store(nil)
			}
			must(h.WriteAt(b, at))
		}
	}
	seg.proven.Store(0)
	if got, err := l.Read(seg.base, 1<<20, l.End(), true); err != nil || got.Len() == 0 {
		t.Errorf("a good segment gives %v", err)
	}
	_ = s.Close()
}

// head gives the header of a slice's first batch.
func head(s Slice) (record.Header, error) {
	b := make([]byte, record.HeaderSize)
	if _, err := s.ReadAt(b, 0); err != nil {
		return record.Header{}, fmt.Errorf("cannot read %d bytes: %w", s.Len(), err)
	}
	return record.ReadHeader(b)
}

// TestWrongIndexIsNotDamage changes the entries of an index: the log is as it was written.
func TestWrongIndexIsNotDamage(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, smallCf)
	for range 60 {
		mustAppend(t, l, batch(1, 1))
	}
	settle(t, s, l)
	seg := (*l.view.Load())[1]
	x := must(s.dirs[0].disk.OpenFile(seg.name(indexSuffix)))
	if _, err := x.WriteAt([]byte{0, 0, 0, 1}, 0); err != nil { // the last offset of the first entry's batch
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	seg.proven.Store(0)
	got := content(t, l)
	if len(got) == 0 || l.Err() != nil {
		t.Errorf("%d bytes, %v", len(got), l.Err())
	}
	_ = s.Close()
}
