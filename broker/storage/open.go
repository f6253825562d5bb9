package storage

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// unknownConfig is what a log found on disk has until Create says its settings:
// nothing is deleted, and nothing counts as durable that is not on disk.
var unknownConfig = LogConfig{
	SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, IndexBytes: 10 << 20, IndexInterval: 4096,
	RetentionBytes: -1, RetentionAge: -1, DeleteDelay: time.Minute, FlushMessages: 1, Internal: true,
}

// Open reads, recovers and serves. Errors: meta.properties mismatch (R23), every directory offline, another process holds the lock.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.CleanEvery = cmp.Or(o.CleanEvery, defaultCleanEvery)
	o.ProducerExpiry = cmp.Or(o.ProducerExpiry, defaultProducerExpiry)
	s := &Store{o: o, news: make(chan struct{}, 1), clock: newRetentionClock(o.Now), blocked: map[string]*directory{}}
	s.env = &env{now: o.Now, logger: o.Logger, stats: o.Stats, kept: o.Kept, flushes: newFlushQueue(), trash: &s.trash, checkpoint: s.checkpoint}
	s.moves.wake, s.moves.mu.wishes = make(chan struct{}, 1), map[topic.Partition]*directory{}
	s.mu.aside = map[string][]aside{}
	s.mu.byKey, s.mu.byName, s.mu.coming = map[key]*Log{}, map[topic.Partition]*Log{}, map[topic.Partition]key{}
	if err := s.openAll(); err != nil {
		for _, d := range s.dirs {
			d.close()
		}
		return nil, err
	}
	return s, nil
}

func (s *Store) openAll() error {
	if len(s.o.Dirs) == 0 {
		return fmt.Errorf("cannot open log directories: none is configured")
	}
	for _, path := range s.o.Dirs {
		d := &directory{path: path, logger: s.o.Logger, failed: s.tell, reserve: &reserve{}}
		d.files.written, d.files.named = map[string][]byte{}, map[string]bool{}
		s.dirs = append(s.dirs, d)
		if err := s.lockDirectory(d); err != nil {
			return err
		}
	}
	if err := s.identify(); err != nil {
		return err
	}
	for _, d := range s.dirs {
		if d.Err() != nil {
			continue
		}
		if err := s.loadDirectory(d); err != nil {
			d.fail(err)
		}
	}
	var errs []error
	for _, d := range s.dirs {
		if err := d.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", d.path, err))
			s.lost = true
		}
	}
	if len(errs) == len(s.dirs) {
		return fmt.Errorf("cannot open log directories: all are offline: %w", errors.Join(errs...))
	}
	return nil
}

// tell wakes Run because a directory failed.
func (s *Store) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// lockDirectory opens a directory and takes its lock.
// Errors: somebody else has it; a failing disk takes the directory offline instead.
func (s *Store) lockDirectory(d *directory) error {
	var err error
	if d.disk, err = s.o.FS.Open(d.path); err != nil {
		d.fail(err)
		return nil
	}
	d.lock, err = d.disk.Lock(lockFile)
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("cannot open log directory %q: %w: stop the other broker, or give this one a directory of its own", d.path, err)
	}
	if err != nil {
		d.fail(err)
	}
	return nil
}

// identify compares the directories' meta.properties and writes those that are missing (R23).
func (s *Store) identify() error {
	s.cluster = s.o.ClusterID
	said := "the configuration"
	var blank []*directory
	for _, d := range s.dirs {
		if d.Err() != nil {
			continue
		}
		file := d.path + "/" + metaFile
		m, there, err := readMeta(d.disk)
		switch {
		case errors.As(err, new(errDamaged)):
			return fmt.Errorf("cannot read %q: %w: restore the file from a backup", file, err)
		case err != nil:
			d.fail(err)
			continue
		case !there:
			blank = append(blank, d)
			continue
		}
		if s.cluster == "" {
			s.cluster, said = m.cluster, file
		}
		if m.cluster != s.cluster {
			return fmt.Errorf("cannot use log directory %q: its file %q says cluster.id %q, %s says %q: start with the directories of this cluster, or empty the directory if its data is not needed", d.path, file, m.cluster, said, s.cluster)
		}
		if m.node != s.o.NodeID {
			return fmt.Errorf("cannot use log directory %q: its file %q says node.id %d, the configuration says %d: set node.id back, or give this node a directory of its own", d.path, file, m.node, s.o.NodeID)
		}
		d.uuid = m.directory
	}
	if s.cluster == "" {
		s.cluster = topic.NewID().String()
	}
	for _, d := range blank {
		if err := s.format(d); err != nil {
			return err
		}
	}
	return s.distinct()
}

