package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

var errFenced = errors.New("fenced")

// memoryLog is a partition in memory whose commits come when the test says so.
type memoryLog struct {
	mu        sync.Mutex
	epoch     record.Epoch
	start     record.Offset
	committed record.Offset
	unsettled bool
	refuse    error
	batches   [][]byte
	end       record.Offset
	wakes     map[*func()]bool
}

func (l *memoryLog) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *memoryLog) CheckLeader(e record.Epoch) (err error) {
	l.locked(func() {
		if e != l.epoch {
			err = errFenced
		}
	})
	return err
}

func (l *memoryLog) Settled() (o record.Offset, err error) {
	l.locked(func() {
		if o = l.committed; l.unsettled {
			err = errors.New("not yet")
		}
	})
	return o, err
}

func (l *memoryLog) Start() (o record.Offset)     { l.locked(func() { o = l.start }); return o }
func (l *memoryLog) Committed() (o record.Offset) { l.locked(func() { o = l.committed }); return o }

func (l *memoryLog) Read(from record.Offset, max int) (out []byte, err error) {
	l.locked(func() {
		for _, b := range l.batches {
			h, _ := record.ReadHeader(b)
			if h.Last() < from || h.Last() >= l.committed {
				continue
			}
			if len(out) > 0 && len(out)+len(b) > max {
				return
			}
			out = append(out, b...)
		}
	})
	return out, nil
}

func (l *memoryLog) Append(e record.Epoch, b []byte) (end record.Offset, err error) {
	l.locked(func() {
		if err = l.refuse; err != nil {
			return
		}
		if e != l.epoch {
			err = errFenced
			return
		}
		record.SetBase(b, l.end, l.epoch)
		h, _ := record.ReadHeader(b)
		l.batches = append(l.batches, slices.Clone(b))
		l.end = h.Last() + 1
	})
	return l.end, err
}

func (l *memoryLog) Watch(wake func()) func() {
	l.locked(func() { l.wakes[&wake] = true })
	return func() { l.locked(func() { delete(l.wakes, &wake) }) }
}

func (l *memoryLog) change(f func()) {
	l.mu.Lock()
	f()
	var wakes []func()
	for w := range l.wakes {
		wakes = append(wakes, *w)
	}
	l.mu.Unlock()
	for _, w := range wakes {
		w()
	}
}

func (l *memoryLog) commitAll() { l.change(func() { l.committed = l.end }) }

// tape is a machine that only remembers; what was answered stands in it as well.
type tape struct {
	mu   sync.Mutex
	got  []string
	fail string
}

func (m *tape) note(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, s)
}

func (m *tape) Replay(h record.Header, r record.Record) error {
	if string(r.Key) == m.fail {
		return errors.New("do not know " + m.fail)
	}
	if h.Transactional() {
		m.note(fmt.Sprintf("%d:%s by %d/%d", r.Offset, r.Key, h.ProducerID, h.ProducerEpoch))
		return nil
	}
	m.note(fmt.Sprintf("%d:%s", r.Offset, r.Key))
	return nil
}

func (m *tape) ReplayMarker(e record.Marker) error {
	m.note(fmt.Sprintf("end of %d/%d commit=%v", e.ProducerID, e.ProducerEpoch, e.Commit))
	return nil
}

func (m *tape) Loaded() { m.note("loaded") }

func (m *tape) want(t *testing.T, want string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := strings.Join(m.got, " "); got != want {
		t.Errorf("machine saw\n%s\nwant\n%s", got, want)
	}
	m.got = nil
}

func keys(ks ...string) (out []record.Record) {
	for _, k := range ks {
		out = append(out, record.Record{Key: []byte(k), Value: []byte("v")})
	}
	return out
}

func (m *tape) entry(ks ...string) Entry {
	name := strings.Join(ks, "+")
	return Entry{Records: keys(ks...), Done: func(err error) {
		if err != nil {
			m.note(name + "=" + err.Error())
		} else {
			m.note(name + "=ok")
		}
	}}
}

