package storage

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

var compactCf = LogConfig{
	SegmentBytes: 600, IndexBytes: 1 << 20, IndexInterval: 100, RetentionBytes: -1, RetentionAge: -1,
	FlushMessages: 1, Compact: true, MinCleanable: 0.01,
}

// keyed makes a batch of one record a key; an empty value is a tombstone.
func keyed(c record.Codec, pairs ...string) []byte {
	b := record.NewBuilder(c)
	for i := 0; i < len(pairs); i += 2 {
		r := record.Record{Timestamp: 1000, Key: []byte(pairs[i])}
		if pairs[i+1] != "" {
			r.Value = []byte(pairs[i+1])
		}
		b.Add(r)
	}
	out, err := b.Build()
	if err != nil {
		panic(err)
	}
	return out
}

// records gives all records of a log, after it checked that offsets go up.
func records(t testing.TB, l *Log) []record.Record {
	t.Helper()
	var all []record.Record
	next := l.Start()
	for b := content(t, l); len(b) > 0; {
		h, err := record.ReadHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		err = record.Each(b[:h.Size()], func(r record.Record) error {
			if r.Offset < next && r.Offset >= l.Start() {
				return fmt.Errorf("offset %d after %d", r.Offset, next-1)
			}
			next = r.Offset + 1
			r.Key, r.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
			all = append(all, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b = b[h.Size():]
	}
	return all
}

// latest gives the last value of each key; tombstones and what is below them are absent.
func latest(t testing.TB, l *Log) map[string]string {
	m := map[string]string{}
	for _, r := range records(t, l) {
		m[string(r.Key)] = string(r.Value)
	}
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}

// settle makes all that was appended durable, checkpointed and below the high watermark.
func settle(t testing.TB, s *Store, l *Log) {
	t.Helper()
	l.SetHighWatermark(l.End())
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	s.checkpointAll(context.Background())
}

func TestCleanKeepsTheLatest(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Zstd} {
		s := mustOpen(t, options(disk.NewMemory(0)))
		l := mustCreate(t, s, compactCf)
		want := map[string]string{}
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 200 {
			a, b, v := fmt.Sprint("a", r.IntN(5)), fmt.Sprint("b", r.IntN(5)), fmt.Sprint("v", i)
			if i%7 == 0 {
				v = ""
			}
			mustAppend(t, l, keyed(codec, a, v, b, v))
			want[a], want[b] = v, v
		}
		maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
		settle(t, s, l)
		before, end := l.Size(), l.End()
		for now := int64(1); now < 4; now++ {
			s.cleanAll(t.Context())
			if err := l.clean(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			if got := latest(t, l); !maps.Equal(got, want) {
				t.Fatalf("%v, pass %d: latest values %v, want %v", codec, now, got, want)
			}
		}
		if l.Size() > before/3 || l.End() != end {
			t.Fatalf("%v: cleaning leaves %d of %d bytes", codec, l.Size(), before)
		}
		if n := len(*l.view.Load()); n > 6 {
			t.Fatalf("%v: %d segments are left, small ones are not joined", codec, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A segment that was closed since the last checkpoint is cleaned all the same.
func TestCleanDoesNotAwaitTheCheckpoint(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, compactCf)
	for i := range 200 {
		mustAppend(t, l, keyed(record.None, "key", fmt.Sprint("v", i)))
	}
	l.SetHighWatermark(l.End())
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	before := l.Size()
	s.cleanAll(t.Context())
	if l.Size() > before/3 {
		t.Errorf("cleaning leaves %d of %d bytes", l.Size(), before)
	}
	if l.awaitsCheckpoint() {
		t.Error("the cleaned log still waits for a checkpoint")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCleanTombstoneHorizon(t *testing.T) {
	c := compactCf
	c.DeleteRetention = 100e6 // 100 ms
	s := mustOpen(t, options(disk.NewMemory(0)))
	defer s.Close()
	l := mustCreate(t, s, c)
	mustAppend(t, l, keyed(record.None, "k", "old", "other", "x"))
	mustAppend(t, l, keyed(record.None, "k", ""))
	for i := range 20 {
		mustAppend(t, l, keyed(record.None, "fill", fmt.Sprint(i)))
	}
	settle(t, s, l)
	tombstones := func() (n int) {
		for _, r := range records(t, l) {
			if len(r.Value) == 0 {
				n++
				if r.Timestamp != 1000 {
					t.Fatalf("the tombstone's timestamp is %d", r.Timestamp)
				}
			}
		}
		return n
	}
	for _, at := range []struct{ now, want int64 }{{5000, 1}, {5050, 1}, {5100, 0}} {
		l.cleaned.Store(0)
		if err := l.clean(t.Context(), at.now); err != nil {
			t.Fatal(err)
		}
		if n := tombstones(); int64(n) != at.want {
			t.Fatalf("at %d there are %d tombstones, want %d", at.now, n, at.want)
		}
	}
	if got := latest(t, l); got["other"] != "x" || got["k"] != "" {
		t.Fatalf("latest values %v", got)
	}
}

func TestCleanKeepsProducersAndBounds(t *testing.T) {
	memory := disk.NewMemory(0)
	s := mustOpen(t, options(memory))
	l := mustCreate(t, s, compactCf)
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = 7, 0, 0
	b.Add(record.Record{Timestamp: 1, Key: []byte("k"), Value: []byte("1")})
	first, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(first, Append{Assign: true, Epoch: 1, Now: s.env.now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		mustAppend(t, l, keyed(record.None, "k", fmt.Sprint(i)))
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	s.checkpointAll(t.Context())
	l.SetHighWatermark(3)
	if _, due := l.dirty(1); due {
		t.Fatal("records above the high watermark would be cleaned")
	}
	settle(t, s, l)
	if err := l.clean(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	h, err := record.ReadHeader(content(t, l))
	if err != nil || h.ProducerID != 7 || h.Count != 0 || h.Last() != 0 {
		t.Fatalf("the producer's last batch is %+v, %v", h, err)
	}
	// Without snapshots the state comes from the batches.
	for _, e := range must(s.dirs[0].disk.List(l.folder)) {
		if _, ok := baseOf(e.Name, snapshotSuffix); ok {
			if err := s.dirs[0].disk.Remove(l.folder + "/" + e.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = mustOpen(t, options(memory.Crash(1)))
	if p := s.Log(testTP).Producers(); len(p) != 1 || p[0].ID != 7 || p[0].LastSequence != 0 {
		t.Fatalf("after a restart the producers are %+v", p)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// state is what a log that is cleaned must say once it ends at an offset.
type state struct {
	end  record.Offset
	keys map[string]string
}

// liveCleaned runs a workload that is cleaned now and then, until it is over or the disk fails.
func liveCleaned(fs disk.FS, seed uint64) (states []state, durable record.Offset) {
	r := rand.New(rand.NewPCG(seed, 9))
	s, err := Open(options(fs))
	if err != nil {
		return nil, 0
	}
	l, err := s.Create(testTP, testID, compactCf)
	if err != nil {
		return nil, 0
	}
	keys := map[string]string{}
	for i := range 60 {
		k, v := fmt.Sprint("k", r.IntN(6)), fmt.Sprint("value ", i)
		if r.IntN(6) == 0 {
			v = ""
		}
		_, err := l.Append(keyed(record.None, k, v), Append{Assign: true, Epoch: 1, Now: 5})
		keys[k] = v
		states = append(states, state{record.Offset(i + 1), maps.Clone(keys)})
		if err != nil {
			return states, durable
		}
		if i%15 == 14 {
			l.SetHighWatermark(l.End())
			if l.Flush() != nil {
				return states, durable
			}
			s.checkpointAll(context.Background())
			s.cleanAll(context.Background())
		}
		durable = l.Durable()
	}
	_ = s.Close()
	return states, durable
}

// judgeCleaned compares what is found after a crash with the latest values that were promised.
func judgeCleaned(t *testing.T, fs *disk.Memory, states []state, durable record.Offset, where string) {
	t.Helper()
	s, err := Open(options(fs))
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	l := s.Log(testTP)
	if l == nil && durable == 0 {
		return
	}
	if l == nil || l.Err() != nil || l.End() < durable {
		t.Fatalf("%s: the log was durable to %d: %+v", where, durable, l)
	}
	want := map[string]string{}
	if l.End() > 0 {
		want = maps.Clone(states[l.End()-1].keys)
	}
	maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
	if got := latest(t, l); !maps.Equal(got, want) {
		t.Fatalf("%s: latest values at %d are %v, want %v", where, l.End(), got, want)
	}
}

// TestPowerLostWhileCleaning cuts the power before each operation of a log that is cleaned.
func TestPowerLostWhileCleaning(t *testing.T) {
	for work := range uint64(3) {
		swaps := 0
		count := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
			if op.Kind == disk.Rename && strings.HasSuffix(op.Name, logSuffix+swapSuffix) {
				swaps++
			}
			return nil
		})
		liveCleaned(count, work)
		if swaps < 5 {
			t.Fatalf("the workload swaps %d cleaned segments only", swaps)
		}
		for cut := 1; cut <= count.Count(); cut++ {
			memory := disk.NewMemory(0)
			states, durable := liveCleaned(disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
				if op.N >= cut {
					return &disk.Fault{Err: errPower, Short: cut % 90}
				}
				return nil
			}), work)
			for seed := range uint64(4) {
				judgeCleaned(t, memory.Crash(uint64(cut)*100+seed), states, durable, fmt.Sprintf("work %d cut %d seed %d", work, cut, seed))
			}
		}
	}
}

// TestFullWhileCleaning makes the disk full for a while from each operation on.
func TestFullWhileCleaning(t *testing.T) {
	count := disk.NewFaulty(disk.NewMemory(0), func(disk.Op) *disk.Fault { return nil })
	liveCleaned(count, 7)
	for from := 1; from <= count.Count(); from++ {
		memory := disk.NewMemory(0)
		states, durable := liveCleaned(disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
			if op.N >= from && op.N < from+8 && (op.Kind == disk.Write || op.Kind == disk.Create || op.Kind == disk.Mkdir) {
				return &disk.Fault{Err: syscall.ENOSPC, Short: from % 70}
			}
			return nil
		}), 7)
		for seed := range uint64(2) {
			judgeCleaned(t, memory.Crash(uint64(from)*100+seed), states, durable, fmt.Sprintf("full from %d seed %d", from, seed))
		}
	}
}
