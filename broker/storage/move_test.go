package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

var twoDirs = []string{"/one", "/two"}

// moved makes a log with several segments, epochs and producers that begins at offset 3.
func movable(t testing.TB, s *Store) *Log {
	t.Helper()
	l := mustCreate(t, s, smallCf)
	fillMovable(t, l)
	return l
}

func fillMovable(t testing.TB, l *Log) {
	t.Helper()
	for i := range 12 {
		b := batch(2, int64(1000*i))
		if i%3 == 0 {
			b = idempotent(int64(7+i%2), 0, int32(i/6*2), 2)
		}
		if _, err := l.Append(b, Append{Assign: true, Epoch: record.Epoch(1 + i/5), Now: 1000}); err != nil {
			t.Fatal(err)
		}
		if i == 8 {
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range int32(12) { // aborted transactions in several segments, and one that is open
		mustAppend(t, l, transactional(11, 0, 3*i, 3))
		mustAppend(t, l, record.Marker{ProducerID: 11}.Batch(1))
	}
	mustAppend(t, l, transactional(12, 0, 0, 2))
	if _, err := l.DeleteBefore(3); err != nil {
		t.Fatal(err)
	}
}

// state is all that a move has to take along.
type logState struct {
	content, producers string
	start, end, high   record.Offset
	stable             record.Offset
	epochs, aborted    string
}

func stateOf(t testing.TB, l *Log) logState {
	t.Helper()
	l.mu.Lock()
	p, e := string(l.mu.producers.encode(nil)), fmt.Sprint(l.mu.epochs)
	l.mu.Unlock()
	aborted, err := abortedIn(*l.view.Load(), l.Start(), l.End())
	if err != nil {
		t.Fatal(err)
	}
	return logState{string(content(t, l)), p, l.Start(), l.End(), l.HighWatermark(), l.LastStable(l.HighWatermark()), e, fmt.Sprint(aborted)}
}

// moveNow asks for a move and does it.
func moveNow(t testing.TB, s *Store, path string) {
	t.Helper()
	if err := s.Move(testTP, path); err != nil {
		t.Fatal(err)
	}
	if m := s.moves.pop(); m != nil {
		s.moveOne(context.Background(), m)
	}
}

// folders gives the folders of logs in a directory, whatever their state.
func folders(t testing.TB, fs disk.FS, path string) []string {
	t.Helper()
	d, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	entries, err := d.List(".")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Dir {
			all = append(all, e.Name)
		}
	}
	return all
}

func TestMove(t *testing.T) {
	for name, fs := range map[string]disk.FS{"memory": disk.NewMemory(0), "real": disk.Real{}} {
		t.Run(name, func(t *testing.T) {
			dirs := twoDirs
			if name == "real" {
				dirs = []string{t.TempDir(), t.TempDir()}
			}
			s := mustOpen(t, options(fs, dirs...))
			l := movable(t, s)
			l.SetHighWatermark(l.End())
			if l.Dir() != dirs[0] {
				t.Fatalf("the log was made in %s", l.Dir())
			}
			before := stateOf(t, l)
			reader, err := l.Read(4, 1<<20, l.End(), true)
			if err != nil {
				t.Fatal(err)
			}
			moveNow(t, s, dirs[1])
			if l.Dir() != dirs[1] || s.Log(testTP) != l {
				t.Fatalf("the log is in %s", l.Dir())
			}
			if _, moving := l.Future(); moving {
				t.Error("the move is not over")
			}
			if got := stateOf(t, l); got != before {
				t.Errorf("after the move %+v, want %+v", got, before)
			}
			s.trash.empty(time.Now().Add(time.Hour))
			if left := folders(t, fs, dirs[0]); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if b := make([]byte, reader.Len()); true {
				if n, err := reader.ReadAt(b, 0); n != len(b) {
					t.Errorf("a reader of before the move gets %d of %d bytes: %v", n, len(b), err)
				}
				reader.Release()
			}
			for range 12 {
				mustAppend(t, l, batch(2, 50_000))
			}
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
			if o, _, _, found, err := l.OffsetAt(50_000, l.End()); o != 74 || !found || err != nil {
				t.Errorf("the first record of 50 s is %d, %v, %v; want 74", o, found, err)
			}
			moveNow(t, s, dirs[0])
			before = stateOf(t, l)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, options(fs, dirs...))
			defer s.Close()
			l = s.Log(testTP)
			if l == nil || l.Dir() != dirs[0] {
				t.Fatalf("after the restart the log is %v", l)
			}
			if got := stateOf(t, l); got != before {
				t.Errorf("after the restart %+v, want %+v", got, before)
			}
			if left := append(folders(t, fs, dirs[1]), folders(t, fs, dirs[0])...); len(left) != 1 {
				t.Errorf("folders after the restart: %q", left)
			}
		})
	}
}

