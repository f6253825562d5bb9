package replica

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// realSet is a set over the real store, with a topic of one partition in small segments.
type realSet struct {
	*Set
	store *storage.Store
	stop  func()
}

func startReal(t testing.TB, fs disk.FS, id topic.ID, epoch record.Epoch) (*realSet, *Partition) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r := &realSet{}
	store, err := storage.Open(storage.Options{
		FS: fs, Dirs: []string{"/data"}, NodeID: 1, Now: time.Now, Logger: log,
		DirFailed: func(dir string, err error) { r.DirFailed(dir, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	values := config.TopicValues(config.Defaults(), nil, nil, map[string]string{"segment.bytes": "1024"}, 1)
	r.store = store
	r.Set = New(Options{
		Node: 1, Store: store, Stats: stats.New(), Logger: log, Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values { return values },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) }) // a disk without power ends it with an error
	wg.Go(func() { _ = r.Run(ctx) })
	r.stop = func() { cancel(); wg.Wait() }
	if err := r.Apply(nil, oneTopic(t, id, epoch)); err != nil {
		t.Fatal(err)
	}
	p, err := r.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

func oneTopic(t testing.TB, id topic.ID, epoch record.Epoch) *metadata.Image {
	t.Helper()
	img, err := metadata.Empty().Fold(1, []metadata.Record{
		&metadata.TopicCreated{Name: orders.Topic, ID: id},
		&metadata.PartitionCreated{Topic: id, State: metadata.Partition{
			Leader: 1, LeaderEpoch: epoch, Replicas: alone, ISR: alone, Dirs: make([]topic.ID, 1),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func oneBatch(t testing.TB, value string) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.Add(record.Record{Timestamp: 1, Value: []byte(value)})
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// acked appends with acks=all and waits.
func acked(t testing.TB, p *Partition, value string) (record.Offset, error) {
	a, err := p.Append(oneBatch(t, value), -1, time.Now())
	if err != nil {
		return -1, err
	}
	done := make(chan error, 1)
	p.Acked(a.Last+1, -1, 10*time.Second, func(err error) { done <- err })
	return a.Last, <-done
}

func TestOverRealStorage(t *testing.T) {
	fs := disk.NewMemory(0)
	r, p := startReal(t, fs, idA, 0)
	woken := make(chan struct{}, 1)
	defer p.Watch(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})()
	const n = 50
	for i := range record.Offset(n) {
		if o, err := acked(t, p, "value of a record"); o != i || err != nil {
			t.Fatalf("record %d got offset %d, %v", i, o, err)
		}
	}
	<-woken
	if hw := p.HighWatermark(); hw != n {
		t.Errorf("high watermark is %d, want %d", hw, n)
	}
	size := len(oneBatch(t, "value of a record"))
	if got := p.Readable(10, 1<<20, false); got != (n-10)*size {
		t.Errorf("%d bytes are readable over all segments, want %d", got, (n-10)*size)
	}
	f, err := p.Read(10, 1, true, false)
	if err != nil || f.Slice.Len() != size || f.HighWatermark != n {
		t.Fatalf("read gives %d bytes, high watermark %d, %v", f.Slice.Len(), f.HighWatermark, err)
	}
	b := make([]byte, size)
	if _, err := f.Slice.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	f.Slice.Release()
	if h, err := record.Verify(b); err != nil || h.Base != 10 || h.LeaderEpoch != 0 {
		t.Errorf("read gives batch %+v, %v", h, err)
	}
	r.stop()

	// The power goes; what was acknowledged is there, in the next epoch.
	r, p = startReal(t, fs.Crash(1), idA, 1)
	if o, e, err := p.Latest(false); o != n || e != 1 || err != nil {
		t.Errorf("latest is %d in epoch %d, %v; want %d in 1", o, e, err, n)
	}
	if e, end := p.Log().EndOf(0); e != 0 || end != n {
		t.Errorf("epoch %d ends at %d, want 0 at %d", e, end, n)
	}
	p.DeleteBefore(20, func(o record.Offset, err error) {
		if o != 20 || err != nil {
			t.Errorf("low watermark is %d, %v", o, err)
		}
	})
	if _, err := p.Read(19, 1, true, false); !errors.Is(err, storage.ErrOffsetOutOfRange) {
		t.Errorf("a deleted record is read: %v", err)
	}
	// The topic is deleted and made again.
	if err := r.Apply(oneTopic(t, idA, 1), oneTopic(t, idB, 0)); err != nil {
		t.Fatal(err)
	}
	again, err := r.Partition(orders)
	if err != nil || again.End() != 0 || again.TopicID() != idB {
		t.Errorf("the new topic is %v, %v", again, err)
	}
	if _, err := acked(t, p, "late"); !errors.Is(err, ErrUnknownPartition) {
		t.Errorf("an append to the deleted topic gives %v", err)
	}
	if _, err := acked(t, again, "first"); err != nil {
		t.Error(err)
	}
	r.stop()
}

// Nothing that was acknowledged is lost with the power, wherever that goes.
func TestPowerIsLost(t *testing.T) {
	errPower := errors.New("power is out")
	for cut := 60; cut < 200; cut += 7 {
		fs := disk.NewMemory(0)
		r, p := startReal(t, disk.NewFaulty(fs, func(op disk.Op) *disk.Fault {
			if op.N >= cut {
				return &disk.Fault{Err: errPower, Short: cut % 60}
			}
			return nil
		}), idA, 0)
		last := record.Offset(-1)
		for {
			o, err := acked(t, p, "value")
			if err != nil {
				if !errors.Is(err, storage.ErrOffline) && !errors.Is(err, errPower) {
					t.Errorf("cut %d: a failed disk gives %v", cut, err)
				}
				break
			}
			last = o
		}
		r.stop()
		r, p = startReal(t, fs.Crash(uint64(cut)), idA, 1)
		if end, _, err := p.Latest(false); end <= last || err != nil {
			t.Errorf("cut %d: acknowledged up to %d, the log ends at %d, %v", cut, last, end, err)
		}
		r.stop()
	}
}

// BenchmarkAppendAcked is the cost of a produce request in this room and storage below it,
// many at once, without a real disk.
func BenchmarkAppendAcked(b *testing.B) {
	log := &fakeLog{}
	s, _, _ := newFakeSet(b)
	p := newPartition(s, orders, idA, log, readSettings(config.TopicValues(config.Defaults(), nil, nil, nil, 1)))
	if err := p.follow(metadata.Partition{Leader: 1, Replicas: alone, ISR: alone}, p.settings.Load()); err != nil {
		b.Fatal(err)
	}
	log.lazy = true
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a, err := p.Append(nil, -1, now)
		if err != nil {
			b.Fatal(err)
		}
		p.Acked(a.Last+1, -1, 30*time.Second, func(error) {})
		if i%100 == 99 { // a hundred share one sync
			log.sync()
		}
	}
}

// TestLastStable follows the last stable offset over coordinators' own batches, markers and a restart.
func TestLastStable(t *testing.T) {
	fs := disk.NewMemory(0)
	r, p := startReal(t, fs, idA, 1)
	high := func(p *Partition, end record.Offset) {
		t.Helper()
		done := make(chan error, 1)
		p.Acked(end, -1, time.Minute, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stable := func(p *Partition, want record.Offset) {
		t.Helper()
		if got := p.LastStable(); got != want {
			t.Errorf("the last stable offset is %d of %d, want %d", got, p.HighWatermark(), want)
		}
	}
	txn := func(seq int32) []byte {
		b := record.NewBuilder(record.None)
		b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = 5, 0, seq
		b.Header.Attributes = record.TransactionalBit
		b.Add(record.Record{Timestamp: 1, Value: []byte("x")})
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return batch
	}
	if _, err := p.AppendVerified(txn(0), -1, time.Now(), storage.Ticket{}); !errors.Is(err, storage.ErrInvalidTxnState) {
		t.Errorf("without a ticket a client begins a transaction: %v", err)
	}
	// A coordinator writes its own records, without sequences, and its markers as batches.
	for range 2 {
		if _, err := p.AppendIn(1, txn(-1), -1, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	high(p, 2)
	stable(p, 0)
	m := record.Marker{ProducerID: 5, CoordinatorEpoch: 3}
	if _, err := p.AppendIn(1, m.Batch(1), -1, time.Now()); err != nil {
		t.Fatal(err)
	}
	high(p, 3)
	stable(p, 3)
	f, err := p.Read(0, 1<<20, true, true)
	if err != nil || len(f.Aborted) != 1 || f.Aborted[0] != (storage.Aborted{ProducerID: 5, First: 0}) {
		t.Errorf("aborted are %+v: %v", f.Aborted, err)
	}
	f.Slice.Release()
	if _, err := p.AppendIn(1, txn(-1), -1, time.Now()); err != nil {
		t.Fatal(err)
	}
	high(p, 4)
	stable(p, 3)
	r.stop()
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r, p = startReal(t, fs, idA, 2)
	stable(p, 3)
	m.CoordinatorEpoch = 2
	if _, err := p.AppendMarker(m, 0, time.Now()); !errors.Is(err, storage.ErrCoordinatorFenced) {
		t.Errorf("after a restart a deposed coordinator writes a marker: %v", err)
	}
	m.CoordinatorEpoch, m.ProducerEpoch = 3, 1
	got, err := p.AppendMarker(m, 2, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	high(p, got.Last+1)
	stable(p, got.Last+1)
	r.stop()
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
}
