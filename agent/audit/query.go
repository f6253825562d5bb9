package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Query gives the events that a filter takes, newest first.
// Blocks: on the disk.
func (l *Log) Query(f Filter) ([]Event, error) {
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	l.io.Lock() // no batch is half written, none is both pending and on the disk
	defer l.io.Unlock()
	l.mu.Lock()
	found := keepMatching(append([]Event(nil), l.mu.pending...), f)
	l.mu.Unlock()
	days, err := l.days()
	if err != nil {
		return nil, fmt.Errorf("cannot query audit log %q: %w", l.dir, err)
	}
	for i := len(days) - 1; i >= 0 && len(found) < f.Limit; i-- {
		if outside(days[i], f) {
			continue
		}
		events, err := readDay(filepath.Join(l.dir, fileOf(days[i])), f)
		if err != nil {
			return nil, fmt.Errorf("cannot query audit log %q: %w", l.dir, err)
		}
		found = append(found, events...)
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].Time.After(found[j].Time) })
	return found[:min(len(found), f.Limit)], nil
}

func keepMatching(events []Event, f Filter) []Event {
	kept := events[:0]
	for i := range events {
		if f.matches(&events[i]) {
			kept = append(kept, events[i])
		}
	}
	return kept
}

// readDay gives the newest Limit matching events of one file. A line that is
// not an event is passed over: one damaged line must not hide a day.
func readDay(path string, f Filter) ([]Event, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it expired between listing and opening
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found []Event
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e Event
		if json.Unmarshal(lines.Bytes(), &e) != nil || !f.matches(&e) {
			continue
		}
		found = append(found, e)
		if len(found) >= 2*f.Limit {
			found = append(found[:0], found[len(found)-f.Limit:]...)
		}
	}
	return found, lines.Err()
}

func (l *Log) days() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(l.dir, "audit-*.jsonl"))
	if err != nil {
		return nil, err
	}
	days := make([]string, 0, len(names))
	for _, name := range names {
		day := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "audit-"), ".jsonl")
		if _, err := time.Parse(time.DateOnly, day); err == nil {
			days = append(days, day)
		}
	}
	sort.Strings(days)
	return days, nil
}

func outside(day string, f Filter) bool {
	start, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return true
	}
	return !f.To.IsZero() && !start.Before(f.To) || !f.From.IsZero() && !start.AddDate(0, 0, 1).After(f.From)
}
