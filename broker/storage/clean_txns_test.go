package storage

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// committed reads a log as a consumer with read_committed does, from answers of at most max
// bytes: each answer must tell by itself what was aborted.
func committed(t testing.TB, l *Log, max int) (out []record.Record) {
	t.Helper()
	limit := l.LastStable(l.HighWatermark())
	for at := l.Start(); at < limit; {
		next, more, err := committedFrom(l, at, max, limit)
		if err != nil {
			t.Fatal(err)
		}
		if next == at {
			break // cleaned away up to the limit
		}
		at, out = next, append(out, more...)
	}
	return out
}

// committedFrom gives what a consumer takes out of one answer, and where it goes on.
func committedFrom(l *Log, at record.Offset, max int, limit record.Offset) (next record.Offset, out []record.Record, err error) {
	s, list, err := l.ReadCommitted(at, max, limit, true)
	if err != nil {
		return at, nil, err
	}
	defer s.Release()
	b := make([]byte, s.Len())
	if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
		return at, nil, err
	}
	slices.SortFunc(list, func(a, b Aborted) int { return cmp.Compare(a.First, b.First) })
	skip := map[int64]bool{}
	for next = at; len(b) > 0; b = b[must(record.ReadHeader(b)).Size():] {
		h := must(record.ReadHeader(b))
		for len(list) > 0 && list[0].First <= h.Last() {
			skip[list[0].ProducerID] = true
			list = list[1:]
		}
		next = h.Last() + 1
		switch {
		case h.Control():
			if m, ok, err := record.ReadMarker(b[:h.Size()]); err != nil || ok && !m.Commit {
				delete(skip, h.ProducerID)
			}
			continue
		case h.Transactional() && skip[h.ProducerID]:
			continue
		}
		err := record.Each(b[:h.Size()], func(r record.Record) error {
			r.Key, r.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
			out = append(out, r)
			return nil
		})
		if err != nil {
			return at, nil, err
		}
	}
	return next, out, nil
}

// visible gives the last committed value of each key, and fails on an aborted one.
func visible(t testing.TB, l *Log) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, max := range []int{1, 700, 1 << 20} {
		clear(m)
		for _, r := range committed(t, l, max) {
			if strings.HasPrefix(string(r.Value), "aborted") {
				t.Fatalf("in answers of %d bytes the record at %d is %q", max, r.Offset, r.Value)
			}
			m[string(r.Key)] = string(r.Value)
		}
	}
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}

// muddle is a workload of interleaved transactions over a few keys.
type muddle struct {
	seqs [5]int32
	open [5][][2]string // what the producer's open transaction has written
	fate [5]bool        // it will commit
	want map[string]string
	n    int
}

// step appends one batch or marker.
func (m *muddle) step(t testing.TB, l *Log, r *rand.Rand) {
	t.Helper()
	id := r.Int64N(5)
	m.n++
	if id > 0 && m.open[id] != nil && r.IntN(3) == 0 {
		m.end(t, l, id)
		return
	}
	if id > 0 && m.open[id] == nil {
		m.fate[id] = r.IntN(2) == 0
	}
	value := fmt.Sprint("v", m.n)
	if id > 0 && !m.fate[id] {
		value = fmt.Sprint("aborted", m.n)
	} else if r.IntN(6) == 0 {
		value = ""
	}
	b := record.NewBuilder(record.Codec(r.IntN(2)))
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = id, 0, m.seqs[id]
	if id > 0 {
		b.Header.Attributes = record.TransactionalBit
	}
	// Why keys of each producer's own: which value of a key is the last one is clear then,
	// however transactions overlap.
	for range 1 + r.IntN(2) {
		key := fmt.Sprint("k", id, r.IntN(3))
		rec := record.Record{Timestamp: 1000, Key: []byte(key)}
		if value != "" {
			rec.Value = []byte(value)
		}
		b.Add(rec)
		m.seqs[id]++
		if id == 0 {
			m.want[key] = value
		} else {
			m.open[id] = append(m.open[id], [2]string{key, value})
		}
	}
	mustAppend(t, l, must(b.Build()))
}

func (m *muddle) end(t testing.TB, l *Log, id int64) {
	t.Helper()
	marker := record.Marker{ProducerID: id, CoordinatorEpoch: 1, Commit: m.fate[id]}
	mustAppend(t, l, marker.Batch(1000))
	if m.fate[id] {
		for _, kv := range m.open[id] {
			m.want[kv[0]] = kv[1]
		}
	}
	m.open[id] = nil
}

