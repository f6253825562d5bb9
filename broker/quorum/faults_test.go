package quorum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// churn makes changes that leave the image as it was but the log longer.
func (n *node) churn(times int) {
	n.t.Helper()
	res := metadata.Resource{Kind: metadata.BrokerResource}
	for i := range times {
		n.propose(&metadata.ConfigSet{Resource: res, Name: "x", Value: fmt.Sprint(i)})
	}
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// withSnapshots makes a directory with two snapshots and the log behind them.
// With short, the older one is gone and the log does not reach back to the start.
func withSnapshots(t *testing.T, short bool) (dir string, want *metadata.Image) {
	t.Helper()
	dir = t.TempDir()
	o := options(t, dir)
	if short {
		o.SnapshotEvery = 1 // the log keeps what the older snapshot needs
	}
	n := start(t, o)
	for i := range 5 {
		n.propose(created(i)...)
	}
	for range 2 {
		n.churn(10)
		if err := n.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	n.churn(5)
	want = n.Image()
	n.mustStop()
	if short {
		if err := os.Remove(snapshotFiles(t, dir)[1]); err != nil {
			t.Fatal(err)
		}
	}
	return dir, want
}

// snapshotFiles gives the snapshots in a directory, newest first.
func snapshotFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, snapshotsName, "*"+snapshotSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(files)-1; i < j; i, j = i+1, j-1 {
		files[i], files[j] = files[j], files[i]
	}
	return files
}

func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0x20
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRestartFromSnapshotAndShortenedLog(t *testing.T) {
	for _, short := range []bool{false, true} {
		dir, want := withSnapshots(t, short)
		if got := len(snapshotFiles(t, dir)); got != keepSnapshots && !short {
			t.Fatalf("%d snapshots", got)
		}
		n := start(t, options(t, dir))
		if d := metadata.Diff(want, n.Image()); !d.Empty() || n.Image().Index() != want.Index() {
			t.Errorf("short %v: after a restart %+v", short, d)
		}
		first, err := n.wal.FirstIndex()
		if err != nil || short != (first > 1) {
			t.Errorf("short %v: the log starts at %d, %v", short, first, err)
		}
		n.mustStop()
	}
}

// TestSnapshotAheadOfTheLog: a node that is killed after it took a snapshot from the
// leader and before it let go of its own log has a log that ends before the snapshot.
func TestSnapshotAheadOfTheLog(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	n.churn(10)
	n.mustStop()
	behind := copyDir(t, dir)
	n = start(t, options(t, dir))
	n.churn(10)
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	want := n.Image()
	n.mustStop()
	taken := snapshotFiles(t, dir)[0]
	if err := os.CopyFS(filepath.Join(behind, snapshotsName), os.DirFS(filepath.Dir(taken))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and once more, from what the first start left behind
		n = start(t, options(t, behind))
		if d := metadata.Diff(want, n.Image()); !d.Empty() {
			t.Fatalf("the snapshot holds %+v more", d)
		}
		n.churn(3)
		want = n.Image()
		n.mustStop()
	}
}

func TestDamagedSnapshotIsReplacedByTheOlderOneOrTheLog(t *testing.T) {
	dir, want := withSnapshots(t, false)
	for damaged := 1; damaged <= 2; damaged++ {
		dir := copyDir(t, dir)
		for _, file := range snapshotFiles(t, dir)[:damaged] {
			flip(t, file, -20)
		}
		n := start(t, options(t, dir))
		if d := metadata.Diff(want, n.Image()); !d.Empty() {
			t.Errorf("%d damaged: %+v", damaged, d)
		}
		n.mustStop()
		if got := len(snapshotFiles(t, dir)); got != keepSnapshots-damaged {
			t.Errorf("%d damaged: %d snapshots are left", damaged, got)
		}
		aside, err := filepath.Glob(filepath.Join(dir, snapshotsName, "*"+damagedSuffix))
		if err != nil || len(aside) != damaged {
			t.Errorf("%d damaged: set aside %v, %v", damaged, aside, err)
		}
	}
}

// TestDamagedSnapshotNeverDeletesTopics is R25, for every byte.
func TestDamagedSnapshotNeverDeletesTopics(t *testing.T) {
	dir, _ := withSnapshots(t, true)
	files := snapshotFiles(t, dir)
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		q, err := Open(options(t, dir))
		if err == nil {
			t.Fatalf("%s: opened", what)
		}
		if q != nil || !strings.Contains(err.Error(), files[0]) || !strings.Contains(err.Error(), "put the directory back from a backup") {
			t.Fatalf("%s: the error does not name file and remedy: %v", what, err)
		}
		if got := snapshotFiles(t, dir); len(got) != len(files) || got[0] != files[0] {
			t.Fatalf("%s: a refusal changed the snapshots to %v", what, got)
		}
	}
	for at := 0; at < len(good); at += 3 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x20
		if err := os.WriteFile(files[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(fmt.Sprintf("byte %d", at))
	}
	for _, size := range []int{0, 7, 60, len(good) - 1} {
		if err := os.WriteFile(files[0], good[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		refused(fmt.Sprintf("cut at %d", size))
	}
	if err := os.WriteFile(files[0], good, 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, options(t, dir)).mustStop()
}

func TestLostFilesAreRefused(t *testing.T) {
	dir, _ := withSnapshots(t, true)
	logs := func(dir string) []string {
		files, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
		if err != nil || len(files) == 0 {
			t.Fatalf("log files: %v, %v", files, err)
		}
		return files
	}
	for what, remove := range map[string]func(dir string) []string{
		"state":          func(dir string) []string { return []string{filepath.Join(dir, stateName)} },
		"snapshots":      func(dir string) []string { return snapshotFiles(t, dir) },
		"log":            logs,
		"log, snapshots": func(dir string) []string { return append(logs(dir), snapshotFiles(t, dir)...) },
	} {
		dir := copyDir(t, dir)
		for _, file := range remove(dir) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(options(t, dir)); err == nil || !strings.Contains(err.Error(), "put the directory back from a backup") {
			t.Errorf("without %s: %v", what, err)
		} else if !errors.Is(err, errDamaged) {
			t.Errorf("without %s: not called damage: %v", what, err)
		}
	}
}

// TestDamagedLogIsRefusedOrWhole flips single bytes in the log: a node either
// refuses to start or has everything.
func TestDamagedLogIsRefusedOrWhole(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	for i := range 6 {
		n.propose(created(i)...)
	}
	want := n.Image()
	n.mustStop()
	files, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("log files: %v, %v", files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(good, "\x00"))
	refused := 0
	for at := 0; at < used; at += 17 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x40
		if err := os.WriteFile(files[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		o := options(t, copyDir(t, dir))
		q, err := Open(o)
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), o.Dir) || !strings.Contains(err.Error(), "put the directory back from a backup") {
				t.Fatalf("byte %d: the error does not name directory and remedy: %v", at, err)
			}
			continue
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		n := start(t, o)
		if d := metadata.Diff(want, n.Image()); !d.Empty() {
			t.Fatalf("byte %d: started with %+v", at, d)
		}
		n.mustStop()
	}
	if refused < used/17/2 {
		t.Errorf("%d of %d damages were noticed", refused, used/17)
	}
}

// TestTornTailIsCut cuts the log in the middle of a write that was never
// acknowledged: the node starts with what was.
func TestTornTailIsCut(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	n.propose(created(1)...)
	before := copyDir(t, dir)
	want := n.Image()
	n.propose(created(2)...)
	after := copyDir(t, dir)
	n.mustStop()
	name := func(dir string) string {
		files, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
		if err != nil || len(files) != 1 {
			t.Fatalf("log files: %v, %v", files, err)
		}
		return files[0]
	}
	old, err := os.ReadFile(name(before))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name(after))
	if err != nil {
		t.Fatal(err)
	}
	from, to := len(bytes.TrimRight(old, "\x00")), len(bytes.TrimRight(whole, "\x00"))
	for at := from; at < to; at += 9 {
		torn := bytes.Clone(whole)
		clear(torn[at:])
		dir := copyDir(t, before)
		if err := os.WriteFile(name(dir), torn, 0o644); err != nil {
			t.Fatal(err)
		}
		n := start(t, options(t, dir))
		if d := metadata.Diff(want, n.Image()); !d.Empty() {
			t.Fatalf("torn at %d: %+v", at, d)
		}
		n.propose(created(2)...)
		n.mustStop()
	}
}

// TestDamageBeforeTheSnapshotIsCutOff: entries that a snapshot holds are not
// worth refusing to start, but nobody may read them any more.
func TestDamageBeforeTheSnapshotIsCutOff(t *testing.T) {
	dir, want := withSnapshots(t, false)
	files, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("log files: %v, %v", files, err)
	}
	flip(t, files[0], 400)
	n := start(t, options(t, dir))
	if d := metadata.Diff(want, n.Image()); !d.Empty() {
		t.Errorf("after the damage: %+v", d)
	}
	if first, err := n.wal.FirstIndex(); err != nil || first <= 1 {
		t.Errorf("the log starts at %d, %v", first, err)
	}
	n.mustStop()
	start(t, options(t, dir)).mustStop()
}