// ClusterOf gives the cluster that log directories belong to; "" if none of them
// belongs to one. It changes nothing.
//
// Errors: a damaged meta.properties. A directory that cannot be read is Open's to judge.
func ClusterOf(fs disk.FS, dirs []string) (string, error) {
	for _, path := range dirs {
		d, err := fs.Open(path)
		if err != nil {
			continue
		}
		m, there, err := readMeta(d)
		if errors.As(err, new(errDamaged)) {
			return "", fmt.Errorf("cannot read %q: %w: restore the file from a backup", path+"/"+metaFile, err)
		}
		if closeErr := d.Close(); err == nil && closeErr == nil && there {
			return m.cluster, nil
		}
	}
	return "", nil
}

// format makes a directory ours that has no meta.properties.
// Errors: it has logs.
func (s *Store) format(d *directory) error {
	entries, err := d.disk.List(".")
	if err != nil {
		d.fail(err)
		return nil
	}
	for _, e := range entries {
		if _, _, ok := parseFolder(e.Name); ok && e.Dir {
			return fmt.Errorf("cannot use log directory %q: it holds logs (%q) but no %s: restore the file, or empty the directory if its data is not needed", d.path, e.Name, metaFile)
		}
	}
	d.uuid = topic.NewID()
	m := meta{cluster: s.cluster, node: s.o.NodeID, directory: d.uuid}
	if err := disk.WriteAtomic(d.disk, metaFile, m.encode()); err != nil {
		d.fail(err)
	}
	return nil
}

// distinct refuses two directories with one UUID: one is a copy of the other.
func (s *Store) distinct() error {
	seen := map[topic.ID]*directory{}
	for _, d := range s.dirs {
		if d.Err() != nil {
			continue
		}
		if other := seen[d.uuid]; other != nil {
			return fmt.Errorf("cannot use log directories %q and %q: both have directory.id %s in %s: one is a copy of the other, remove it from the configuration", other.path, d.path, d.uuid, metaFile)
		}
		seen[d.uuid] = d
	}
	return nil
}

// parseFolder reads what folderName made.
func parseFolder(name string) (id topic.ID, partition int32, ok bool) {
	const idText = 22
	if len(name) < idText+2 || name[idText] != '-' {
		return id, 0, false
	}
	id, err := topic.ParseID(name[:idText])
	if err != nil {
		return id, 0, false
	}
	n := int64(0)
	for _, c := range []byte(name[idText+1:]) {
		if c < '0' || c > '9' || n > 1<<31 {
			return id, 0, false
		}
		n = n*10 + int64(c-'0')
	}
	partition = int32(n)
	return id, partition, n < 1<<31 && folderName(id, partition) == name
}

// loadDirectory opens the reserve and all logs of a directory.
// Errors: trouble with the disk.
func (s *Store) loadDirectory(d *directory) error {
	var err error
	if d.reserve, err = openReserve(d.disk, d.path, s.o.Reserve, s.o.Logger); err != nil {
		d.reserve = &reserve{}
		return err
	}
	points, err := readCheckpoints(d, s.env)
	if err != nil {
		return err
	}
	entries, err := d.disk.List(".")
	if err != nil {
		return err
	}
	if _, err := d.disk.Stat(cleanFile); err == nil {
		points.clean = true
	}
	var folders []string
	for _, e := range entries {
		if (strings.Contains(e.Name, trashMark) || strings.Contains(e.Name, futureMark)) && e.Dir {
			if err := disk.RemoveAll(d.disk, e.Name); err != nil {
				return err
			}
		} else if _, _, ok := parseFolder(e.Name); ok && e.Dir {
			folders = append(folders, e.Name)
		} else if e.Dir {
			s.noteAside(d, e.Name)
		}
	}
	if err := s.loadLogs(d, folders, points); err != nil {
		return err
	}
	if err := d.remove(cleanFile); err != nil {
		return err
	}
	if err := d.disk.Sync("."); err != nil {
		return err
	}
	if err := d.reserve.fill(); err != nil {
		return err
	}
	if d.reserve.short.Load() {
		s.o.Logger.Warn("there is no space for the reserve: clients' messages are refused until there is", "dir", d.path, "bytes", s.o.Reserve)
	}
	return nil
}

// points is the content of a directory's checkpoints.
type points struct {
	recovery, start, high, cleaned map[string]record.Offset
	unknown                        bool // the recovery points' file is damaged or lost
	clean                          bool
}

