package storage

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// key names a log for its whole life.
type key struct {
	id        topic.ID
	partition int32
}

// Store owns all log directories of the node.
type Store struct {
	o       Options
	env     *env
	cluster string
	dirs    []*directory
	blocked map[string]*directory // folders that could not be opened as logs, and where they are; after Open with making held for writing
	lost    bool                  // a directory could not be opened: which logs it holds is not known
	news    chan struct{}         // capacity 1: a directory failed
	trash   trash
	moves   moves
	clock   *retentionClock

	mu struct {
		sync.RWMutex
		byKey  map[key]*Log
		byName map[topic.Partition]*Log
		coming map[topic.Partition]key // logs that are being made, to come in beside each other
		aside  map[string][]aside      // damaged copies that are kept, by their log's folder, the oldest first
		closed bool
	}
	// making is held over the I/O of making and deleting logs, which nothing on the data path
	// waits for: for reading by those who make a log that nothing is in the way of, for
	// writing by all others.
	making sync.RWMutex
}

// ClusterID gives the cluster's ID, made by Open if there was none.
func (s *Store) ClusterID() string { return s.cluster }

// Log gives a partition's log, nil if it has none here.
func (s *Store) Log(p topic.Partition) *Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.byName[p]
}

// Logs gives all logs, those of offline directories too, in no order.
func (s *Store) Logs() []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*Log, 0, len(s.mu.byKey))
	for _, l := range s.mu.byKey {
		all = append(all, l)
	}
	return all
}

// Create makes the log or gives the one that is there with the same topic ID; a log of another ID under that name is deleted first. Lands in the online directory with the fewest logs.
//
// Errors: ErrOffline if no directory is online, if one could not be opened and may
// hold the log, or, with ErrNameless, if the log's folder is there and damaged; ErrFull; ErrClosed.
func (s *Store) Create(p topic.Partition, id topic.ID, c LogConfig) (*Log, error) {
	if l, err, done := s.createBeside(p, id, c); done {
		return l, err
	}
	s.making.Lock()
	defer s.making.Unlock()
	k := key{id, p.Partition}
	s.mu.RLock()
	there, named, closed := s.mu.byKey[k], s.mu.byName[p], s.mu.closed
	s.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if named != nil && named != there {
		if err := s.deleteMaking(named); err != nil {
			return nil, err
		}
	}
	if there != nil {
		there.Reconfigure(c)
		s.mu.Lock()
		s.mu.byName[p] = there
		s.mu.Unlock()
		return there, nil
	}
	return s.make(p, k, c)
}

// createBeside makes a log that nothing is in the way of, beside others that are made. done
// is false if something is.
func (s *Store) createBeside(p topic.Partition, id topic.ID, c LogConfig) (l *Log, err error, done bool) {
	s.making.RLock()
	defer s.making.RUnlock()
	k := key{id, p.Partition}
	s.mu.Lock()
	free := !s.mu.closed && s.mu.byKey[k] == nil && s.mu.byName[p] == nil
	for name, other := range s.mu.coming {
		free = free && name != p && other != k
	}
	if free {
		s.mu.coming[p] = k
	}
	s.mu.Unlock()
	if !free {
		return nil, nil, false
	}
	defer func() {
		s.mu.Lock()
		delete(s.mu.coming, p)
		s.mu.Unlock()
	}()
	l, err = s.make(p, k, c)
	return l, err, true
}

// make makes a new log. Requires: making, and nobody else makes the same.
func (s *Store) make(p topic.Partition, k key, c LogConfig) (*Log, error) {
	if s.lost {
		return nil, fmt.Errorf("cannot create log %q: a log directory that may hold it was not opened: %w", p, ErrOffline)
	}
	if s.blocked[folderName(k.id, p.Partition)] != nil {
		return nil, fmt.Errorf("cannot create log %q: its folder is there but damaged, see the log of the start: %w: %w", p, ErrOffline, ErrNameless)
	}
	d := s.wished(p)
	if d == nil {
		return nil, fmt.Errorf("cannot create log %q: %w", p, ErrOffline)
	}
	l := newLog(s.env, d, folderName(k.id, p.Partition), p, k.id, c)
	err := s.freshLines(d, l.folder)
	if err == nil {
		err = l.create()
	}
	if err != nil {
		d.logs.Add(-1)
		return nil, l.trouble("create", err)
	}
	s.mu.Lock()
	s.mu.byKey[k], s.mu.byName[p] = l, l
	s.mu.Unlock()
	return l, nil
}

