package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Refusals of Move.
var (
	ErrNoDirectory = errors.New("no such log directory is configured")
	ErrNoLog       = errors.New("the partition has no log here")
)

const (
	// futureMark is in the name of the folder that a log is copied to. What a start finds is removed.
	futureMark = ".future-"
	// movesFile counts the moves of a log. Of two folders with one log, that with more moves is the log.
	movesFile = "moves"
	// mostWishes bounds the directories that are remembered for logs that do not exist yet.
	mostWishes = 10_000
)

// move is a log on its way to another directory of the node (KIP-113). A worker copies the
// segments while the log serves; the last bytes, and the change itself, happen with the
// log's locks held.
//
// Invariant: until the rename of the copy's folder is on disk the log is where it was, and
// after it the log is there, whole; no append comes between that and the removal of the old one.
type move struct {
	log    *Log
	to     *directory
	folder string // of the copy, in to
	pace   func() int64
	stop   atomic.Bool // cancelled

	copies []*copied // the worker's alone
	turn   int       // truncations of the log when the copy began
	hurry  bool      // appends wait: no pace is kept

	size, end atomic.Int64            // of the copy so far
	lines     atomic.Pointer[arrival] // what the checkpoints of to say of the log from now on
}

// arrival is what the checkpoints say of one log.
type arrival struct {
	point, start, high, cleaned record.Offset
	compact                     bool
}

// arriving gives what the checkpoints of d have to say of a log that is about to come; nil: nothing.
func (m *move) arriving(d *directory) *arrival {
	if m == nil || m.to != d {
		return nil
	}
	return m.lines.Load()
}

// moves is what a store has to move.
type moves struct {
	wake   chan struct{} // capacity 1: there is something in queue
	commit sync.Mutex    // one at a time, as it waits for the chores of other logs
	mu     struct {
		sync.Mutex
		queue  []*move
		wishes map[topic.Partition]*directory // of logs that do not exist yet
	}
}

func (q *moves) push(m *move) {
	q.mu.Lock()
	q.mu.queue = append(q.mu.queue, m)
	q.mu.Unlock()
	q.kick()
}

func (q *moves) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *moves) pop() *move {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.queue) == 0 {
		return nil
	}
	m := q.mu.queue[0]
	q.mu.queue = q.mu.queue[1:]
	if len(q.mu.queue) > 0 {
		q.kick() // for the next worker
	}
	return m
}

// wish remembers where a log is to be made.
func (q *moves) wish(p topic.Partition, d *directory) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.wishes) < mostWishes {
		q.mu.wishes[p] = d
	}
}

// granted gives the directory that was wished for a log, and forgets it; nil: any.
func (q *moves) granted(p topic.Partition) *directory {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.mu.wishes[p]
	delete(q.mu.wishes, p)
	return d
}

// Move has the partition's log live in the log directory of that path; the one where it is
// ends a move that is under way. It returns before the move is done: see Log.Future and
// Log.Dir. A move that fails is told in the node's log, and one that a stop of the node
// interrupts is not taken up again.
//
// Errors: ErrNoDirectory; ErrNoLog, and the directory is remembered for the log's creation;
// ErrOffline if the directory or the log is; ErrFull without space for a second copy.
func (s *Store) Move(p topic.Partition, path string) error {
	d := s.directory(path)
	if d == nil {
		return fmt.Errorf("cannot move log %q to %q: %w", p, path, ErrNoDirectory)
	}
	if d.Err() != nil {
		return fmt.Errorf("cannot move log %q to %q: %w", p, path, ErrOffline)
	}
	l := s.Log(p)
	if l == nil {
		s.moves.wish(p, d)
		return fmt.Errorf("cannot move log %q to %q: %w", p, path, ErrNoLog)
	}
	if err := l.ready(); err != nil {
		return fmt.Errorf("cannot move log %q to %q: %w", p, path, err)
	}
	if d != l.dir() {
		if err := d.space(l.Size()); err != nil {
			return fmt.Errorf("cannot move log %q to %q: %w", p, path, err)
		}
	}
	m := &move{log: l, to: d, folder: l.folder + futureMark + randomMark(), pace: s.o.MovePace}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.moving.Load(); old != nil {
		if old.to == d {
			return nil
		}
		old.stop.Store(true)
		l.moving.Store(nil)
	}
	if d == l.dir() {
		return nil
	}
	l.moving.Store(m)
	s.moves.push(m)
	return nil
}

// directory finds a log directory by its path.
func (s *Store) directory(path string) *directory {
	for _, d := range s.dirs {
		if d.path == path {
			return d
		}
	}
	return nil
}

// space refuses bytes that the directory has no room for.
func (d *directory) space(bytes int64) error {
	if d.reserve.short.Load() {
		return ErrFull
	}
	_, free, err := d.disk.Usage()
	if err != nil {
		return d.trouble(err)
	}
	if bytes > free {
		return ErrFull
	}
	return nil
}

// Future is the copy of a log that is on its way to another directory.
type Future struct {
	Dir  string
	Size int64 // bytes copied
	End  record.Offset
}

// Future gives where the log is on its way to; false: it stays where it is.
func (l *Log) Future() (Future, bool) {
	m := l.moving.Load()
	if m == nil {
		return Future{}, false
	}
	return Future{m.to.path, m.size.Load(), record.Offset(m.end.Load())}, true
}

// cancelMove ends a move, because the log goes away.
func (l *Log) cancelMove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.moving.Load(); m != nil {
		m.stop.Store(true)
		l.moving.Store(nil)
	}
}

