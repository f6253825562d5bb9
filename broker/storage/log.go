package storage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Log is one partition's replica on disk. All methods are safe for concurrent use; Append and Truncate exclude each other.
type Log struct {
	env    *env
	home   atomic.Pointer[directory] // changed by a move, with chores and mu held
	moving atomic.Pointer[move]      // changed with mu held; nil: it stays where it is
	moves  atomic.Int64              // how often it was moved
	folder string
	name   topic.Partition
	id     topic.ID
	conf   atomic.Pointer[LogConfig]

	// view is the row of segments, ascending, the last one active; replaced whole, under mu.
	view atomic.Pointer[[]*segment]
	// Invariant: the appender stores end before the segment's size, and readers load the
	// size before end, so that bytes below the size they saw hold only offsets below end.
	start, end, synced, high atomic.Int64
	cleaned                  atomic.Int64          // the cleaner has seen what lies below
	settled                  atomic.Int64          // the recovery point that is on disk
	damage                   atomic.Pointer[error] // why the log is quarantined
	cuts                     atomic.Int64          // truncations begun and ended: odd while one runs
	leaving                  atomic.Bool           // it is being deleted: its files go away under those who work on it
	notify                   atomic.Pointer[func()]
	undecided                *undecided   // transactions
	aborts                   atomic.Bool  // some segment has an aborted transaction
	queued                   atomic.Int32 // flushIdle …
	timer                    *time.Timer  // queues a flush after FlushEvery

	mu struct {
		sync.Mutex // the append lock: held over the one write of an append and the creation of a segment
		closed     bool
		draining   bool          // about to be closed: no appends
		timed      bool          // timer runs
		changed    bool          // the files do not hold all yet that a clean stop leaves
		turn       int           // counts truncations, so that a flush that ran meanwhile does not count
		floor      record.Offset // a truncation is about to cut here: no recovery point above it
		point      record.Offset // recovery point of the last checkpoint
		newStart   record.Offset // log start that is being made durable
		producers  producers
		snapshots  []pendingSnapshot
		epochs     epochs
		epochNews  bool // the cache has what its file lacks
	}
	// chores serialises what changes the set of files (sealing, deletion, truncation,
	// cleaning, epoch file). It is held over I/O; appends and reads never take it.
	chores sync.Mutex
}

// pendingSnapshot is producer state that was encoded under the lock and is written later.
type pendingSnapshot struct {
	at      record.Offset
	content []byte
}

func newLog(env *env, dir *directory, folder string, p topic.Partition, id topic.ID, c LogConfig) *Log {
	l := &Log{env: env, folder: folder, name: p, id: id, undecided: newUndecided()}
	l.home.Store(dir)
	l.conf.Store(&c)
	l.view.Store(&[]*segment{})
	l.mu.producers = newProducers()
	l.mu.floor = math.MaxInt64
	l.timer = time.AfterFunc(time.Hour, l.queueFlush)
	l.timer.Stop()
	return l
}

// Partition gives the partition's name.
func (l *Log) Partition() topic.Partition { return l.name }

// TopicID gives the ID of the topic it was created for.
func (l *Log) TopicID() topic.ID { return l.id }

// dir gives the log directory that holds it.
func (l *Log) dir() *directory { return l.home.Load() }

// Dir gives the path of the log directory that holds it.
func (l *Log) Dir() string { return l.dir().path }

// Err gives why the log is offline: its directory failed or its data is damaged. nil: it serves.
func (l *Log) Err() error {
	if e := l.damage.Load(); e != nil {
		return *e
	}
	return l.dir().Err()
}

// Start gives the log start: the first offset that may be read.
func (l *Log) Start() record.Offset { return record.Offset(l.start.Load()) }

// End gives the offset of the next record to be appended.
func (l *Log) End() record.Offset { return record.Offset(l.end.Load()) }

// Durable is the offset up to which this replica may be counted: the synced end when FlushMessages is 1, else End.
func (l *Log) Durable() record.Offset {
	if l.conf.Load().FlushMessages == 1 {
		return record.Offset(l.synced.Load())
	}
	return l.End()
}

// Notify sets the one function called (from any goroutine, without locks held) after
// Durable advanced, and after the log went offline.
func (l *Log) Notify(f func()) { l.notify.Store(&f) }

func (l *Log) wake() {
	if f := l.notify.Load(); f != nil {
		(*f)()
	}
}

// SetHighWatermark bounds retention, compaction and FreeOldest, and is checkpointed; HighWatermark gives it back after a restart.
func (l *Log) SetHighWatermark(o record.Offset) {
	l.high.Store(int64(o))
	l.undecided.reach(o)
}

// HighWatermark gives what SetHighWatermark said last, before a restart too, never above End.
func (l *Log) HighWatermark() record.Offset {
	return record.Offset(min(l.high.Load(), l.end.Load()))
}