// finish ends every transaction and gives what is visible then.
func (m *muddle) finish(t testing.TB, l *Log) map[string]string {
	t.Helper()
	for id := range int64(5) {
		if m.open[id] != nil {
			m.end(t, l, id)
		}
	}
	maps.DeleteFunc(m.want, func(_, v string) bool { return v == "" })
	return m.want
}

// TestCleanTransactions cleans logs of many transactions, by and by up to the end of all
// horizons; what a consumer sees stays the same (R26).
func TestCleanTransactions(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := mustOpen(t, options(disk.NewMemory(0)))
		c := compactCf
		c.DeleteRetention = 100e6 // 100 ms
		l := mustCreate(t, s, c)
		m := muddle{want: map[string]string{}}
		for now := int64(1); now < 1000; now += 130 {
			for range 60 {
				m.step(t, l, r)
			}
			settle(t, s, l)
			visible(t, l)
			if err := l.clean(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			visible(t, l)
		}
		want := m.finish(t, l)
		for range 5 {
			mustAppend(t, l, keyed(record.None, "fill", strings.Repeat("x", 500)))
		}
		settle(t, s, l)
		if got := visible(t, l); !maps.Equal(got, with(want, "fill", strings.Repeat("x", 500))) {
			t.Fatalf("seed %d: before the last passes a consumer sees %v\nwant %v", seed, got, want)
		}
		all := l.Size()
		for now := int64(2000); now < 2400; now += 130 {
			l.cleaned.Store(0)
			if err := l.clean(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		if got := visible(t, l); !maps.Equal(got, with(want, "fill", strings.Repeat("x", 500))) {
			t.Fatalf("seed %d: after cleaning a consumer sees %v\nwant %v", seed, got, want)
		}
		checkCleaned(t, l, seed, all)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, s.o)
		l = s.Log(testTP)
		if got := visible(t, l); !maps.Equal(got, with(want, "fill", strings.Repeat("x", 500))) {
			t.Fatalf("seed %d: after a restart a consumer sees %v\nwant %v", seed, got, want)
		}
		// And with every index made anew from what is left.
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d := must(s.o.FS.Open("/data"))
		for _, seg := range *l.view.Load() {
			if err := d.Remove(seg.name(indexSuffix)); err != nil {
				t.Fatal(err)
			}
		}
		s = mustOpen(t, s.o)
		if got := visible(t, s.Log(testTP)); !maps.Equal(got, with(want, "fill", strings.Repeat("x", 500))) {
			t.Fatalf("seed %d: with new indexes a consumer sees %v\nwant %v", seed, got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func with(m map[string]string, k, v string) map[string]string {
	m = maps.Clone(m)
	m[k] = v
	return m
}

// checkCleaned looks at what is left: nothing aborted, and no marker without need.
func checkCleaned(t *testing.T, l *Log, seed uint64, before int64) {
	t.Helper()
	if l.Size() > before/2 {
		t.Errorf("seed %d: %d of %d bytes are left", seed, l.Size(), before)
	}
	data, markers, last := map[int64]bool{}, 0, l.cleaned.Load()
	for b := content(t, l); len(b) > 0; b = b[must(record.ReadHeader(b)).Size():] {
		h := must(record.ReadHeader(b))
		if int64(h.Base) >= last {
			break
		}
		if h.Control() {
			markers++
			if !data[h.ProducerID] && h.Count > 0 {
				t.Errorf("seed %d: the marker at %d ends a transaction of which nothing is left", seed, h.Base)
			}
			delete(data, h.ProducerID)
			continue
		}
		data[h.ProducerID] = true
		if err := record.Each(b[:h.Size()], func(r record.Record) error {
			if strings.HasPrefix(string(r.Value), "aborted") {
				t.Errorf("seed %d: the record at %d was aborted and is there", seed, r.Offset)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if markers > 20 {
		t.Errorf("seed %d: %d markers are left", seed, markers)
	}
	for _, p := range l.Producers() {
		if p.LastSequence >= 0 && p.LastOffset < 0 {
			t.Errorf("seed %d: producer %+v", seed, p)
		}
	}
}

// TestCleanWaitsForOpenTransactions: what lies above the last stable offset stays as it is.
func TestCleanWaitsForOpenTransactions(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, compactCf)
	mustAppend(t, l, keyed(record.None, "a", strings.Repeat("1", 700)))
	mustAppend(t, l, keyed(record.None, "a", strings.Repeat("2", 700)))
	mustAppend(t, l, transactional(5, 0, 0, 1))
	for range 4 {
		mustAppend(t, l, keyed(record.None, "a", strings.Repeat("3", 700)))
	}
	settle(t, s, l)
	if got := l.cleanBound(); got != 2 {
		t.Fatalf("the log may be cleaned up to %d, want 2", got)
	}
	end := mustAppend(t, l, record.Marker{ProducerID: 5}.Batch(1)).Last
	if got := l.cleanBound(); got != 2 {
		t.Fatalf("with a marker above the high watermark the log may be cleaned up to %d, want 2", got)
	}
	l.SetHighWatermark(end + 1)
	if got := l.cleanBound(); got <= 2 {
		t.Fatalf("after the transaction the log may be cleaned up to %d", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMarkersHaveNoKeys: a client's key of a marker's bytes takes no marker away (R26).
func TestMarkersHaveNoKeys(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	c := compactCf
	c.DeleteRetention = time.Hour
	l := mustCreate(t, s, c)
	mustAppend(t, l, transactional(5, 0, 0, 1))
	abort := mustAppend(t, l, record.Marker{ProducerID: 5}.Batch(1)).Last
	for range 4 {
		mustAppend(t, l, keyed(record.None, "\x00\x00\x00\x00", strings.Repeat("1", 700)))
	}
	settle(t, s, l)
	for now := int64(1); now < 4; now++ {
		l.cleaned.Store(0)
		if err := l.clean(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	found := false
	for b := content(t, l); len(b) > 0; b = b[must(record.ReadHeader(b)).Size():] {
		if h := must(record.ReadHeader(b)); h.Base == abort {
			m, ok, err := record.ReadMarker(b[:h.Size()])
			found = true
			if !ok || err != nil || m.ProducerID != 5 || h.Attributes&record.DeleteHorizonBit == 0 {
				t.Errorf("of the marker is left %+v, %v, %v with attributes %#x", m, ok, err, h.Attributes)
			}
		}
	}
	if !found {
		t.Error("the marker is gone before its time")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLostWhileCleaningTransactions cuts the power before each operation of a cleaning.
func TestPowerLostWhileCleaningTransactions(t *testing.T) {
	for seed := range uint64(2) {
		prepare := func() (*disk.Memory, map[string]string) {
			memory := disk.NewMemory(0)
			s := mustOpen(t, options(memory))
			l := mustCreate(t, s, compactCf)
			m := muddle{want: map[string]string{}}
			r := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				m.step(t, l, r)
			}
			want := m.finish(t, l)
			settle(t, s, l)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return memory, want
		}
		clean := func(fs disk.FS) {
			s, err := Open(options(fs))
			if err != nil {
				return
			}
			l, err := s.Create(testTP, testID, compactCf)
			if err != nil {
				return
			}
			for now := int64(1); now < 4 && l.clean(context.Background(), now) == nil; now++ {
				l.cleaned.Store(0)
			}
			_ = s.Close()
		}
		base, want := prepare()
		count := disk.NewFaulty(base.Crash(0), func(disk.Op) *disk.Fault { return nil })
		clean(count)
		if count.Count() < 100 {
			t.Fatalf("cleaning takes %d operations only", count.Count())
		}
		for cut := 1 + int(seed); cut <= count.Count(); cut += 2 {
			memory := base.Crash(0)
			clean(disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
				if op.N >= cut {
					return &disk.Fault{Err: errPower, Short: cut % 200}
				}
				return nil
			}))
			for crash := range uint64(2) {
				s := mustOpen(t, options(memory.Crash(uint64(cut)*10+crash)))
				l := s.Log(testTP)
				if l.Err() != nil {
					t.Fatalf("seed %d cut %d crash %d: %v", seed, cut, crash, l.Err())
				}
				l.SetHighWatermark(l.End())
				if got := visible(t, l); !maps.Equal(got, want) {
					t.Fatalf("seed %d cut %d crash %d: a consumer sees %v\nwant %v", seed, cut, crash, got, want)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
