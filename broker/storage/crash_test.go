package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

var errPower = errors.New("the power is out")

// appended is one batch of the model: where it lies, its bytes, and the producer state behind it.
type appended struct {
	first, last record.Offset
	bytes       []byte
	state       []byte
}

// model is what a log must be after a crash.
type model struct {
	batches []appended // all that were handed to Append successfully or not, in order
	durable record.Offset
	start   record.Offset // acknowledged
	most    record.Offset // log start that was asked for
}

// cut is a truncation that was asked for: nothing above is promised any more.
func (m *model) cut(to record.Offset) {
	for _, a := range m.batches {
		if a.first <= to && to <= a.last {
			to = a.first // the whole batch goes
		}
	}
	m.durable = min(m.durable, to)
}

// drop forgets the batches that a finished truncation took.
func (m *model) drop(end record.Offset) {
	m.batches = slices.DeleteFunc(m.batches, func(a appended) bool { return a.first >= end })
}

// live runs a workload until it is over or the disk fails; the model follows.
func live(t *testing.T, fs disk.FS, seed uint64, m *model) {
	r := rand.New(rand.NewPCG(seed, 3))
	seqs := map[int64]int32{}
	epoch := record.Epoch(1)
	for range 3 {
		s, err := Open(options(fs))
		if err != nil {
			return
		}
		c := smallCf
		c.SegmentBytes, c.Preallocate = 700, seed%2 == 1
		l, err := s.Create(testTP, testID, c)
		if err != nil {
			return
		}
		for range 25 {
			if err := step(l, s, r, seqs, &epoch, m); err != nil {
				if !errors.Is(err, ErrOffline) {
					t.Fatalf("a step failed with %v", err)
				}
				return
			}
			m.durable = max(m.durable, l.Durable())
		}
		if err := s.Close(); err != nil {
			return
		}
		m.durable = max(m.durable, l.Durable())
	}
}

// step does one thing at random.
func step(l *Log, s *Store, r *rand.Rand, seqs map[int64]int32, epoch *record.Epoch, m *model) error {
	switch x := r.IntN(20); {
	case x < 11:
		id, n := int64(r.IntN(4)), 1+r.IntN(3)
		b := idempotent(id, 0, seqs[id], n)
		switch r.IntN(5) {
		case 0:
			b = batch(n, r.Int64N(1000))
			id = -1
		case 1:
			m := record.Marker{ProducerID: 2 + r.Int64N(2), CoordinatorEpoch: 1, Commit: r.IntN(3) == 0}
			b, id, n = m.Batch(5), -1, 1
		default:
			if id >= 2 {
				b = transactional(id, 0, seqs[id], n)
			}
		}
		got, err := l.Append(b, Append{Assign: true, Epoch: *epoch, Now: l.env.now().UnixMilli(), LogAppendTime: r.IntN(5) == 0})
		if err != nil {
			// It may be on disk all the same: the model takes it as possible.
			record.SetBase(b, l.End(), *epoch)
			m.batches = append(m.batches, appended{l.End(), l.End() + record.Offset(n-1), b, nil})
			return err
		}
		if id >= 0 {
			seqs[id] += int32(n)
		}
		m.batches = append(m.batches, appended{got.First, got.Last, bytes.Clone(b), l.mu.producers.encode(nil)})
	case x < 14:
		return l.Flush()
	case x < 15:
		*epoch++
		return l.BeginEpoch(*epoch)
	case x < 17:
		s.checkpointAll(context.Background())
		return l.ready()
	case x < 18 && l.End() > l.Start()+4:
		o := l.Start() + record.Offset(r.Int64N(int64(l.End()-l.Start())/2))
		m.most = max(m.most, o)
		start, err := l.DeleteBefore(o)
		if err == nil {
			m.start = start
		}
		return err
	case x < 19 && l.End() > l.Start()+6:
		to := l.End() - record.Offset(1+r.Int64N(5))
		m.cut(to)
		if err := l.Truncate(to); err != nil {
			return err
		}
		m.cut(l.End())
		m.drop(l.End())
		for id := range seqs {
			seqs[id] = 0
		}
		for _, p := range l.Producers() {
			seqs[p.ID] = p.LastSequence + 1
		}
	default:
		s.trash.empty(l.env.now().Add(1 << 40))
		l.SetHighWatermark(l.Durable())
	}
	return nil
}

// transactional makes a batch of a producer's transaction.
func transactional(id int64, epoch int16, seq int32, n int) []byte {
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = id, epoch, seq
	b.Header.Attributes = record.TransactionalBit
	for range n {
		b.Add(record.Record{Timestamp: 1000, Value: []byte("v")})
	}
	return must(b.Build())
}

// transactions gives the aborted transactions and the first offset of the oldest open one,
// found by reading the batches below end.
func transactions(batches []appended, end record.Offset) (aborted []endedTxn, first record.Offset) {
	open := map[int64]record.Offset{}
	for _, a := range batches {
		if a.first >= end {
			break
		}
		h := must(record.ReadHeader(a.bytes))
		began, ongoing := open[h.ProducerID]
		switch {
		case h.Control():
			m, _, err := record.ReadMarker(a.bytes)
			if err != nil {
				panic(err)
			}
			if ongoing && !m.Commit {
				aborted = append(aborted, endedTxn{id: m.ProducerID, first: began, last: h.Base, aborted: true})
			}
			delete(open, h.ProducerID)
		case h.Transactional() && !ongoing:
			open[h.ProducerID] = h.Base
		}
	}
	first = end
	for _, o := range open {
		first = min(first, o)
	}
	return aborted, first
}

