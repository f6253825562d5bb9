package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// maxPending bounds the events that wait for the disk: at one a second a
	// disk may be full for more than two hours before anything is dropped.
	maxPending = 10_000
	// retryEvery is the pause after a failed write.
	retryEvery = 5 * time.Second
	// minKeep is the promise of the product; a shorter Keep is refused.
	minKeep = 7 * 24 * time.Hour
	// maxLine bounds one line on reading; Record cuts what could exceed it.
	maxLine = 1 << 20
)

// Config says where the log is and how long it is kept.
type Config struct {
	Dir  string        // directory of its own; made when it is missing
	Keep time.Duration // age at which a day's file goes; default 30 days, at least 7
}

// Log is the event log of one node. Its methods may be called from everywhere.
type Log struct {
	dir  string
	keep time.Duration
	log  *slog.Logger
	wake chan struct{} // capacity 1: "there is something pending"

	mu struct {
		sync.Mutex
		pending []Event // oldest first
		dropped uint64
		failed  uint64
	}
	// file is the writer's own: only write and Close touch it, under io.
	io struct {
		sync.Mutex
		file *os.File
		day  string
	}
}

// Open prepares the directory; events are written by Run.
func Open(cfg Config, log *slog.Logger) (*Log, error) {
	if cfg.Keep == 0 {
		cfg.Keep = 30 * 24 * time.Hour
	}
	if cfg.Keep < minKeep {
		return nil, fmt.Errorf("cannot open audit log %q: keep %v is below the limit of %v", cfg.Dir, cfg.Keep, minKeep)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open audit log %q: %w", cfg.Dir, err)
	}
	return &Log{dir: cfg.Dir, keep: cfg.Keep, log: log, wake: make(chan struct{}, 1)}, nil
}

// Record takes an event. It never waits and never fails: what the disk does not
// take stays in memory and is tried again; past 10 000 waiting events the oldest
// goes and is counted by Dropped.
func (l *Log) Record(e Event) {
	if e.ID == "" {
		e.ID = rand.Text()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	if e.Level == "" {
		e.Level = Normal
	}
	e.Request, e.Response = cut(e.Request), cut(e.Response)
	l.mu.Lock()
	if len(l.mu.pending) >= maxPending {
		l.mu.pending = append(l.mu.pending[:0:0], l.mu.pending[1:]...)
		l.mu.dropped++
	}
	l.mu.pending = append(l.mu.pending, e)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Dropped counts events that were lost because the disk took nothing for too long.
func (l *Log) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.dropped
}

// Failed counts writes that failed; the events in them were tried again.
func (l *Log) Failed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.failed
}

// Run writes what Record takes and removes files past their age. It returns
// when ctx ends, after one last attempt to write what is waiting.
func (l *Log) Run(ctx context.Context) error {
	clean := time.NewTicker(time.Hour)
	defer clean.Stop()
	l.expire(time.Now())
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return l.Flush()
		case now := <-clean.C:
			l.expire(now)
			continue
		case <-l.wake:
			if retry != nil {
				continue // the disk just refused; the timer decides
			}
		case <-retry:
		}
		retry = nil
		if err := l.Flush(); err != nil {
			l.log.Warn("audit events wait in memory", "error", err)
			retry = time.After(retryEvery)
		}
	}
}

// Flush writes what is waiting and brings it to the disk.
// Blocks: on the disk. Errors: events stay pending.
func (l *Log) Flush() error {
	l.io.Lock()
	defer l.io.Unlock()
	l.mu.Lock()
	batch := append([]Event(nil), l.mu.pending...)
	dropped := l.mu.dropped
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	written, err := l.write(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	// Why: events that Record dropped meanwhile were the first of this batch.
	written -= int(l.mu.dropped - dropped)
	l.mu.pending = append([]Event(nil), l.mu.pending[max(written, 0):]...)
	if err != nil {
		l.mu.failed++
		return fmt.Errorf("cannot write audit log %q: %w", l.dir, err)
	}
	return nil
}

// Close closes the file; Run has to be over.
func (l *Log) Close() error {
	err := l.Flush()
	l.io.Lock()
	defer l.io.Unlock()
	return errors.Join(err, l.closeFile())
}

// write appends events to the files of their days and says how many are safe.
func (l *Log) write(batch []Event) (int, error) {
	done := 0
	for done < len(batch) {
		day := dayOf(batch[done].Time)
		end := done
		var lines []byte
		for end < len(batch) && dayOf(batch[end].Time) == day {
			lines = appendLine(lines, &batch[end])
			end++
		}
		if err := l.appendTo(day, lines); err != nil {
			// Why: after a failed write nobody knows where the file ends; the
			// next attempt opens it anew and cuts the tail that was not taken.
			return done, errors.Join(err, l.closeFile())
		}
		done = end
	}
	return done, nil
}

// appendLine encodes an event as people read it: > stays >.
func appendLine(lines []byte, e *Event) []byte {
	b := bytes.NewBuffer(lines)
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		panic(fmt.Sprintf("BUG: audit event cannot be encoded: %v", err))
	}
	return b.Bytes()
}

func (l *Log) appendTo(day string, lines []byte) error {
	if l.io.file == nil || l.io.day != day {
		if err := l.closeFile(); err != nil {
			return err
		}
		file, err := openDay(filepath.Join(l.dir, fileOf(day)))
		if err != nil {
			return err
		}
		l.io.file, l.io.day = file, day
	}
	start, err := l.io.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = l.io.file.Write(lines)
	if err == nil {
		err = l.io.file.Sync()
	}
	if err != nil {
		// Why: what is left of the batch would be there twice after the retry.
		return errors.Join(err, l.io.file.Truncate(start))
	}
	return nil
}

func (l *Log) closeFile() error {
	if l.io.file == nil {
		return nil
	}
	err := l.io.file.Close()
	l.io.file, l.io.day = nil, ""
	return err
}

// openDay opens a day's file for appending and cuts a torn last line.
func openDay(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := cutTorn(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func cutTorn(file *os.File) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	back := min(size, maxLine)
	tail := make([]byte, back)
	if _, err := file.ReadAt(tail, size-back); err != nil {
		return err
	}
	end := strings.LastIndexByte(string(tail), '\n')
	if end == len(tail)-1 {
		return nil
	}
	return file.Truncate(size - back + int64(end) + 1)
}

// expire removes the files of days that ended longer ago than Keep.
func (l *Log) expire(now time.Time) {
	days, err := l.days()
	if err != nil {
		l.log.Warn("cannot list audit files", "dir", l.dir, "error", err)
		return
	}
	for _, day := range days {
		start, err := time.Parse(time.DateOnly, day)
		if err != nil || now.Sub(start.AddDate(0, 0, 1)) <= l.keep {
			continue
		}
		if err := os.Remove(filepath.Join(l.dir, fileOf(day))); err != nil {
			l.log.Warn("cannot remove audit file", "day", day, "error", err)
		}
	}
}

func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }
func fileOf(day string) string { return "audit-" + day + ".jsonl" }