type rig struct {
	*Journal
	log  *memoryLog
	tape *tape
	stop func() error
}

func begin(t *testing.T, l *memoryLog, m *tape) *rig {
	l.wakes = make(map[*func()]bool)
	j := New(Options{Log: l, Epoch: l.epoch, Machine: m, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	synctest.Wait()
	return &rig{Journal: j, log: l, tape: m, stop: func() error { cancel(); return <-done }}
}

func filled(t *testing.T, batches ...[]string) *memoryLog {
	t.Helper()
	l := &memoryLog{}
	for _, ks := range batches {
		b := record.NewBuilder(record.None)
		for _, r := range keys(ks...) {
			b.Add(r)
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(0, batch); err != nil {
			t.Fatal(err)
		}
	}
	l.committed = l.end
	return l
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := filled(t, []string{"a", "b"}, []string{"c"})
		l.start = 1 // in the middle of a batch
		r := begin(t, l, &tape{})
		r.tape.want(t, "1:b 2:c loaded")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if n := len(l.wakes); n != 0 {
			t.Errorf("%d watchers are left", n)
		}
	})
}

func TestLoadWaitsUntilEarlierEpochsAreCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := filled(t, []string{"a"}, []string{"b"})
		l.committed, l.unsettled = 1, true
		r := begin(t, l, &tape{})
		r.tape.want(t, "")
		if err := r.Append(r.tape.entry("x")); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("append while loading gives %v", err)
		}
		l.change(func() { l.committed, l.unsettled = 2, false })
		synctest.Wait()
		r.tape.want(t, "0:a 1:b loaded")
		r.stop()
	})
}

func TestAppendIsAnsweredAfterTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, &memoryLog{}, &tape{})
		r.tape.want(t, "loaded")
		for _, e := range []Entry{r.tape.entry("a", "b"), r.tape.entry("c"), r.tape.entry("d")} {
			if err := r.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		r.tape.want(t, "")
		r.log.commitAll()
		synctest.Wait()
		r.tape.want(t, "0:a 1:b a+b=ok 2:c c=ok 3:d d=ok")
		if n := len(r.log.batches); n > 3 {
			t.Errorf("3 entries took %d batches", n)
		}
		if r.mu.entries != 0 || r.mu.bytes != 0 {
			t.Errorf("%d entries and %d bytes are still counted", r.mu.entries, r.mu.bytes)
		}
		r.stop()
	})
}

// What came while the log was busy goes out in one batch.
func TestEntriesShareABatch(t *testing.T) {
	l := &memoryLog{}
	j := New(Options{Log: l, Machine: &tape{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	j.mu.loaded = true
	m := &tape{}
	for i := range 100 {
		if err := j.Append(m.entry(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	big := m.entry("big")
	big.Records[0].Value = make([]byte, batchSize)
	if err := j.Append(big); err != nil {
		t.Fatal(err)
	}
	j.appendQueue()
	if n := len(l.batches); n != 2 {
		t.Errorf("101 entries took %d batches, want one for the small ones and one for the big one", n)
	}
}

func TestRefusedAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, &memoryLog{}, &tape{})
		r.log.refuse = errors.New("full")
		r.Append(r.tape.entry("a"))
		synctest.Wait()
		r.log.refuse = nil
		r.Append(r.tape.entry("b"))
		synctest.Wait()
		r.log.commitAll()
		synctest.Wait()
		r.tape.want(t, "loaded a=full 0:b b=ok")
		r.stop()
	})
}

func TestLeadershipEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, &memoryLog{}, &tape{})
		r.Append(r.tape.entry("a"))
		synctest.Wait()
		r.log.change(func() { r.log.epoch++ })
		synctest.Wait()
		r.tape.want(t, "loaded a=fenced")
		if err := r.Append(r.tape.entry("b")); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("append after the end gives %v", err)
		}
		if err := r.stop(); err != nil && !errors.Is(err, errFenced) {
			t.Error(err)
		}
	})
}

func TestStopAnswersWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, &memoryLog{}, &tape{})
		r.Append(r.tape.entry("a"))
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.tape.want(t, "loaded a="+ErrStopped.Error())
	})
}

func TestUnknownRecordEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := filled(t, []string{"a"}, []string{"odd"})
		r := begin(t, l, &tape{fail: "odd"})
		r.tape.want(t, "0:a")
		if err := r.stop(); err != nil && !strings.Contains(err.Error(), "offset 1") {
			t.Errorf("run gives %v", err)
		}
	})
}

func TestCorruptBatchEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := filled(t, []string{"a"})
		l.batches[0][len(l.batches[0])-1] ^= 1
		m := &tape{}
		l.wakes = make(map[*func()]bool)
		err := New(Options{Log: l, Machine: m, Logger: slog.New(slog.DiscardHandler), Now: time.Now}).Run(t.Context())
		if !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("run gives %v", err)
		}
		m.want(t, "")
	})
}

func TestBounds(t *testing.T) {
	j := New(Options{Log: &memoryLog{}, Machine: &tape{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	j.mu.loaded = true
	huge := Entry{Records: []record.Record{{Value: make([]byte, entryBytes)}}, Done: func(error) { t.Error("answered twice") }}
	if err := j.Append(huge); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge entry gives %v", err)
	}
	half := Entry{Records: []record.Record{{Value: make([]byte, entryBytes/2)}}}
	n := 0
	for ; n < 1000; n++ {
		if err := j.Append(half); err != nil {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("a full queue gives %v", err)
			}
			break
		}
	}
	if n == 0 || n > queueBytes/(entryBytes/2) {
		t.Errorf("queue took %d entries of %d bytes", n, entryBytes/2)
	}
}

// Records of a transaction, its end and plain records each have a batch of their own, and
// are seen the same while running and after a restart.
func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{}
		r := begin(t, l, &tape{})
		in := func(e Entry, id int64, epoch int16) Entry { e.Producer = &Producer{id, epoch}; return e }
		end := Entry{Marker: &record.Marker{ProducerID: 7, ProducerEpoch: 2, CoordinatorEpoch: 5, Commit: true}, Done: func(err error) { r.tape.note(fmt.Sprint("end=", err)) }}
		for _, e := range []Entry{r.tape.entry("a"), in(r.tape.entry("b", "c"), 7, 2), in(r.tape.entry("d"), 8, 0), end, r.tape.entry("e")} {
			if err := r.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		l.commitAll()
		synctest.Wait()
		r.tape.want(t, "loaded 0:a a=ok 1:b by 7/2 2:c by 7/2 b+c=ok 3:d by 8/0 d=ok end of 7/2 commit=true end=<nil> 5:e e=ok")
		r.stop()
		if n := len(l.batches); n != 5 {
			t.Errorf("%d batches, want 5", n)
		}
		for i, want := range []struct {
			id    int64
			epoch int16
			attrs int16
		}{{-1, -1, 0}, {7, 2, record.TransactionalBit}, {8, 0, record.TransactionalBit}, {7, 2, record.TransactionalBit | record.ControlBit}, {-1, -1, 0}} {
			h, err := record.Verify(l.batches[i])
			if err != nil || h.ProducerID != want.id || h.ProducerEpoch != want.epoch || h.Attributes != want.attrs || h.BaseSequence != -1 {
				t.Errorf("batch %d has %+v, %v, want %+v", i, h, err, want)
			}
		}
		again := begin(t, l, &tape{})
		again.tape.want(t, "0:a 1:b by 7/2 2:c by 7/2 3:d by 8/0 end of 7/2 commit=true 5:e loaded")
		again.stop()
	})
}