// wished gives the directory that was asked for, if it is online, else the emptiest.
func (s *Store) wished(p topic.Partition) *directory {
	if d := s.moves.granted(p); d != nil && d.Err() == nil {
		d.logs.Add(1)
		return d
	}
	return s.emptiest()
}

// emptiest gives the online directory with the fewest logs, with one more counted; nil
// without one.
func (s *Store) emptiest() *directory {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *directory
	for _, d := range s.dirs {
		if d.Err() == nil && (best == nil || d.logs.Load() < best.logs.Load()) {
			best = d
		}
	}
	if best != nil {
		best.logs.Add(1)
	}
	return best
}

// create makes the log's folder with all that an empty log has, durably.
func (l *Log) create() error {
	d := l.dir().disk
	steps := func() error {
		if err := disk.RemoveAll(d, l.folder); err != nil {
			return err
		}
		if err := d.Mkdir(l.folder); err != nil {
			return err
		}
		s := newSegment(d, l.folder, 0)
		if err := s.create(); err != nil {
			return err
		}
		if err := l.writeAtomic(partitionFile, encodePartition(l.name, l.id)); err != nil {
			s.drop()
			return err
		}
		s.named.Store(true) // writeAtomic has synced the folder
		l.startSegment(s)
		l.setView([]*segment{s})
		return d.Sync(".")
	}
	var err error
	if l.conf.Load().Internal {
		err = l.dir().must(4*4096, steps)
	} else {
		err = steps()
	}
	if disk.IsFull(err) {
		// Why: what is half made would take the last blocks. If this fails too, it is the directory that failed.
		if rerr := disk.RemoveAll(d, l.folder); rerr != nil {
			return rerr
		}
	}
	return err
}

// Delete removes the partition's log if it is the one of that topic ID; none is fine.
func (s *Store) Delete(p topic.Partition, id topic.ID) error {
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.RLock()
	l, closed := s.mu.byKey[key{id, p.Partition}], s.mu.closed
	s.mu.RUnlock()
	switch {
	case closed:
		return ErrClosed
	case l == nil:
		s.dropAsides(folderName(id, p.Partition))
		return nil
	}
	return s.deleteMaking(l)
}

// deleteMaking takes a log out of the store and its folder out of the way; the bytes
// go after the delete delay. Requires: making.
func (s *Store) deleteMaking(l *Log) error {
	if err := s.bury(l); err != nil {
		return err
	}
	l.wake()
	return nil
}

// bury is deleteMaking without telling the log's watcher.
func (s *Store) bury(l *Log) error {
	l.chores.Lock()
	defer l.chores.Unlock()
	size := l.Size()
	l.leaving.Store(true) // before the first name changes
	l.cancelMove()
	if l.dir().Err() == nil {
		if err := s.discardFolder(l.dir(), l.folder, l.conf.Load().DeleteDelay); err != nil {
			l.leaving.Store(false)
			return l.trouble("delete", err)
		}
	}
	s.mu.Lock()
	delete(s.mu.byKey, key{l.id, l.name.Partition})
	if s.mu.byName[l.name] == l {
		delete(s.mu.byName, l.name)
	}
	s.mu.Unlock()
	s.dropAsides(l.folder)
	l.dir().logs.Add(-1)
	l.markGone()
	l.close()
	s.env.deleted("topic", size)
	return nil
}

// discardFolder takes a log's folder out of the way, durably; the bytes go after the delay.
func (s *Store) discardFolder(d *directory, folder string, delay time.Duration) error {
	gone := folder + trashMark + randomMark()
	err := d.disk.Rename(folder, gone)
	if disk.IsFull(err) { // a longer name may need a block
		err = disk.RemoveAll(d.disk, folder)
	}
	if err == nil {
		err = d.disk.Sync(".")
	}
	if err != nil && !disk.IsAbsent(err) {
		return err
	}
	s.trash.add(d, gone, s.env.now().Add(delay))
	return nil
}

// markGone tells readers that the files are away.
func (l *Log) markGone() {
	for _, s := range *l.view.Load() {
		s.gone.Store(true)
	}
}

// FailedDirs gives the paths of the log directories that are offline.
func (s *Store) FailedDirs() (paths []string) {
	for _, d := range s.dirs {
		if d.Err() != nil {
			paths = append(paths, d.path)
		}
	}
	return paths
}

