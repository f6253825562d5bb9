package storage

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// trashMark is in the name of a log's folder that is to be removed. No folder of a log has a dot.
const trashMark = ".delete-"

// randomMark gives a suffix that no other deletion of the same log has.
func randomMark() string {
	var b [4]byte
	// Why: crypto/rand never fails on the systems that Go runs on.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// trash holds files and folders that were renamed and are removed when they are due.
// Its length is bounded by what there was to delete.
type trash struct {
	mu struct {
		sync.Mutex
		items []trashed
	}
}

type trashed struct {
	dir  *directory
	name string
	due  time.Time
}

func (t *trash) add(d *directory, name string, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.items = append(t.mu.items, trashed{d, name, due})
}

// take gives what is due and forgets it.
func (t *trash) take(now time.Time) []trashed {
	t.mu.Lock()
	defer t.mu.Unlock()
	var due []trashed
	rest := t.mu.items[:0]
	for _, i := range t.mu.items {
		if i.due.After(now) {
			rest = append(rest, i)
		} else {
			due = append(due, i)
		}
	}
	clear(t.mu.items[len(rest):])
	t.mu.items = rest
	return due
}

// empty removes what is due. A crash before that leaves it to the next start.
func (t *trash) empty(now time.Time) {
	for _, i := range t.take(now) {
		if i.dir.Err() != nil {
			continue
		}
		if err := disk.RemoveAll(i.dir.disk, i.name); err != nil && !disk.IsAbsent(err) {
			_ = i.dir.trouble(err)
		}
	}
}