func TestMoveRefusals(t *testing.T) {
	fs := disk.NewMemory(0)
	s := mustOpen(t, options(fs, twoDirs...))
	defer s.Close()
	if err := s.Move(testTP, "/three"); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("to a directory that is not configured: %v", err)
	}
	if err := s.Move(testTP, "/two"); !errors.Is(err, ErrNoLog) {
		t.Errorf("of a log that is not there: %v", err)
	}
	l := movable(t, s)
	if l.Dir() != "/two" {
		t.Errorf("the log was made in %s, and /two was asked for", l.Dir())
	}
	if err := s.Move(testTP, "/two"); err != nil || s.moves.pop() != nil {
		t.Errorf("to where it is: %v", err)
	}
	if err := s.Move(testTP, "/one"); err != nil {
		t.Fatal(err)
	}
	if f, moving := l.Future(); !moving || f.Dir != "/one" || f.Size != 0 {
		t.Errorf("on its way: %+v, %v", f, moving)
	}
	if err := s.Move(testTP, "/two"); err != nil {
		t.Fatal(err)
	}
	if _, moving := l.Future(); moving {
		t.Error("the cancelled move goes on")
	}
	s.moveOne(t.Context(), s.moves.pop())
	if l.Dir() != "/two" || len(folders(t, fs, "/one")) != 0 {
		t.Errorf("after a cancelled move the log is in %s, and /one has %q", l.Dir(), folders(t, fs, "/one"))
	}
	fs.SetCapacity(fs.Used() + 1)
	if err := s.Move(testTP, "/one"); !errors.Is(err, ErrFull) {
		t.Errorf("to a full disk: %v", err)
	}
	fs.SetCapacity(0)
	s.directory("/one").fail(errors.New("a test"))
	if err := s.Move(testTP, "/one"); !errors.Is(err, ErrOffline) {
		t.Errorf("to a failed disk: %v", err)
	}
}

// TestMovePowerLostAtEveryOperation: the log is there whole, once, wherever the power went.
func TestMovePowerLostAtEveryOperation(t *testing.T) {
	live := func(fs disk.FS) (durable record.Offset) {
		s, err := Open(options(fs, twoDirs...))
		if err != nil {
			return 0
		}
		l, err := s.Create(testTP, testID, smallCf)
		if err != nil {
			return 0
		}
		for round := range 3 {
			for i := range 8 {
				if _, err := l.Append(batch(2, int64(i)), Append{Assign: true, Epoch: record.Epoch(1 + round), Now: 1000}); err != nil {
					return durable
				}
				if i == 5 && l.Flush() == nil {
					durable = l.Durable()
				}
			}
			if start, err := l.DeleteBefore(record.Offset(1 + 5*round)); err == nil && start > durable {
				durable = start
			}
			if s.Move(testTP, twoDirs[(round+1)%2]) == nil {
				if m := s.moves.pop(); m != nil {
					s.moveOne(context.Background(), m)
				}
			}
			durable = max(durable, l.Durable())
			s.trash.empty(time.Now().Add(time.Hour))
		}
		if s.Close() == nil && l.Err() == nil {
			durable = max(durable, l.End())
		}
		return durable
	}
	count := disk.NewFaulty(disk.NewMemory(0), func(disk.Op) *disk.Fault { return nil })
	if got := live(count); got != 48 {
		t.Fatalf("without a fault %d records are durable, want 48", got)
	}
	check := func(memory *disk.Memory, durable record.Offset, where string) {
		s, err := Open(options(memory, twoDirs...))
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		l := s.Log(testTP)
		if l == nil {
			if durable > 0 {
				t.Fatalf("%s: the log is gone, it was durable to %d", where, durable)
			}
			return
		}
		if err := l.Err(); err != nil || l.End() < durable {
			t.Fatalf("%s: the log ends at %d (%v), it was durable to %d", where, l.End(), err, durable)
		}
		content(t, l)
		mustAppend1(t, l, 99)
		s.trash.empty(time.Now().Add(time.Hour))
		if err := s.Close(); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if left := append(folders(t, memory, "/one"), folders(t, memory, "/two")...); len(left) != 1 && durable > 0 {
			t.Fatalf("%s: folders %q", where, left)
		}
	}
	for cut := 1; cut <= count.Count(); cut++ {
		memory := disk.NewMemory(0)
		durable := live(disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
			if op.N >= cut {
				return &disk.Fault{Err: errPower, Short: cut % 200}
			}
			return nil
		}))
		for seed := range uint64(5) {
			check(memory.Crash(uint64(cut)*100+seed), durable, fmt.Sprintf("power cut %d seed %d", cut, seed))
		}
		// One operation fails, and the process lives on for a while.
		memory = disk.NewMemory(0)
		durable = live(disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
			if op.N == cut {
				return &disk.Fault{Err: errors.New("input/output error")}
			}
			return nil
		}))
		for seed := range uint64(3) {
			check(memory.Crash(uint64(cut)*100+seed), durable, fmt.Sprintf("fault %d seed %d", cut, seed))
		}
	}
}

