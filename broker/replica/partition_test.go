package replica

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// answers collects what Acked told, in order.
type answers struct {
	mu  sync.Mutex
	got []string
}

func (a *answers) to(name string) func(error) {
	return func(err error) {
		if err != nil {
			name += ": " + err.Error()
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, name)
	}
}

func (a *answers) want(t *testing.T, want ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.got, want) {
		t.Errorf("answers are %q, want %q", a.got, want)
	}
	a.got = nil
}

func appendOne(t *testing.T, p *Partition, acks int16) record.Offset {
	t.Helper()
	a, err := p.Append(nil, acks, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a.Last + 1
}

func TestAckedWaitsForTheDisk(t *testing.T) {
	_, p, log := led(t)
	log.lazy = true
	var a answers
	first := appendOne(t, p, -1)
	p.Acked(first, -1, time.Minute, a.to("all"))
	p.Acked(first, 1, time.Minute, a.to("one"))
	p.Acked(first, 0, time.Minute, a.to("none"))
	a.want(t, "none")
	if hw := p.HighWatermark(); hw != 0 {
		t.Errorf("high watermark is %d before the disk has anything", hw)
	}
	second := appendOne(t, p, -1)
	log.mu.Lock()
	log.synced = first
	log.mu.Unlock()
	log.notify()
	p.Acked(second, -1, time.Minute, a.to("later"))
	a.want(t, "one", "all")
	log.sync()
	a.want(t, "later")
	p.Acked(second, -1, time.Minute, a.to("past"))
	a.want(t, "past")
	if n := p.deadlines.waiting(); n != 0 {
		t.Errorf("%d answered waits still have a deadline", n)
	}
	if !slices.Equal(log.marks, []record.Offset{1, 2}) {
		t.Errorf("log heard of high watermarks %v, want 1, 2", log.marks)
	}
}

func TestAckedTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, log := led(t)
		log.lazy = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		var a answers
		end := appendOne(t, p, -1)
		p.Acked(end, -1, 30*time.Second, a.to("long"))
		p.Acked(end, 1, time.Second, a.to("short"))
		p.Acked(end, 1, 0, a.to("impatient"))
		a.want(t, "impatient: "+ErrTimeout.Error())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a.want(t, "short: "+ErrTimeout.Error())
		time.Sleep(29 * time.Second)
		synctest.Wait()
		a.want(t, "long: "+ErrTimeout.Error())
		log.sync()
		a.want(t)

		p.Acked(end+1, -1, time.Hour, a.to("open"))
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		a.want(t, "open: "+ErrNotLeader.Error())
	})
}

// TestAwaitLead: who asks a broker that is the next leader and does not know it yet waits
// until it does; who asks the one before does not.
func TestAwaitLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, _ := led(t)
		both := []metadata.BrokerID{1, 2}
		become := func(leader metadata.BrokerID, epoch record.Epoch) {
			t.Helper()
			if err := s.apply(map[topic.Partition]wish{orders: placed(idA, leader, epoch, both, nil)}, false); err != nil {
				t.Fatal(err)
			}
		}
		waits := func(limit time.Duration) time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			begin := time.Now()
			p.AwaitLead(ctx)
			took := time.Since(begin)
			synctest.Wait() // who ended the wait has ended, too: images come one by one
			return took
		}
		if got := waits(time.Second); got != 0 {
			t.Errorf("a leader waits %v to be it", got)
		}
		become(2, 1)
		if got := waits(time.Second); got != 0 {
			t.Errorf("one that has just resigned waits %v", got)
		}
		time.Sleep(lately)
		if got := waits(50 * time.Millisecond); got != 50*time.Millisecond {
			t.Errorf("one that hears nothing waits %v of 50 ms", got)
		}
		time.AfterFunc(3*time.Millisecond, func() { become(1, 2) })
		if got := waits(time.Second); got != 3*time.Millisecond || p.CheckLeader(2) != nil {
			t.Errorf("one that leads after 3 ms waits %v, %v", got, p.CheckLeader(2))
		}
		become(2, 3)
		time.Sleep(lately)
		time.AfterFunc(3*time.Millisecond, func() { become(2, 4) })
		if got := waits(time.Second); got != 3*time.Millisecond {
			t.Errorf("one that hears after 3 ms that another leads waits %v", got)
		}
		time.AfterFunc(3*time.Millisecond, func() { p.end(ErrUnknownPartition) })
		if got := waits(time.Second); got != 3*time.Millisecond {
			t.Errorf("one whose topic goes after 3 ms waits %v", got)
		}
	})
}

func TestResignTellsEverybody(t *testing.T) {
	s, p, log := led(t)
	log.lazy = true
	var a answers
	woken := 0
	defer p.Watch(func() { woken++ })()
	end := appendOne(t, p, -1)
	p.Acked(end, -1, time.Minute, a.to("all"))
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 2, 1, []metadata.BrokerID{1, 2}, nil)}, false); err != nil {
		t.Fatal(err)
	}
	a.want(t, "all: "+ErrNotLeader.Error())
	if woken != 1 {
		t.Errorf("watcher was woken %d times, want once", woken)
	}
	if _, err := p.Append(nil, 1, time.Now()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("append without leadership gives %v", err)
	}
	if _, err := p.Read(0, 1, true, false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("read without leadership gives %v", err)
	}
	for epoch, want := range map[record.Epoch]error{-1: ErrNotLeader, 0: ErrFencedEpoch, 1: ErrNotLeader, 2: ErrUnknownEpoch} {
		if err := p.CheckLeader(epoch); !errors.Is(err, want) {
			t.Errorf("epoch %d gives %v, want %v", epoch, err, want)
		}
	}
	if leader, epoch := p.Leader(); leader != 2 || epoch != 1 {
		t.Errorf("leader is %d in epoch %d", leader, epoch)
	}
}