// Dirs gives the state of the log directories, in the order of the options. It looks at every log.
func (s *Store) Dirs() []Dir {
	sizes := map[*directory]int64{}
	for _, l := range s.Logs() {
		sizes[l.dir()] += l.Size()
	}
	out := make([]Dir, len(s.dirs))
	for i, d := range s.dirs {
		out[i] = Dir{Path: d.path, UUID: d.uuid, Err: d.Err(), Size: sizes[d]}
		if out[i].Err == nil {
			var err error
			if out[i].Total, out[i].Free, err = d.disk.Usage(); err != nil {
				out[i].Err = err
			}
		}
	}
	return out
}

// Close flushes everything and writes the clean-shutdown file (never after an I/O error).
// Requires: Run has returned, or was never called.
func (s *Store) Close() error {
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.mu.Unlock()
	var errs []error
	byDir := map[*directory][]*Log{}
	for _, l := range s.Logs() {
		byDir[l.dir()] = append(byDir[l.dir()], l)
	}
	for _, d := range s.dirs {
		if err := s.closeDirectory(d, byDir[d]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// closeDirectory brings a directory's logs to disk; only if all of it worked they need no recovery.
func (s *Store) closeDirectory(d *directory, logs []*Log) error {
	defer d.close()
	var failed errorOnce
	inParallel(logs, func(l *Log) {
		if l.damage.Load() != nil {
			failed.set(ErrFull) // not worth an error, but the next start has to look again
		} else if d.Err() == nil {
			failed.set(l.shut())
		}
	})
	clean := d.Err() == nil && failed.err == nil
	first := failed.err
	if isFull(first) {
		first = nil
	}
	if d.Err() == nil {
		if err := s.checkpoint(d, false); err != nil && !isFull(err) {
			clean, first = false, errors.Join(first, err)
		} else if err != nil {
			clean = false
		}
	}
	for _, l := range logs {
		l.close()
	}
	if !clean || d.Err() != nil {
		return first
	}
	err := disk.WriteAtomic(d.disk, cleanFile, seal([]byte("version: 0\n")))
	if err != nil && !disk.IsFull(err) {
		return d.trouble(err)
	}
	return nil
}

// errorOnce keeps the first error, one that is no refusal before one that is.
type errorOnce struct {
	mu  sync.Mutex
	err error
}

func (e *errorOnce) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && (e.err == nil || isFull(e.err)) {
		e.err = err
	}
}

// parallel is how many logs are opened or closed at a time. Why more than cores: they
// wait for the disk, whose journal commits what several wait for at once.
const parallel = 8

// inParallel calls f with each item, several at a time, and waits.
func inParallel[T any](items []T, f func(T)) {
	next := make(chan T)
	var wait sync.WaitGroup
	for range min(len(items), parallel) {
		wait.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for _, i := range items {
		next <- i
	}
	close(next)
	wait.Wait()
}

// shut brings everything of one log to disk, for the last time.
func (l *Log) shut() error {
	l.mu.Lock()
	l.mu.draining = true
	changed := l.mu.changed || l.mu.epochNews || len(l.mu.snapshots) > 0 || l.recoveryPointLocked() != l.End()
	l.mu.Unlock()
	if !changed {
		return nil
	}
	if err := l.flush(); err != nil {
		return err
	}
	l.chores.Lock()
	defer l.chores.Unlock()
	l.mu.Lock()
	l.active().noteTime()
	l.mu.snapshots = append(l.mu.snapshots, pendingSnapshot{l.End(), l.mu.producers.encode(l.undecided.list())})
	l.mu.Unlock()
	if err := l.saveEpochsChore(); err != nil {
		return err
	}
	if err := l.sealChore(); err != nil {
		return err
	}
	s := l.active()
	if err := s.trim(); err != nil {
		return l.trouble("close", err)
	}
	for _, x := range []*index{&s.index, &s.times} {
		if err := x.save(true); err != nil {
			return l.trouble("close", err)
		}
	}
	if err := s.saveAborts(true); err != nil {
		return l.trouble("close", err)
	}
	if err := l.dir().disk.Sync(l.folder); err != nil {
		return l.trouble("close", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.snapshots) > 0 || l.mu.epochNews || l.recoveryPointLocked() != l.End() {
		return fmt.Errorf("cannot close log %q: %w", l.name, ErrFull)
	}
	return nil
}
