package storage

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestNoSyncIsTriedAgain fails the sync of a segment once, with errors that elsewhere pass.
// The next sync of the same file would say that all is well, and what the kernel dropped
// would count as durable.
func TestNoSyncIsTriedAgain(t *testing.T) {
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM} {
		failing := false
		fs := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
			if failing && op.Kind == disk.SyncFile && strings.HasSuffix(op.Name, logSuffix) {
				failing = false
				return &disk.Fault{Err: failure}
			}
			return nil
		})
		s := mustOpen(t, options(fs))
		c := smallCf
		c.FlushMessages = 1
		l := mustCreate(t, s, c)
		mustAppend(t, l, batch(1, 1))
		failing = true
		if err := l.Flush(); !errors.Is(err, ErrOffline) {
			t.Fatalf("%v: the failed sync gives %v, want %v", failure, err, ErrOffline)
		}
		if err := l.Flush(); !errors.Is(err, ErrOffline) {
			t.Fatalf("%v: the sync after a failed one gives %v, want %v", failure, err, ErrOffline)
		}
		if l.Durable() != 0 {
			t.Fatalf("%v: %d records count as durable after a failed sync", failure, l.Durable())
		}
		_ = s.Close()
	}
}

// hooked is a disk that calls before ahead of operations on names, without any lock.
type hooked struct {
	disk.FS
	before *func(op, name string)
}

type hookedDir struct {
	disk.Dir
	before *func(op, name string)
}

func (h hooked) Open(path string) (disk.Dir, error) {
	d, err := h.FS.Open(path)
	return hookedDir{d, h.before}, err
}

func (d hookedDir) call(op, name string) {
	if f := *d.before; f != nil {
		f(op, name)
	}
}

func (d hookedDir) Sync(name string) error {
	d.call("sync", name)
	return d.Dir.Sync(name)
}

func (d hookedDir) Create(name string) (disk.File, error) {
	d.call("create", name)
	return d.Dir.Create(name)
}

func (d hookedDir) OpenFile(name string) (disk.File, error) {
	d.call("open", name)
	return d.Dir.OpenFile(name)
}

// TestDeletionMeetsWork deletes a log in the midst of other work on it. What that work
// then misses is no trouble of the disk: the directory, with all other logs, stays.
func TestDeletionMeetsWork(t *testing.T) {
	works := []struct {
		name, op, at string // the deletion comes before this operation on a name with at in it
		c            LogConfig
		work         func(s *Store, l *Log)
	}{
		{"flush", "sync", "", smallCf, func(_ *Store, l *Log) { _ = l.Flush() }},
		{"clean", "create", cleanedSuffix, compactCf, func(s *Store, _ *Log) { s.cleanAll(t.Context()) }},
		{"clean", "open", logSuffix, compactCf, func(s *Store, _ *Log) { s.cleanAll(t.Context()) }},
		{"roll", "create", logSuffix, smallCf, func(_ *Store, l *Log) {
			for range 50 {
				_, _ = l.Append(batch(3, 1), Append{Assign: true, Epoch: 1, Now: 1000})
			}
		}},
		{"scrub", "open", logSuffix, smallCf, func(s *Store, _ *Log) { s.scrubAll(t.Context()) }},
	}
	for _, w := range works {
		before := new(func(op, name string))
		s := mustOpen(t, options(hooked{disk.NewMemory(0), before}))
		l := mustCreate(t, s, w.c)
		for i := range 60 {
			mustAppend(t, l, keyed(record.None, fmt.Sprint(i%3), "v"))
		}
		if w.name != "flush" {
			settle(t, s, l)
		}
		for _, seg := range *l.view.Load() {
			if w.name != "roll" {
				seg.file.drop() // as if it had lain idle
			}
		}
		done := false
		*before = func(op, name string) {
			if op != w.op || !strings.Contains(name, w.at) {
				return
			}
			*before = nil
			gone := make(chan error)
			go func() { gone <- s.Delete(testTP, testID) }()
			// The deletion may have to wait for a lock that the work holds.
			select {
			case err := <-gone:
				if err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
			case <-time.After(50 * time.Millisecond):
				go func() { <-gone }()
			}
			done = true
		}
		w.work(s, l)
		if !done {
			t.Fatalf("%s: the deletion did not meet it", w.name)
		}
		if err := s.dirs[0].Err(); err != nil {
			t.Errorf("%s: the directory is offline: %v", w.name, err)
		}
		_ = s.Close()
	}
}

// TestFlushComesAgain lets the flush of a new segment fail for want of a descriptor.
// Nobody appends after that, and those who wait must not wait for somebody who does.
func TestFlushComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		fs := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
			if op.Kind == disk.SyncDir && failing.CompareAndSwap(true, false) {
				return &disk.Fault{Err: syscall.EMFILE}
			}
			return nil
		})
		s := mustOpen(t, options(fs))
		l := mustCreate(t, s, smallCf)
		stop := run(t, s)
		for len(*l.view.Load()) == 1 {
			synctest.Wait()
			failing.Store(true)
			mustAppend(t, l, batch(3, 1))
		}
		time.Sleep(5 * time.Second)
		if l.Durable() != l.End() {
			t.Fatalf("%d of %d records are durable 5 s after the last append", l.Durable(), l.End())
		}
		if err := errors.Join(stop(), s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