func TestTooFewInSync(t *testing.T) {
	s, store, _ := newFakeSet(t)
	over := map[string]string{"min.insync.replicas": "2"}
	two, one := placed(idA, 1, 0, []metadata.BrokerID{1, 2}, over), placed(idA, 1, 0, []metadata.BrokerID{1}, over)
	one.state.Replicas = two.state.Replicas
	if err := s.apply(map[topic.Partition]wish{orders: two}, true); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	var a answers
	end := appendOne(t, p, -1)
	p.Acked(end, -1, time.Minute, a.to("all"))
	p.Acked(end, 1, time.Minute, a.to("one"))
	a.want(t, "one")
	if err := s.apply(map[topic.Partition]wish{orders: one}, false); err != nil {
		t.Fatal(err)
	}
	a.want(t, "all: "+ErrNotEnoughAfterAppend.Error())
	if _, err := p.Append(nil, -1, time.Now()); !errors.Is(err, ErrNotEnoughReplicas) {
		t.Errorf("acks=all gives %v", err)
	}
	end = appendOne(t, p, 1)
	p.Acked(end, -1, time.Minute, a.to("all"))
	a.want(t, "all: "+ErrNotEnoughAfterAppend.Error())
	if end := store.held[orders].End(); end != 2 {
		t.Errorf("log ends at %d: a refused append reached it", end)
	}
}

func TestLatestAfterTakingOver(t *testing.T) {
	s, store, _ := newFakeSet(t)
	store.held[orders] = &fakeLog{id: idA, end: 10, synced: 10, hw: 4, epochs: []record.Epoch{0}}
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 1, []metadata.BrokerID{1, 2}, nil)}, true); err != nil {
		t.Fatal(err)
	}
	p, _ := s.Partition(orders)
	if _, _, err := p.Latest(false); !errors.Is(err, ErrOffsetNotAvailable) {
		t.Errorf("latest gives %v before the epoch's start is committed", err)
	}
	if hw := p.HighWatermark(); hw != 4 {
		t.Errorf("high watermark is %d, want the checkpoint's 4", hw)
	}
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 1, []metadata.BrokerID{1}, nil)}, false); err != nil {
		t.Fatal(err)
	}
	if o, e, err := p.Latest(true); o != 10 || e != 1 || err != nil {
		t.Errorf("latest is %d in epoch %d, %v", o, e, err)
	}
	if got := store.held[orders].epochs; !slices.Equal(got, []record.Epoch{0, 1}) {
		t.Errorf("log knows epochs %v, want 0 and 1", got)
	}
}

func TestReadRange(t *testing.T) {
	_, p, log := led(t)
	log.lazy = true
	for range 3 {
		appendOne(t, p, 1)
	}
	if f, err := p.Read(2, 100, true, false); err != nil || f.Slice.Len() != 0 {
		t.Errorf("a read between high watermark and end gives %d bytes, %v; want nothing", f.Slice.Len(), err)
	}
	if _, err := p.Read(4, 100, true, false); !errors.Is(err, storage.ErrOffsetOutOfRange) {
		t.Errorf("a read past the end gives %v", err)
	}
	if n := p.Readable(4, 100, false); n != 100 {
		t.Errorf("an offset out of range counts as %d readable bytes, want 100 so that the reader looks", n)
	}
	if n := p.Readable(0, 100, false); n != 0 {
		t.Errorf("%d bytes are readable above the high watermark", n)
	}
	log.sync()
	if n := p.Readable(1, 100, false); n != 20 {
		t.Errorf("%d bytes are readable, want the 20 between the offset and the high watermark", n)
	}
}

// A log that turns out to be damaged goes offline alone.
func TestLogFails(t *testing.T) {
	s, p, log := led(t)
	log.lazy = true
	var a answers
	p.Acked(appendOne(t, p, -1), -1, time.Minute, a.to("all"))
	log.mu.Lock()
	log.broken = errors.New("not what was written")
	log.mu.Unlock()
	log.notify()
	a.want(t, "all: "+storage.ErrOffline.Error())
	if _, err := s.Partition(orders); !errors.Is(err, storage.ErrOffline) {
		t.Errorf("partition gives %v", err)
	}
}

func TestDeleteBefore(t *testing.T) {
	_, p, _ := led(t)
	for range 5 {
		appendOne(t, p, 1)
	}
	woken := 0
	unwatch := p.Watch(func() { woken++ })
	for _, c := range []struct{ at, start record.Offset }{{3, 3}, {1, 3}, {-1, 5}} {
		p.DeleteBefore(c.at, func(o record.Offset, err error) {
			if o != c.start || err != nil {
				t.Errorf("delete before %d gives %d, %v; want %d", c.at, o, err, c.start)
			}
		})
	}
	for _, at := range []record.Offset{6, -2} {
		p.DeleteBefore(at, func(_ record.Offset, err error) {
			if !errors.Is(err, storage.ErrOffsetOutOfRange) {
				t.Errorf("delete before %d gives %v", at, err)
			}
		})
	}
	if woken != 3 {
		t.Errorf("watcher was woken %d times, want 3", woken)
	}
	unwatch()
	unwatch()
	appendOne(t, p, 1)
	if woken != 3 {
		t.Error("watcher was woken after it had gone")
	}
}
