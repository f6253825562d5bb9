package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// safeWait is how long a message waits for the disk before it goes on all the
	// same: a disk that hangs must not silence alarms.
	safeWait = 5 * time.Second
	// journalRetry is the pause after a write that failed.
	journalRetry = 5 * time.Second
	// compactAt is the size from which a journal is written anew when most of
	// it is past.
	compactAt = 4 << 20
)

// journal is the file of one queue: one JSON record a line, each with its
// checksum before it. Records are appended in groups and flushed to the disk
// together. When a write fails, everything stays in memory and the whole state
// is written anew as soon as the disk takes it.
type journal struct {
	path  string
	log   *slog.Logger
	state func() []record // the records that make the present state

	wake chan struct{} // capacity 1
	mu   struct {
		sync.Mutex
		lines  bytes.Buffer    // not yet written
		wait   []chan struct{} // closed when what was appended is on the disk
		behind bool            // lines are not all that is missing: write anew
		failed uint64
		ill    bool // the last write failed, or somebody waited for it in vain
	}

	// The rest belongs to run.
	file *os.File
	size int64
	kept int64 // size after the last write anew
}

// record is one line. Exactly one of the fields is set.
type record struct {
	Head *head     `json:"head,omitempty"`
	Put  *message  `json:"put,omitempty"`
	Done *finished `json:"done,omitempty"`
	Dead *dead     `json:"dead,omitempty"`
	Wake string    `json:"wake,omitempty"` // key of a dead message that is tried again
}

// head is the first record: what the file is.
type head struct {
	Queue   string `json:"queue"`
	Version int    `json:"version"`
}

// finished is a key that was delivered.
type finished struct {
	Key  string    `json:"key"`
	At   time.Time `json:"at"`
	Note *note     `json:"note,omitempty"` // for the other nodes of a cluster
}

func newJournal(path string, log *slog.Logger, state func() []record) *journal {
	j := &journal{path: path, log: log, state: state, wake: make(chan struct{}, 1)}
	// Why: writing anew first cuts what a crash left and makes the file small.
	j.mu.behind = true
	return j
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeRecord(r *record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("BUG: queue record cannot be encoded: %v", err))
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(b, castagnoli), b)
}

// decodeRecords reads records up to the first one that is damaged: what follows
// a torn write was never reported as safe.
func decodeRecords(raw []byte, each func(*record)) (damaged bool) {
	for len(raw) > 0 {
		line, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if !whole || len(line) < 10 || line[8] != ' ' {
			return true
		}
		sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
		if err != nil || uint32(sum) != crc32.Checksum(line[9:], castagnoli) {
			return true
		}
		var r record
		if json.Unmarshal(line[9:], &r) != nil {
			return true
		}
		each(&r)
		raw = rest
	}
	return false
}

// load reads the file. A damaged end is cut by the first write.
func (j *journal) load(each func(*record)) error {
	raw, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read queue %q: %w", j.path, err)
	}
	if decodeRecords(raw, each) {
		j.log.Warn("queue file ends in a damaged record, which is cut", "file", j.path)
	}
	return nil
}

// append adds a record; the channel is closed when it is on the disk.
func (j *journal) append(r *record) <-chan struct{} {
	line := encodeRecord(r)
	j.mu.Lock()
	if !j.mu.behind { // else the state will be written as a whole
		j.mu.lines.Write(line)
	}
	done := make(chan struct{})
	j.mu.wait = append(j.mu.wait, done)
	j.mu.Unlock()
	poke(j.wake)
	return done
}

// await waits for what append gave, but not long, and not at all while the disk
// is known to refuse or hang: alarms come first.
func (j *journal) await(ctx context.Context, safe <-chan struct{}) {
	j.mu.Lock()
	ill := j.mu.ill
	j.mu.Unlock()
	if ill {
		return
	}
	timer := time.NewTimer(safeWait)
	defer timer.Stop()
	select {
	case <-safe:
	case <-ctx.Done():
	case <-timer.C:
		j.mu.Lock()
		defer j.mu.Unlock()
		j.mu.ill = true
	}
}

func (j *journal) failures() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.failed
}

func (j *journal) run(ctx context.Context) {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			j.flush()
			j.close()
			return
		case <-j.wake:
			if retry != nil {
				continue // the disk just refused; the timer decides
			}
		case <-retry:
		}
		retry = nil
		if err := j.flush(); err != nil {
			j.log.Warn("queue waits in memory", "file", j.path, "error", err)
			retry = time.After(journalRetry)
		}
	}
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // everything in it was flushed
		j.file = nil
	}
}

// flush writes what is missing and reports it as safe.
func (j *journal) flush() error {
	j.mu.Lock()
	lines := bytes.Clone(j.mu.lines.Bytes())
	waiting := j.mu.wait
	anew := j.mu.behind || j.file == nil || j.size > compactAt && j.size > 4*j.kept
	j.mu.lines.Reset()
	j.mu.wait = nil
	j.mu.behind = false // from here on records are collected again
	j.mu.Unlock()

	var err error
	if anew {
		err = j.rewrite()
	} else if len(lines) > 0 {
		err = j.extend(lines)
	}
	if err != nil {
		j.close()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.ill = err != nil
	if err == nil {
		for _, done := range waiting {
			close(done)
		}
		return nil
	}
	j.mu.failed++
	j.mu.behind = true
	j.mu.lines.Reset()
	j.mu.wait = append(waiting, j.mu.wait...)
	return err
}

func (j *journal) extend(lines []byte) error {
	if _, err := j.file.Write(lines); err != nil {
		return fmt.Errorf("cannot write queue %q: %w", j.path, err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("cannot flush queue %q: %w", j.path, err)
	}
	j.size += int64(len(lines))
	return nil
}

// rewrite replaces the file by one that holds the present state.
func (j *journal) rewrite() error {
	var b bytes.Buffer
	for _, r := range j.state() {
		b.Write(encodeRecord(&r))
	}
	j.close()
	tmp := j.path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write queue %q: %w", j.path, err)
	}
	_, err = file.Write(b.Bytes())
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		// Why: a temporary file must not hold the last bytes of a full disk.
		return errors.Join(fmt.Errorf("cannot write queue %q: %w", j.path, err), file.Close(), os.RemoveAll(tmp))
	}
	j.file, j.size, j.kept = file, int64(b.Len()), int64(b.Len())
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