func readCheckpoints(d *directory, env *env) (points, error) {
	var p points
	lost := false
	for _, f := range []struct {
		name string
		to   *map[string]record.Offset
	}{{recoveryFile, &p.recovery}, {startFile, &p.start}, {highFile, &p.high}, {cleanerFile, &p.cleaned}} {
		*f.to = map[string]record.Offset{}
		lines, there, err := readLines(d.disk, f.name)
		if errors.As(err, new(errDamaged)) {
			p.unknown = p.unknown || f.name == recoveryFile
			env.corruption("checkpoint")
			env.logger.Error("checkpoint is damaged and not used", "dir", d.path, "error", err)
			continue
		}
		if err != nil {
			return p, err
		}
		for _, l := range lines {
			(*f.to)[l.key] = l.offset
			d.files.named[l.key] = true
		}
		// Why: the recovery points are the first of the files that are written. Where others
		// are, they were there, and the gaps of compaction are no sign of lost writes.
		if f.name == recoveryFile {
			lost = !there
		} else if there && lost {
			lost, p.unknown = false, true
			env.corruption("checkpoint")
			env.logger.Error("the recovery points are gone, though the other checkpoints are there; every log is read as a whole", "dir", d.path, "file", recoveryFile)
		}
	}
	return p, nil
}

// loadLogs recovers the logs of a directory, several at a time.
func (s *Store) loadLogs(d *directory, folders []string, p points) error {
	inParallel(folders, func(folder string) {
		if d.Err() != nil {
			return
		}
		if err := s.loadLog(d, folder, p); err != nil {
			d.fail(fmt.Errorf("cannot open log folder %q: %w", folder, err))
		}
	})
	return d.Err()
}

// loadLog opens one log. Damage takes only the log offline.
// Errors: trouble with the disk.
func (s *Store) loadLog(d *directory, folder string, p points) error {
	b, err := disk.ReadFile(d.disk, folder+"/"+partitionFile)
	if disk.IsAbsent(err) {
		return s.loadNameless(d, folder)
	}
	if err != nil {
		return err
	}
	name, id, err := decodePartition(b)
	if want := folderName(id, name.Partition); err == nil && want != folder {
		err = fmt.Errorf("it names the log of folder %q", want)
	}
	if err != nil {
		s.env.corruption("partition.metadata")
		s.env.logger.Error("log folder is not used, its partition.metadata is damaged", "dir", d.path, "folder", folder, "error", err)
		s.block(d, folder)
		return nil
	}
	l := newLog(s.env, d, folder, name, id, unknownConfig)
	moved, err := readMoves(d.disk, folder)
	if errors.As(err, new(errDamaged)) {
		s.env.corruption("moves")
		s.env.logger.Error("how often a log was moved is not known", "partition", name.String(), "dir", d.path, "error", err)
	} else if err != nil {
		return err
	}
	l.moves.Store(moved)
	f := found{recovery: p.recovery[folder], start: p.start[folder], high: p.high[folder], cleaned: p.cleaned[folder], unknown: p.unknown, clean: p.clean}
	err = l.recover(f)
	if errors.Is(err, errDamage) {
		l.mu.point = f.recovery
		l.start.Store(int64(f.start))
		l.quarantine(err)
	} else if err != nil {
		return err
	} else {
		l.mu.point = min(f.recovery, l.End())
		if err := l.sealSegments(); err != nil {
			return err
		}
	}
	d.logs.Add(1)
	k := key{id, name.Partition}
	s.mu.Lock()
	other := s.mu.byKey[k]
	if other == nil {
		s.mu.byKey[k], s.mu.byName[name] = l, l
	}
	s.mu.Unlock()
	if other != nil {
		return s.loadTwin(other, l)
	}
	return nil
}

// loadTwin takes one of two logs that are the same.
// Errors: trouble with the disk of the second one.
func (s *Store) loadTwin(first, second *Log) error {
	loser := olderTwin(first, second)
	if loser == nil {
		s.env.logger.Error("two folders hold the same log; the second one is not used", "partition", first.name.String(), "dir", first.dir().path, "second", second.dir().path)
		loser = second
	}
	loser.close()
	loser.dir().logs.Add(-1)
	if loser == first {
		s.mu.Lock()
		s.mu.byKey[key{second.id, second.name.Partition}], s.mu.byName[second.name] = second, second
		s.mu.Unlock()
	}
	if first.moves.Load() == second.moves.Load() {
		return nil
	}
	err := s.discardFolder(loser.dir(), loser.folder, 0)
	if err != nil && loser == first {
		first.dir().fail(err)
		return nil
	}
	return err
}

// block keeps Create from putting an empty log where there is one that could not be opened.
func (s *Store) block(d *directory, folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[folder] = d
}

// loadNameless looks at a folder without partition.metadata: what a crash left of a
// log that was being created is removed, anything with data stays for a human.
func (s *Store) loadNameless(d *directory, folder string) error {
	entries, err := d.disk.List(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := d.disk.Stat(folder + "/" + e.Name)
		if err != nil {
			return err
		}
		if info.Size > 0 && strings.HasSuffix(e.Name, logSuffix) {
			s.env.corruption("partition.metadata")
			s.env.logger.Error("log folder is not used, it has data but no partition.metadata", "dir", d.path, "folder", folder)
			s.block(d, folder)
			return nil
		}
	}
	return disk.RemoveAll(d.disk, folder)
}
