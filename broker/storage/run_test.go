package storage

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files gives the names in the log's folder that end with suffix.
func files(t *testing.T, s *Store, folder, suffix string) (names []string) {
	t.Helper()
	for _, e := range must(s.dirs[0].disk.List(folder)) {
		if strings.HasSuffix(e.Name, suffix) {
			names = append(names, e.Name)
		}
	}
	return names
}

// deleteAndWait deletes the log and lets the delete delay go by.
func deleteAndWait(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Delete(testTP, testID); err != nil || s.Log(testTP) != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Second)
	if n := len(must(s.dirs[0].disk.List("."))); n < 6 {
		t.Fatal("the folder went before the delete delay")
	}
	time.Sleep(15 * time.Second)
	for _, e := range must(s.dirs[0].disk.List(".")) {
		if e.Dir {
			t.Fatalf("after the delete delay the folder %q is left", e.Name)
		}
	}
}

// TestBackground lets a day go by: flush by time and by messages, retention, delayed
// removal, checkpoints, compaction.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := disk.NewMemory(0)
		o := options(memory)
		o.Checkpoint, o.RetentionCheck = time.Minute, 5*time.Minute
		s := mustOpen(t, o)
		c := smallCf
		c.FlushMessages, c.FlushEvery = 10, 3*time.Second
		c.Delete, c.RetentionAge, c.DeleteDelay = true, 2*time.Hour, time.Minute
		l := mustCreate(t, s, c)
		stop := run(t, s)
		add := func(n int) {
			now := time.Now().UnixMilli()
			if _, err := l.Append(batch(n, now-int64(n)), Append{Assign: true, Epoch: 1, Now: now}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		synced := func() int64 { return l.synced.Load() }
		add(3)
		if synced() != 0 || l.Durable() != 3 {
			t.Fatalf("%d are synced, %d durable", synced(), l.Durable())
		}
		time.Sleep(2 * time.Second)
		add(3)
		if synced() != 0 {
			t.Fatalf("%d are synced after 2 s", synced())
		}
		time.Sleep(1100 * time.Millisecond)
		if synced() != 6 {
			t.Fatalf("%d are synced after 3 s, want 6", synced())
		}
		add(10)
		if synced() != 16 {
			t.Fatalf("%d are synced after 10 more, want 16", synced())
		}
		for range 10 {
			add(10)
		}
		l.SetHighWatermark(l.End())
		end := l.End()
		time.Sleep(90 * time.Second)
		lines, _, err := readLines(s.dirs[0].disk, recoveryFile)
		if err != nil || len(lines) != 1 || lines[0].offset != end {
			t.Fatalf("the recovery point on disk is %v, want %d", lines, end)
		}
		time.Sleep(2*time.Hour + 5*time.Minute)
		if l.Start() != end || l.Size() != 0 {
			t.Fatalf("after the retention time the log is [%d, %d) of %d bytes", l.Start(), l.End(), l.Size())
		}
		time.Sleep(5 * time.Minute)
		if left := files(t, s, l.folder, deletedSuffix); len(left) > 0 {
			t.Fatalf("after the delete delay %q are left", left)
		}
		deleteAndWait(t, s)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestScrubberFindsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, options(disk.NewMemory(0)))
		l := mustCreate(t, s, smallCf)
		for range 40 {
			mustAppend(t, l, batch(3, 1))
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		v := *l.view.Load()
		if _, err := must(v[1].take()).WriteAt([]byte{0xff}, 100); err != nil {
			t.Fatal(err)
		}
		stop := run(t, s)
		time.Sleep(time.Minute)
		if err := l.Err(); !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), v[1].name(logSuffix)) {
			t.Errorf("the log with a damaged segment says %v", err)
		}
		if _, err := l.Read(0, 1<<20, l.End(), true); !errors.Is(err, ErrOffline) {
			t.Errorf("a damaged log is read: %v", err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	})
}

// TestReadFindsDamage: what a disk changed is never given out, whether this process wrote
// it or found it.
func TestReadFindsDamage(t *testing.T) {
	for _, restart := range []bool{false, true} {
		memory := disk.NewMemory(0)
		s := mustOpen(t, options(memory))
		l := mustCreate(t, s, smallCf)
		for range 40 {
			mustAppend(t, l, batch(3, 1))
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		v := *l.view.Load()
		where := 1 // a closed segment
		if restart {
			where = len(v) - 1 // the active one
		}
		damage := must(v[where].take())
		if restart {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, options(memory))
			l = mustCreate(t, s, smallCf)
			v = *l.view.Load()
			damage = must(v[where].take())
		}
		if _, err := damage.WriteAt([]byte{0xff}, 100); err != nil {
			t.Fatal(err)
		}
		good, err := l.Read(0, 1, l.End(), true)
		if err != nil || good.Len() == 0 {
			t.Fatalf("a good segment gives %v", err)
		}
		good.Release()
		if _, err := l.Read(v[where].base, 1<<20, l.End(), true); !errors.Is(err, ErrOffline) {
			t.Errorf("restart %v: damage is given out: %v", restart, err)
		}
		if l.Err() == nil {
			t.Errorf("restart %v: the log does not say that it is offline", restart)
		}
		_ = s.Close()
	}
}