// judgeTransactions compares what the log says of transactions with the model.
func judgeTransactions(m *model, l *Log) error {
	aborted, first := transactions(m.batches, l.End())
	l.SetHighWatermark(l.End())
	if got := l.LastStable(l.End()); got != max(first, l.Start()) {
		return fmt.Errorf("the last stable offset is %d, want %d", got, max(first, l.Start()))
	}
	for from := l.Start(); from < l.End(); from++ {
		for _, to := range []record.Offset{from + 1, from + 4, first} {
			if to <= from || to > first {
				continue
			}
			var want []endedTxn
			for _, e := range aborted {
				if e.first < to && e.last >= from {
					want = append(want, e)
				}
			}
			got, err := abortedIn(*l.view.Load(), from, to)
			for i := range got {
				got[i].stable = 0
			}
			if err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("aborted in [%d, %d): %v %v, want %v", from, to, got, err, want)
			}
		}
	}
	return nil
}

// judge compares a reopened log with the model.
func judge(m *model, l *Log) error {
	if err := l.Err(); err != nil {
		return fmt.Errorf("the log is offline: %w", err)
	}
	if l.End() < m.durable {
		return fmt.Errorf("the log ends at %d, it was durable to %d", l.End(), m.durable)
	}
	if l.Start() < m.start || l.Start() > max(m.start, m.most) {
		return fmt.Errorf("the log starts at %d, want %d to %d", l.Start(), m.start, m.most)
	}
	next, epoch := l.Start(), record.Epoch(-1)
	var state []byte
	for _, a := range m.batches {
		if a.last < l.Start() || a.first >= l.End() || l.Start() == l.End() {
			continue
		}
		s, err := l.Read(max(a.first, l.Start()), len(a.bytes), l.End(), true)
		if err != nil {
			return fmt.Errorf("cannot read at %d: %w", a.first, err)
		}
		got := make([]byte, s.Len())
		_, _ = s.ReadAt(got, 0)
		s.Release()
		if !bytes.Equal(got, a.bytes) {
			return fmt.Errorf("the batch at %d is not what was appended", a.first)
		}
		if a.first > next {
			return fmt.Errorf("offsets %d to %d are missing", next, a.first)
		}
		h, _ := record.ReadHeader(got)
		if e := l.EpochAt(max(a.first, l.Start())); e != h.LeaderEpoch || e < epoch {
			return fmt.Errorf("the epoch at %d is %d in the cache, %d in the batch", a.first, e, h.LeaderEpoch)
		}
		next, epoch, state = a.last+1, h.LeaderEpoch, a.state
	}
	if next != l.End() {
		return fmt.Errorf("the log ends at %d, its batches at %d", l.End(), next)
	}
	if l.Start() == l.End() {
		return nil
	}
	if err := judgeTransactions(m, l); err != nil {
		return err
	}
	if state != nil && !bytes.Equal(l.mu.producers.encode(nil), state) {
		want, _, _ := decodeProducers(state, 0)
		return fmt.Errorf("the producer state at %d (start %d) is not the live one:\n%+v, want\n%+v", l.End(), l.Start(), l.Producers(), want.list())
	}
	return nil
}

// TestPowerLostAtEveryOperation cuts the power before each operation of a workload.
func TestPowerLostAtEveryOperation(t *testing.T) {
	for work := range uint64(6) {
		t.Run(fmt.Sprint(work), func(t *testing.T) {
			t.Parallel()
			var whole model
			count := disk.NewFaulty(disk.NewMemory(0), func(disk.Op) *disk.Fault { return nil })
			live(t, count, work, &whole)
			if count.Count() < 100 {
				t.Fatalf("the workload has %d operations only", count.Count())
			}
			for cut := 1; cut <= count.Count(); cut++ {
				memory := disk.NewMemory(0)
				var m model
				live(t, disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
					if op.N >= cut {
						return &disk.Fault{Err: errPower, Short: cut % 200}
					}
					return nil
				}), work, &m)
				for seed := range uint64(6) {
					checkCrash(t, memory.Crash(uint64(cut)*100+seed), &m, fmt.Sprintf("work %d cut %d seed %d", work, cut, seed))
				}
			}
		})
	}
}

// checkCrash opens what is left, compares it, goes on with it and opens it again.
func checkCrash(t *testing.T, fs *disk.Memory, m *model, where string) {
	t.Helper()
	s, err := Open(options(fs))
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	l := s.Log(testTP)
	if l == nil {
		if m.durable > 0 {
			t.Fatalf("%s: the log is gone, it was durable to %d", where, m.durable)
		}
		return
	}
	if err := judge(m, l); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	r := mustAppend1(t, l, 99)
	if err := s.Close(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	s = mustOpen(t, options(fs))
	if l = s.Log(testTP); l.Err() != nil || l.End() != r.Last+1 {
		t.Fatalf("%s: after one more append the log ends at %d, want %d (%v)", where, l.End(), r.Last+1, l.Err())
	}
	more := model{batches: slices.Clone(m.batches)}
	more.drop(r.First)
	more.batches = append(more.batches, appended{first: r.First, last: r.Last, bytes: batch(1, 1)})
	if l.Start() == r.First {
		return // its end was lost below its start, and the state of transactions with it
	}
	if err := judgeTransactions(&more, l); err != nil {
		t.Fatalf("%s: after one more start: %v", where, err)
	}
}

func mustAppend1(t *testing.T, l *Log, epoch record.Epoch) Appended {
	t.Helper()
	r, err := l.Append(batch(1, 1), Append{Assign: true, Epoch: epoch, Now: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
