package replica

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// fakeLog is a log of one-record appends whose disk syncs when the test says so.
type fakeLog struct {
	id     topic.ID
	dir    string
	notify func()
	mu     sync.Mutex
	start  record.Offset
	end    record.Offset
	synced record.Offset
	hw     record.Offset
	epochs []record.Epoch
	marks  []record.Offset
	config []storage.LogConfig
	lazy   bool // do not sync with each append
	broken error
	damage error
}

func (l *fakeLog) Append(b []byte, a storage.Append) (storage.Appended, error) {
	l.mu.Lock()
	if l.broken != nil {
		l.mu.Unlock()
		return storage.Appended{}, l.broken
	}
	out := storage.Appended{First: l.end, Last: l.end, AppendTime: -1, Start: l.start}
	if a.LogAppendTime {
		out.AppendTime = a.Now
	}
	l.end++
	lazy := l.lazy
	l.mu.Unlock()
	if !lazy {
		l.sync()
	}
	return out, nil
}

func (l *fakeLog) sync() {
	l.mu.Lock()
	l.synced = l.end
	l.mu.Unlock()
	l.notify()
}

func (l *fakeLog) Read(record.Offset, int, record.Offset, bool) (storage.Slice, error) {
	return storage.Slice{}, nil
}
func (l *fakeLog) ReadChecked(record.Offset, int, record.Offset, bool) (storage.Slice, error) {
	return storage.Slice{}, nil
}
func (l *fakeLog) ReadCommitted(record.Offset, int, record.Offset, bool) (storage.Slice, []storage.Aborted, error) {
	return storage.Slice{}, nil, nil
}
func (l *fakeLog) LastStable(high record.Offset) record.Offset { return high }
func (l *fakeLog) Ticket(record.Header, int64) (storage.Ticket, bool) {
	return storage.Ticket{}, false
}
func (l *fakeLog) Bytes(from, limit record.Offset, max int) int {
	return min(max, 10*int(limit-from))
}
func (l *fakeLog) Dir() string { return l.dir }
func (l *fakeLog) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}
func (l *fakeLog) offset(o *record.Offset) record.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *o
}
func (l *fakeLog) Damage() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.damage
}
func (l *fakeLog) Start() record.Offset         { return l.offset(&l.start) }
func (l *fakeLog) End() record.Offset           { return l.offset(&l.end) }
func (l *fakeLog) Durable() record.Offset       { return l.offset(&l.synced) }
func (l *fakeLog) HighWatermark() record.Offset { return l.offset(&l.hw) }
func (l *fakeLog) Notify(f func())              { l.notify = f }
func (l *fakeLog) SetHighWatermark(o record.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hw = o
	l.marks = append(l.marks, o)
}

func (l *fakeLog) BeginEpoch(e record.Epoch) error {
	l.epochs = append(l.epochs, e)
	return l.broken
}

func (l *fakeLog) LastEpoch() record.Epoch {
	if len(l.epochs) == 0 {
		return -1
	}
	return l.epochs[len(l.epochs)-1]
}

func (l *fakeLog) DeleteBefore(o record.Offset) (record.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = max(l.start, o)
	return l.start, nil
}

func (l *fakeLog) EpochAt(record.Offset) record.Epoch                 { return l.LastEpoch() }
func (l *fakeLog) EndOf(e record.Epoch) (record.Epoch, record.Offset) { return e, l.End() }
func (l *fakeLog) Truncate(to record.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = min(l.end, to)
	return nil
}

func (l *fakeLog) Reset(to record.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start, l.end = to, to
	return nil
}

func (l *fakeLog) Reconfigure(c storage.LogConfig) { l.config = append(l.config, c) }

// fakeStore holds fake logs and notes what was asked of it.
type fakeStore struct {
	mu      sync.Mutex // of what create and has touch: partitions are taken up in parallel
	held    map[topic.Partition]*fakeLog
	failed  []string
	refuse  error
	removed []topic.Partition
	kept    []time.Time // when logs were set aside
}

func (s *fakeStore) has(p topic.Partition, id topic.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[p] != nil && s.held[p].id == id
}

func (s *fakeStore) create(p topic.Partition, id topic.ID, _ storage.LogConfig) (localLog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	if l := s.held[p]; l != nil {
		if l.id != id {
			return nil, errors.New("another topic's log is in the way")
		}
		return l, nil
	}
	s.held[p] = &fakeLog{id: id, dir: "a"}
	return s.held[p], nil
}

func (s *fakeStore) remove(p topic.Partition, _ topic.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, p)
	s.removed = append(s.removed, p)
	return nil
}

func (s *fakeStore) logs() (out []held) {
	for p, l := range s.held {
		out = append(out, held{name: p, id: l.id})
	}
	return out
}

func (s *fakeStore) setAside(p topic.Partition, _ topic.ID) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, p)
	s.kept = append(s.kept, time.Now())
	return "aside", nil
}

func (s *fakeStore) asides(_ topic.Partition, _ topic.ID, since time.Time) (n int, last time.Time) {
	for _, at := range s.kept {
		if at.After(since) {
			n, last = n+1, at
		}
	}
	return n, last
}

func (s *fakeStore) failedDirs() []string { return s.failed }

type fakeCounters struct{ dropped []string }

func (c *fakeCounters) Topic(string) *stats.Topic { return &stats.Topic{} }
func (c *fakeCounters) DropTopic(name string)     { c.dropped = append(c.dropped, name) }

func newFakeSet(t testing.TB) (*Set, *fakeStore, *fakeCounters) {
	t.Helper()
	store := &fakeStore{held: make(map[topic.Partition]*fakeLog)}
	c := &fakeCounters{}
	return newSet(Options{Node: 1, Logger: slog.New(slog.DiscardHandler), Now: time.Now}, store, c), store, c
}

var (
	orders = topic.Partition{Topic: "orders", Partition: 0}
	idA    = topic.ID{1}
	idB    = topic.ID{2}
)

// placed is a wish for a partition on broker 1 and others.
func placed(id topic.ID, leader metadata.BrokerID, epoch record.Epoch, isr []metadata.BrokerID, over map[string]string) wish {
	replicas := slices.Clone(isr)
	if !slices.Contains(replicas, 1) {
		replicas = append(replicas, 1)
	}
	return wish{
		id: id,
		state: metadata.Partition{
			Leader: leader, LeaderEpoch: epoch, Replicas: replicas, ISR: isr,
		},
		set: readSettings(config.TopicValues(config.Defaults(), nil, nil, over, 1)),
	}
}

// led gives a partition that broker 1 leads alone, and its log.
func led(t *testing.T) (*Set, *Partition, *fakeLog) {
	t.Helper()
	s, store, _ := newFakeSet(t)
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 0, []metadata.BrokerID{1}, nil)}, true); err != nil {
		t.Fatal(err)
	}
	p, err := s.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	return s, p, store.held[orders]
}