// Size gives the bytes of message data.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.view.Load() {
		n += s.size.Load()
	}
	return n
}

// Reconfigure changes the settings from now on.
func (l *Log) Reconfigure(c LogConfig) {
	l.conf.Store(&c)
	if c.FlushMessages == 1 && l.synced.Load() < l.end.Load() {
		l.queueFlush()
	}
}

// Producers gives the live producer state, sorted by ID (R27, KIP-664).
func (l *Log) Producers() []Producer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.producers.list()
}

// ready gives the refusal of a log that cannot serve, or nil.
func (l *Log) ready() error {
	if l.damage.Load() != nil || l.dir().err.Load() != nil {
		return ErrOffline
	}
	return nil
}

// readyLocked is ready for writers.
func (l *Log) readyLocked() error {
	if l.mu.closed {
		return ErrClosed
	}
	return l.ready()
}

// trouble words an error of the disk and draws the consequences.
func (l *Log) trouble(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case l.leaving.Load() && disk.IsAbsent(err):
		// Why: deletion waits neither for appends nor for a sync, and what they miss then says nothing of the disk.
		return fmt.Errorf("cannot %s log %q: %w", doing, l.name, ErrClosed)
	}
	return fmt.Errorf("cannot %s log %q: %w", doing, l.name, l.dir().trouble(err))
}

// quarantine takes the log, not its directory, offline: its data is not what was written.
func (l *Log) quarantine(err error) {
	if l.damage.CompareAndSwap(nil, &err) {
		l.env.corruption("log")
		l.env.logger.Error("log is damaged and offline", "partition", l.name.String(), "dir", l.dir().path, "folder", l.folder, "error", err)
		l.wake()
	}
}

// active gives the segment that grows.
func (l *Log) active() *segment {
	v := *l.view.Load()
	return v[len(v)-1]
}

// setView replaces the row of segments. Requires: mu.
func (l *Log) setView(v []*segment) { l.view.Store(&v) }

// find gives the index of the segment that holds o: the last one that begins at or below it.
func find(v []*segment, o record.Offset) int {
	i, found := slices.BinarySearchFunc(v, o, func(s *segment, o record.Offset) int {
		switch {
		case s.base < o:
			return -1
		case s.base > o:
			return 1
		}
		return 0
	})
	if found {
		return i
	}
	return max(0, i-1)
}

// startSegment makes a new segment ready to be appended to; its file is there already.
func (l *Log) startSegment(s *segment) {
	if j := l.conf.Load().SegmentJitter.Milliseconds(); j > 0 {
		s.jitter = rand.Int64N(j)
	}
}

// BeginEpoch inserts (epoch, End) into the epoch cache (R1).
// On a full disk the cache's file is written later.
func (l *Log) BeginEpoch(e record.Epoch) error {
	l.mu.Lock()
	if err := l.readyLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	l.noteEpochLocked(e, l.End())
	l.mu.Unlock()
	return l.saveEpochs()
}

func (l *Log) noteEpochLocked(e record.Epoch, start record.Offset) {
	if e > l.mu.epochs.last() {
		l.mu.epochs = l.mu.epochs.begin(e, start)
		l.mu.epochNews = true
	}
}

// saveEpochs writes the epoch cache if its file lacks something. A full disk is not
// an error: the next checkpoint tries again.
func (l *Log) saveEpochs() error {
	l.chores.Lock()
	defer l.chores.Unlock()
	return l.saveEpochsChore()
}

// saveEpochsChore is saveEpochs. Requires: chores.
func (l *Log) saveEpochsChore() error {
	l.mu.Lock()
	news, lines := l.mu.epochNews, l.mu.epochs.lines()
	l.mu.epochNews = false
	l.mu.Unlock()
	if !news {
		return nil
	}
	err := l.writeAtomic(epochFile, encodeLines(lines))
	if err == nil {
		return nil
	}
	l.mu.Lock()
	l.mu.epochNews = true
	l.mu.Unlock()
	if isFull(err) {
		return nil
	}
	return l.trouble("write the epochs of", err)
}

// LastEpoch gives the largest epoch that the log knows, -1 none.
func (l *Log) LastEpoch() record.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.last()
}

// EndOf gives the largest epoch <= e and its end offset; (-1,-1) if e is newer than
// all. For an e older than all it gives e itself and the start of the first one (KIP-279).
func (l *Log) EndOf(e record.Epoch) (record.Epoch, record.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.endOf(e, l.End())
}

// EpochAt gives the epoch in which the record at o was or would be written, -1 if it is not known.
func (l *Log) EpochAt(o record.Offset) record.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.at(o)
}

// close ends the use of the log's files.
func (l *Log) close() {
	l.mu.Lock()
	l.mu.closed = true
	l.timer.Stop()
	v := *l.view.Load()
	l.mu.Unlock()
	for _, s := range v {
		s.drop()
	}
}