func TestCreateNeverHidesALog(t *testing.T) {
	memory := disk.NewMemory(0)
	broken := false
	faulty := disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
		if broken && op.Name == "." {
			return &disk.Fault{Err: syscall.EIO}
		}
		return nil
	})
	o := options(memory)
	s := mustOpen(t, o)
	l := mustCreate(t, s, smallCf)
	mustAppend(t, l, batch(1, 1))
	if again := mustCreate(t, s, smallCf); again != l {
		t.Fatal("a second Create gives another log")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// One of two directories cannot be read: the log may be there.
	o.FS, o.Dirs = faultyFirst{faulty, memory}, []string{"/data", "/other"}
	broken = true
	s = mustOpen(t, o)
	if _, err := s.Create(testTP, testID, smallCf); !errors.Is(err, ErrOffline) {
		t.Fatalf("an empty log is made beside one that cannot be seen: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Its partition.metadata is damaged.
	broken = false
	d := must(memory.Open("/data"))
	if err := disk.WriteAtomic(d, l.folder+"/"+partitionFile, []byte("version: 0\n")); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	if _, err := s.Create(testTP, testID, smallCf); !errors.Is(err, ErrOffline) {
		t.Fatalf("an empty log is made where there is a damaged one: %v", err)
	}
	if info, err := d.Stat(fileName(l.folder, 0, logSuffix)); err != nil || info.Size == 0 {
		t.Fatalf("the damaged log's data is gone: %v", err)
	}
	// A topic made again under the same name replaces the old one.
	other := topic.ID{7}
	l2 := must(s.Create(testTP, other, smallCf))
	l3 := must(s.Create(testTP, topic.ID{8}, smallCf))
	if s.Log(testTP) != l3 || len(s.Logs()) != 1 {
		t.Fatalf("%d logs, want the newest one only", len(s.Logs()))
	}
	if _, err := l2.Append(batch(1, 1), Append{Assign: true}); !errors.Is(err, ErrClosed) {
		t.Fatalf("an append to the replaced log gives %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDirectoryThatCannotBeOpened starts and ends a node with one directory of two, and refuses with none.
func TestDirectoryThatCannotBeOpened(t *testing.T) {
	block := t.TempDir() + "/file"
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(disk.Real{}, block, t.TempDir())
	failed := make(chan string, 2)
	o.DirFailed = func(dir string, err error) { failed <- dir }
	s := mustOpen(t, o)
	stop := run(t, s)
	if got := <-failed; got != block {
		t.Fatalf("DirFailed was told %q", got)
	}
	if dirs := s.Dirs(); dirs[0].Err == nil || dirs[1].Err != nil || dirs[1].Total == 0 {
		t.Fatalf("the directories are %+v", dirs)
	}
	if err := errors.Join(stop(), s.Close()); err != nil {
		t.Fatal(err)
	}
	o.Dirs = o.Dirs[:1]
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "all are offline") {
		t.Fatalf("a node without a directory: %v", err)
	}
}

// faultyFirst is one file system for /data and another one for all else.
type faultyFirst struct{ first, rest disk.FS }

func (f faultyFirst) Open(path string) (disk.Dir, error) {
	if path == "/data" {
		return f.first.Open(path)
	}
	return f.rest.Open(path)
}

func TestReserveOnARealDisk(t *testing.T) {
	d := must(disk.Real{}.Open(t.TempDir()))
	defer d.Close()
	r := must(openReserve(d, "x", 1<<20, slog.New(slog.DiscardHandler)))
	defer r.close()
	if !r.short.Load() {
		t.Fatal("a reserve that was never made is whole")
	}
	if err := r.fill(); err != nil || r.short.Load() {
		t.Fatalf("the reserve is not whole: %v", err)
	}
	if info := must(d.Stat(reserveFile)); info.Size != 1<<20 {
		t.Fatalf("the reserve has %d bytes", info.Size)
	}
	for n := 1; r.release(1); n++ {
		if !r.short.Load() || n > 16 {
			t.Fatalf("after %d steps the reserve is not given away", n)
		}
	}
	if info := must(d.Stat(reserveFile)); info.Size != 0 {
		t.Fatalf("an empty reserve has %d bytes", info.Size)
	}
	if _, err := d.Stat("../x"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a path escapes the directory: %v", err)
	}
}