// TestMoveUnderLoad: appends, reads, deletions, truncations and compaction go on while the
// log moves to and fro, and nothing is lost.
func TestMoveUnderLoad(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	o := options(disk.Real{}, dirs...)
	o.Checkpoint, o.RetentionCheck = 5*time.Millisecond, 5*time.Millisecond
	s := mustOpen(t, o)
	stop := run(t, s)
	c := smallCf
	c.SegmentBytes, c.Delete = 20_000, true
	l, err := s.Create(testTP, testID, c)
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var wait sync.WaitGroup
	wait.Go(func() {
		for at := record.Offset(0); !done.Load(); {
			r, err := l.Read(at, 900, l.End(), true)
			if errors.Is(err, ErrOffsetOutOfRange) && at < l.Start() {
				at = l.Start()
				continue
			}
			if err != nil {
				t.Errorf("read at %d: %v", at, err)
				return
			}
			b := make([]byte, r.Len())
			n, _ := r.ReadAt(b, 0)
			r.Release()
			for rest := b[:n]; len(rest) > 0; {
				h, err := record.Verify(rest)
				if err != nil || h.Last() < at || h.Base > at {
					t.Errorf("read at %d gives %d to %d: %v", at, h.Base, h.Last(), err)
					return
				}
				at, rest = h.Last()+1, rest[h.Size():]
			}
		}
	})
	wait.Go(func() {
		for !done.Load() {
			if _, err := l.DeleteBefore(l.Start() + (l.End()-l.Start())/3); err != nil {
				t.Errorf("delete: %v", err)
				return
			}
			l.SetHighWatermark(l.Durable())
		}
	})
	const moves = 6
	seq := int32(0)
	for n, limit := 0, time.Now().Add(time.Minute); n < moves; {
		r, err := l.Append(idempotent(5, 0, seq, 2), Append{Assign: true, Epoch: 1, Now: time.Now().UnixMilli()})
		if err != nil || r.First != record.Offset(seq) {
			t.Fatalf("append %d: %+v, %v", seq, r, err)
		}
		seq += 2
		for l.End()-l.Start() > 20_000 {
			runtime.Gosched() // the deleter is behind
		}
		if _, moving := l.Future(); moving {
			if time.Now().After(limit) {
				t.Fatalf("move %d is not over", n)
			}
			continue
		}
		if to := dirs[(n+1)%2]; l.Dir() == to {
			n++
		} else if err := s.Move(testTP, to); err != nil {
			t.Fatal(err)
		}
	}
	done.Store(true)
	wait.Wait()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	want := stateOf(t, l)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, options(disk.Real{}, dirs...))
	defer s.Close()
	got := stateOf(t, s.Log(testTP))
	want.high, want.stable = got.high, got.stable
	if got != want || got.end != record.Offset(seq) {
		t.Errorf("after the restart [%d, %d), epochs %s, producers %x, want [%d, %d), %s, %x; content is the same: %v",
			got.start, got.end, got.epochs, got.producers, want.start, want.end, want.epochs, want.producers, got.content == want.content)
	}
}

// TestMoveOfATruncatedLog: a log that loses its end while it is copied arrives without it.
func TestMoveOfATruncatedLog(t *testing.T) {
	fs := disk.NewMemory(0)
	s := mustOpen(t, options(fs, twoDirs...))
	defer s.Close()
	l := movable(t, s)
	if err := s.Move(testTP, "/two"); err != nil {
		t.Fatal(err)
	}
	m := s.moves.pop()
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	if left, err := m.catchUp(t.Context()); left != 0 || err != nil {
		t.Fatalf("%d bytes are left: %v", left, err)
	}
	if err := l.Truncate(11); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, batch(3, 77))
	if done, err := m.commit(t.Context(), s); done || err != nil || !m.truncated() {
		t.Fatalf("the copy of before was put in place: %v, %v", done, err)
	}
	want := stateOf(t, l)
	if err := m.discard(); err != nil {
		t.Fatal(err)
	}
	s.moveOne(t.Context(), m)
	if got := stateOf(t, l); got != want || l.Dir() != "/two" {
		t.Errorf("in %s: %+v, want %+v", l.Dir(), got, want)
	}
}