// moveAll moves logs until ctx ends.
func (s *Store) moveAll(ctx context.Context) {
	for {
		if m := s.moves.pop(); m != nil {
			s.moveOne(ctx, m)
			continue
		}
		select {
		case <-s.moves.wake:
		case <-ctx.Done():
			return
		}
	}
}

// errMoveStopped ends a move that was cancelled.
var errMoveStopped = errors.New("the move was stopped")

// moveOne moves one log, or leaves everything as it was.
func (s *Store) moveOne(ctx context.Context, m *move) {
	l, from := m.log, m.log.Dir()
	err := m.run(ctx, s)
	m.release()
	if err == nil {
		s.o.Logger.Info("log was moved", "partition", l.name.String(), "from", from, "to", m.to.path, "bytes", m.size.Load())
		return
	}
	l.mu.Lock()
	l.moving.CompareAndSwap(m, nil)
	l.mu.Unlock()
	if rerr := m.discard(); rerr != nil && m.to.Err() == nil {
		s.o.Logger.Warn("what was copied of a log is removed at the next start only", "partition", l.name.String(), "dir", m.to.path, "error", rerr)
	}
	if ctx.Err() == nil && !errors.Is(err, errMoveStopped) {
		s.o.Logger.Error("log was not moved and stays where it is", "partition", l.name.String(), "from", from, "to", m.to.path, "error", err)
	}
}

// run copies and changes over.
func (m *move) run(ctx context.Context, s *Store) error {
	for {
		if err := m.halted(ctx); err != nil {
			return err
		}
		if err := m.begin(); err != nil {
			return err
		}
		again, err := m.follow(ctx, s)
		if !again {
			return err
		}
		// The log was truncated: what was copied may not be its content any more.
		if err := m.discard(); err != nil {
			return err
		}
	}
}

// follow copies what there is until little is left, then changes over; again: the copy is no good.
func (m *move) follow(ctx context.Context, s *Store) (again bool, err error) {
	for {
		left, err := m.catchUp(ctx)
		if err != nil {
			return false, err
		}
		if m.truncated() {
			return true, nil
		}
		if left > moveNear {
			continue
		}
		done, err := m.commit(ctx, s)
		if done || err != nil {
			return false, err
		}
	}
}

// halted tells why the move cannot go on.
func (m *move) halted(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case m.stop.Load() || m.log.leaving.Load():
		return errMoveStopped
	case m.log.Err() != nil || m.to.Err() != nil:
		return ErrOffline
	case m.to.reserve.short.Load():
		return ErrFull
	}
	return nil
}

// truncated tells whether the log lost its end since the copy began, or is about to.
func (m *move) truncated() bool {
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	return m.log.mu.turn != m.turn
}

// begin makes the copy's folder.
func (m *move) begin() error {
	l, d := m.log, m.to.disk
	l.mu.Lock()
	m.turn = l.mu.turn
	l.mu.Unlock()
	m.copies = nil
	m.note()
	if _, err := d.Stat(l.folder); !disk.IsAbsent(err) {
		if err != nil {
			return m.to.trouble(err)
		}
		return fmt.Errorf("%q has a folder %q already, which could not be opened: %w", m.to.path, l.folder, ErrOffline)
	}
	err := d.Mkdir(m.folder)
	if err == nil {
		err = disk.WriteAtomic(d, m.folder+"/"+partitionFile, encodePartition(l.name, l.id))
	}
	if err == nil {
		err = writeMoves(d, m.folder, l.moves.Load()+1)
	}
	return m.to.trouble(err)
}

// release lets go of the copy's files.
func (m *move) release() {
	for _, c := range m.copies {
		if !c.used {
			c.to.drop()
		}
	}
}

// discard removes the copy.
func (m *move) discard() error {
	m.release()
	m.copies = nil
	m.note()
	if m.to.Err() != nil {
		return ErrOffline
	}
	return m.to.trouble(disk.RemoveAll(m.to.disk, m.folder))
}

// note brings size and end in line with the copies.
func (m *move) note() {
	var size int64
	end := m.log.Start()
	for _, c := range m.copies {
		size += c.to.size.Load()
		end = max(end, c.next)
	}
	m.size.Store(size)
	m.end.Store(int64(end))
}

// writeMoves says durably how often a log was moved.
func writeMoves(d disk.Dir, folder string, n int64) error {
	return disk.WriteAtomic(d, folder+"/"+movesFile, seal(fmt.Appendf(nil, "version: 0\nmoves: %d\n", n)))
}

// readMoves gives how often a log was moved.
// Errors: errDamaged; trouble with the disk.
func readMoves(d disk.Dir, folder string) (int64, error) {
	b, err := disk.ReadFile(d, folder+"/"+movesFile)
	if disk.IsAbsent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text, err := unseal(b)
	if err == nil && (len(text) != 2 || text[0] != "version: 0") {
		err = errors.New("it has not the two lines of version 0")
	}
	if err != nil {
		return 0, errDamaged{fmt.Errorf("cannot read %q: %w", folder+"/"+movesFile, err)}
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(text[1], "moves: "), 10, 64)
	if err != nil || n < 0 {
		return 0, errDamaged{fmt.Errorf("cannot read %q: its line %q is not a count", folder+"/"+movesFile, text[1])}
	}
	return n, nil
}

// olderTwin decides between two folders with one log: a crash came between the arrival of a
// moved log and the removal of where it was. Both hold the same then, and the one that was
// moved more often goes on. It gives the log that goes; nil: neither was moved, and who
// copied it is not known.
func olderTwin(a, b *Log) *Log {
	switch x, y := a.moves.Load(), b.moves.Load(); {
	case x < y:
		return a
	case x > y:
		return b
	}
	return nil
}