// failing is a segment whose writes or syncs fail when told to.
type failing struct {
	types.WritableFile
	write, sync *atomic.Pointer[error]
}

func (f *failing) WriteAt(b []byte, off int64) (int, error) {
	if err := f.write.Load(); err != nil {
		n, _ := f.WritableFile.WriteAt(b[:len(b)/2], off)
		return n, *err
	}
	return f.WritableFile.WriteAt(b, off)
}

func (f *failing) Sync() error {
	if err := f.sync.Load(); err != nil {
		return *err
	}
	return f.WritableFile.Sync()
}

// TestFailedDiskStopsChangesNotTheProcess: a write or fsync fails; Propose says
// so and names the disk, the image stays, a restart has all that was acknowledged.
func TestFailedDiskStopsChangesNotTheProcess(t *testing.T) {
	for name, sync := range map[string]bool{"write": false, "sync": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			start(t, options(t, dir)).mustStop() // makes the segment that is opened next
			var write, fsync atomic.Pointer[error]
			q, err := Open(options(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			q.files.mu.tail.WritableFile = &failing{q.files.mu.tail.WritableFile, &write, &fsync}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- q.Run(ctx) }()
			n := &node{Quorum: q, t: t}
			n.propose(created(1)...)
			want := q.Image()

			broken := error(&fs.PathError{Op: "write", Path: dir, Err: syscall.EIO})
			if sync {
				fsync.Store(&broken)
			} else {
				write.Store(&broken)
			}
			for i := range 2 {
				_, err := q.Propose(t.Context(), created(2+i))
				if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("Propose on a failed disk: %v", err)
				}
			}
			<-q.Failed()
			write.Store(nil)
			fsync.Store(nil)
			if _, err := q.Propose(t.Context(), created(5)); !errors.Is(err, ErrFailed) {
				t.Errorf("Propose after the disk came back: %v", err)
			}
			if q.Image() != want {
				t.Error("the image changed")
			}
			cancel()
			if err := <-done; !errors.Is(err, ErrFailed) {
				t.Errorf("Run: %v", err)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			again := start(t, options(t, dir))
			if again.Image().Topic("t1") == nil || again.Image().Topic("t5") != nil {
				t.Error("after a restart the acknowledged topic is lost or the refused one is there")
			}
			again.propose(created(7)...)
			again.mustStop()
		})
	}
}