// TestMoveOfACompactedLog: segments that the cleaner replaces while they are copied arrive as they are then.
func TestMoveOfACompactedLog(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0), twoDirs...))
	defer s.Close()
	c := smallCf
	c.Compact = true
	l := mustCreate(t, s, c)
	for i := range 20 {
		mustAppend(t, l, batch(2, int64(i)))
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	l.SetHighWatermark(l.End())
	s.checkpointAll(t.Context())
	before := l.Size()
	m := &move{log: l, to: s.directory("/two"), folder: l.folder + futureMark + "x"}
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.clean(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if l.Size() >= before {
		t.Fatal("the cleaner left everything")
	}
	l.moving.Store(m)
	if _, due := l.dirty(1000); due {
		t.Error("a log that moves is to be cleaned")
	}
	want := stateOf(t, l)
	if again, err := m.follow(t.Context(), s); again || err != nil {
		t.Fatal(again, err)
	}
	if got := stateOf(t, l); got != want || l.Dir() != "/two" || l.Size() != int64(len(want.content)) {
		t.Errorf("in %s: %+v, want %+v", l.Dir(), got, want)
	}
}

// TestMoveOfADeletedLog: the copy goes with the log.
func TestMoveOfADeletedLog(t *testing.T) {
	fs := disk.NewMemory(0)
	s := mustOpen(t, options(fs, twoDirs...))
	defer s.Close()
	movable(t, s)
	if err := s.Move(testTP, "/two"); err != nil {
		t.Fatal(err)
	}
	m := s.moves.pop()
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(testTP, testID); err != nil {
		t.Fatal(err)
	}
	if _, err := m.follow(t.Context(), s); !errors.Is(err, errMoveStopped) {
		t.Errorf("the copy of a deleted log: %v", err)
	}
	if err := m.discard(); err != nil {
		t.Fatal(err)
	}
	if left := folders(t, fs, "/two"); len(left) != 0 || s.Log(testTP) != nil {
		t.Errorf("left: %q", left)
	}
}

// TestTwins: of two folders with one log that with more moves is the log; with as many, the first is used and both stay.
func TestTwins(t *testing.T) {
	for _, moves := range []int64{0, 1} {
		fs := disk.NewMemory(0)
		s := mustOpen(t, options(fs, twoDirs...))
		l := movable(t, s)
		// A copy as a crash leaves it: in place, and the old one not yet gone.
		m := &move{log: l, to: s.directory("/two"), folder: l.folder}
		m.folder += futureMark + "x"
		if err := m.begin(); err != nil {
			t.Fatal(err)
		}
		if _, err := m.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.to.disk.Rename(m.folder, l.folder); err != nil {
			t.Fatal(err)
		}
		if err := writeMoves(m.to.disk, l.folder, moves); err != nil {
			t.Fatal(err)
		}
		m.release()
		want := content(t, l)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, options(fs, twoDirs...))
		l = s.Log(testTP)
		if got := content(t, l); !bytes.HasSuffix(got, want) {
			t.Errorf("with %d moves the log has other content", moves)
		}
		if want := twoDirs[moves]; l.Dir() != want {
			t.Errorf("with %d moves the log is in %s, want %s", moves, l.Dir(), want)
		}
		s.trash.empty(time.Now().Add(time.Hour))
		if n := len(folders(t, fs, "/one")); n != 1-int(moves) {
			t.Errorf("with %d moves /one has %d folders", moves, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadMoves(t *testing.T) {
	d, err := disk.NewMemory(0).Open("/one")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Mkdir("a"); err != nil {
		t.Fatal(err)
	}
	if n, err := readMoves(d, "a"); n != 0 || err != nil {
		t.Errorf("without a file: %d, %v", n, err)
	}
	if err := writeMoves(d, "a", 12); err != nil {
		t.Fatal(err)
	}
	if n, err := readMoves(d, "a"); n != 12 || err != nil {
		t.Errorf("%d, %v; want 12", n, err)
	}
	for _, text := range []string{"", "version: 0\nmoves: 12\n", string(seal([]byte("version: 1\nmoves: 1\n"))), string(seal([]byte("version: 0\nmoves: -1\n"))), string(seal([]byte("version: 0\n")))} {
		if err := disk.WriteAtomic(d, "a/"+movesFile, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := readMoves(d, "a"); !errors.As(err, new(errDamaged)) {
			t.Errorf("%q: %v", strings.TrimSpace(text), err)
		}
	}
}

// TestWishesAreBounded: names that nobody makes cost no memory without end.
func TestWishesAreBounded(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0), twoDirs...))
	defer s.Close()
	for i := range int32(mostWishes + 10) {
		if err := s.Move(topic.Partition{Topic: "none", Partition: i}, "/two"); !errors.Is(err, ErrNoLog) {
			t.Fatal(err)
		}
	}
	if n := len(s.moves.mu.wishes); n != mostWishes {
		t.Errorf("%d are remembered", n)
	}
}