// TestFailedStateFile: term and vote cannot be written; the library would panic.
func TestFailedStateFile(t *testing.T) {
	dir := t.TempDir()
	start(t, options(t, dir)).mustStop()
	q, err := Open(options(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	q.state.file = brokenFile{q.state.file}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	if err := q.WaitLeading(t.Context()); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), stateName) {
		t.Errorf("WaitLeading: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, ErrFailed) {
		t.Errorf("Run: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, options(t, dir)).mustStop()
}

type brokenFile struct{ fileAt }

func (brokenFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// TestFullDisk: no further segment can be made. Propose refuses before anything
// is written, and works again when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	var full atomic.Bool
	full.Store(true)
	n.files.mu.Lock()
	allocate := n.files.allocate
	n.files.allocate = func(name string, size int64) error {
		if full.Load() {
			return &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
		}
		return allocate(name, size)
	}
	n.files.mu.Unlock()

	value := strings.Repeat("x", 200<<10)
	change := func(i int) []metadata.Record {
		return []metadata.Record{&metadata.ConfigSet{Resource: metadata.Resource{Kind: metadata.BrokerResource}, Name: "x", Value: fmt.Sprint(i, value)}}
	}
	var refused error
	accepted := 0
	for ; refused == nil && accepted < 1000; accepted++ {
		_, refused = n.Propose(t.Context(), change(accepted))
	}
	if !errors.Is(refused, ErrDiskFull) || !errors.Is(refused, syscall.ENOSPC) || !strings.Contains(refused.Error(), dir) {
		t.Fatalf("on a full disk after %d changes: %v", accepted, refused)
	}
	if least := (segmentLimit / len(value)) * 3 / 2; accepted < least {
		t.Errorf("only %d changes fitted on the full disk, want %d", accepted, least)
	}
	killed := start(t, options(t, copyDir(t, dir)))
	if d := metadata.Diff(n.Image(), killed.Image()); !d.Empty() {
		t.Errorf("a node killed on a full disk comes back with %+v", d)
	}
	killed.mustStop()
	select {
	case <-n.Failed():
		t.Fatal("a full disk counts as failed")
	default:
	}
	full.Store(false)
	n.propose(change(accepted)...)
	n.churn(50)
	n.mustStop()
	start(t, options(t, dir)).mustStop()
}

// fullFile is a snapshot on a full disk.
type fullFile struct{ snapshotFile }

func (fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestSnapshotOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	n.propose(created(1)...)
	create := n.snaps.create
	n.snaps.create = func(path string) (snapshotFile, error) {
		file, err := create(path)
		return fullFile{file}, err
	}
	if err := n.Snapshot(); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Snapshot on a full disk: %v", err)
	}
	left, err := os.ReadDir(filepath.Join(dir, snapshotsName))
	if err != nil || len(left) != 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	n.propose(created(2)...)
	n.snaps.create = create
	if err := n.Snapshot(); err != nil || len(snapshotFiles(t, dir)) != 1 {
		t.Errorf("Snapshot when there is room again: %v", err)
	}
	n.mustStop()
	start(t, options(t, dir)).mustStop()
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), stateName)
	s, err := openState(path)
	if err != nil {
		t.Fatal(err)
	}
	segments := []types.SegmentInfo{
		{ID: 1, BaseIndex: 2, MinIndex: 3, MaxIndex: 4, Codec: 5, IndexStart: 6, CreateTime: time.Unix(7, 8), SealTime: time.Unix(9, 0), SizeLimit: 10},
		{ID: 11, BaseIndex: 12, CreateTime: time.Unix(13, 0)},
	}
	if err := errors.Join(s.SetStable([]byte("k"), []byte("v")), s.CommitState(types.PersistentState{NextSegmentID: 3, Segments: segments}), s.setMark(77), s.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		s, err := openState(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		v, _ := s.GetStable([]byte("k"))
		log, _ := s.Load("")
		if string(v) != "v" || log.NextSegmentID != 3 || len(log.Segments) != 2 || log.Segments[0] != segments[0] ||
			log.Segments[1] != segments[1] || s.marked() != 77 {
			t.Fatalf("%s: %q, %+v, mark %d", what, v, log, s.marked())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		healed, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(healed[stateHead:stateCopy], healed[stateCopy+stateHead:stateMark]) {
			t.Fatalf("%s: the copies differ afterwards, %v", what, err)
		}
	}
	check("whole")
	size := stateHead + 13 + 2*segmentSize + 4
	for at := 0; at < size; at += 7 {
		for _, base := range []int{0, stateCopy} {
			bad := bytes.Clone(good)
			bad[base+at] ^= 1
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			check(fmt.Sprintf("byte %d", base+at))
		}
	}
	for what, bad := range map[string][]byte{
		"both copies": append(append(append([]byte{}, make([]byte, 64)...), good[64:stateCopy]...), append(make([]byte, 64), good[stateCopy+64:]...)...),
		"mark":        append(append([]byte{}, good[:stateMark]...), make([]byte, 4096)...),
		"cut":         good[:stateCopy],
		"empty":       nil,
	} {
		if what == "mark" {
			bad[stateMark] = 1
		}
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := openState(path); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
