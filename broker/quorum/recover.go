package quorum

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// remedy ends every refusal to start.
const remedy = "nothing was changed; put the directory back from a backup or, in a cluster, take this node's vote with `belfry cluster voters remove`, empty the directory and start with a token of `belfry cluster join-token`"

// found is what Open finds on disk. It is complete and checked: raft reads
// nothing afterwards that found did not.
type found struct {
	snapshot      *raft.SnapshotMeta // nil: none
	image         *metadata.Image    // the snapshot's, or the empty one
	first, last   uint64             // of the log, 0 = empty
	configuration raft.Configuration // the last one, perhaps empty
	clusterID     string
}

// snapshotIndex is 0 without a snapshot.
func (f *found) snapshotIndex() uint64 {
	if f.snapshot == nil {
		return 0
	}
	return f.snapshot.Index
}

// checkNew refuses a directory that lost its state file: raft-wal would take the
// log for left-overs and delete it.
func checkNew(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, stateName)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, pattern := range []string{"log/*.wal", "snapshots/*" + snapshotSuffix + "*"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			return errors.Join(err, fmt.Errorf("cannot open metadata in %q: %w: there are %q but the file %q is missing; %s",
				dir, errDamaged, left, stateName, remedy))
		}
	}
	return nil
}

// inspect reads and checks everything that is on disk.
func inspect(dir string, snaps *snapshots, log *wal.WAL, st *state) (*found, error) {
	f := &found{image: metadata.Empty()}
	var err error
	if f.first, err = log.FirstIndex(); err == nil {
		f.last, err = log.LastIndex()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the metadata log in %q: %w", dir, err)
	}
	if err := f.chooseSnapshot(snaps); err != nil {
		return nil, err
	}
	at := f.snapshotIndex()
	if reach := max(f.last, at); reach < st.marked() {
		return nil, fmt.Errorf("cannot open the metadata log in %q: %w: it ends at entry %d, but entry %d was written; %s",
			dir, errDamaged, reach, st.marked(), remedy)
	}
	if f.last > at && f.first > at+1 {
		return nil, fmt.Errorf("cannot open the metadata log in %q: %w: it starts at entry %d, but the newest snapshot ends at %d; %s",
			dir, errDamaged, f.first, at, remedy)
	}
	if err := f.verify(dir, snaps, log, st); err != nil {
		return nil, err
	}
	if err := f.letGo(dir, snaps, log); err != nil {
		return nil, err
	}
	if err := f.scanLog(dir, log); err != nil {
		return nil, err
	}
	return f, nil
}

// letGo empties a log that ends before the snapshot: the node was killed after it had taken the snapshot from
// the leader and before the log went. What comes next follows the snapshot, and the log takes no gap.
func (f *found) letGo(dir string, snaps *snapshots, log *wal.WAL) error {
	if f.last == 0 || f.last >= f.snapshotIndex() {
		return nil
	}
	snaps.logger.Info("let go of a metadata log that ends before the snapshot", "dir", dir, "last", f.last, "snapshot", f.snapshotIndex())
	if err := log.DeleteRange(f.first, f.last); err != nil {
		return fmt.Errorf("cannot let go of a metadata log in %q that ends before the snapshot: %w", dir, err)
	}
	f.first, f.last = 0, 0
	return nil
}

// verify refuses a damaged log. Damage before the snapshot is cut off: this node
// does not need those entries, and must not send them to others.
func (f *found) verify(dir string, snaps *snapshots, log *wal.WAL, st *state) error {
	held, err := st.Load("")
	if err != nil {
		return err
	}
	bad, err := verifyLog(filepath.Join(dir, logName), held.Segments, f.last)
	switch {
	case err != nil || bad == 0:
		return err
	case bad > f.snapshotIndex():
		return fmt.Errorf("cannot open the metadata log in %q: %w: the CRC of entry %d or one before it does not match; %s",
			filepath.Join(dir, logName), errDamaged, bad, remedy)
	}
	snaps.logger.Warn("cut damaged entries off the metadata log; a snapshot holds what they held", "dir", dir, "first", f.first, "last", bad)
	if err := log.DeleteRange(f.first, bad); err != nil {
		return fmt.Errorf("cannot cut damaged entries off the metadata log in %q: %w", dir, err)
	}
	if f.first = bad + 1; bad >= f.last {
		f.first, f.last = 0, 0
	}
	return nil
}

// chooseSnapshot takes the newest snapshot. A damaged one is set aside only if an
// older one, or the log alone, holds everything that it held (R25).
func (f *found) chooseSnapshot(snaps *snapshots) error {
	ids, err := snaps.names()
	if err != nil {
		return err
	}
	var damaged []string
	var cause error
	for _, id := range ids {
		meta, img, err := snaps.image(id)
		if err == nil {
			f.snapshot, f.image = meta, img
			f.configuration, f.clusterID = meta.Configuration, img.ClusterID()
			break
		}
		if errors.Is(err, metadata.ErrUnknown) {
			return fmt.Errorf("%w; %s", err, remedy)
		}
		damaged, cause = append(damaged, id), errors.Join(cause, err)
	}
	if len(damaged) == 0 {
		return nil
	}
	if at := f.snapshotIndex(); f.last <= at || f.first > at+1 {
		return fmt.Errorf("%w\nno older snapshot can stand in: the log holds entries %d to %d, the newest snapshot that can be read ends at %d; %s",
			cause, f.first, f.last, at, remedy)
	}
	for _, id := range damaged {
		if index, _, err := parseID(id); err != nil || index > f.last {
			return fmt.Errorf("%w\nthe log ends at entry %d, before that snapshot; %s", cause, f.last, remedy)
		}
	}
	for _, id := range damaged {
		if err := snaps.setAside(id); err != nil {
			return err
		}
		snaps.logger.Warn("set a damaged metadata snapshot aside; the log holds what it held",
			"file", snaps.path(id)+damagedSuffix, "err", cause)
	}
	return nil
}

// scanLog reads every entry after the snapshot as the state machine will.
func (f *found) scanLog(dir string, log *wal.WAL) error {
	var term uint64
	if f.snapshot != nil {
		term = f.snapshot.Term
	}
	for index := max(f.snapshotIndex()+1, f.first); index <= f.last && f.last > 0; index++ {
		var entry raft.Log
		err := log.GetLog(index, &entry)
		switch {
		case err != nil:
		case entry.Index != index || entry.Term < term:
			err = fmt.Errorf("%w: it says index %d, term %d, after term %d", errDamaged, entry.Index, entry.Term, term)
		default:
			err = f.scanEntry(&entry)
		}
		if err != nil {
			return fmt.Errorf("cannot read entry %d of the metadata log in %q: %w; %s", index, filepath.Join(dir, logName), err, remedy)
		}
		term = entry.Term
	}
	return nil
}

func (f *found) scanEntry(entry *raft.Log) error {
	switch entry.Type {
	case raft.LogCommand:
		records, err := metadata.DecodeBatch(entry.Data)
		if err != nil {
			return err
		}
		for _, r := range records {
			if named, ok := r.(*metadata.ClusterNamed); ok && f.clusterID == "" {
				f.clusterID = named.ID
			}
		}
	case raft.LogConfiguration:
		c, err := decodeConfiguration(entry.Data)
		if err != nil {
			return err
		}
		f.configuration = c
	case raft.LogNoop, raft.LogBarrier:
	default:
		return fmt.Errorf("%w: entry type %d is not one that we write", errDamaged, entry.Type)
	}
	return nil
}

// checkIdentity refuses somebody else's directory (R23).
func (f *found) checkIdentity(o *Options, ident member) error {
	if f.clusterID != "" && o.ClusterID != "" && f.clusterID != o.ClusterID {
		return fmt.Errorf("cannot open metadata in %q: it belongs to cluster %q, not %q; set the cluster ID back or use another data directory",
			o.Dir, f.clusterID, o.ClusterID)
	}
	switch {
	case ident.incarnation == "":
	case ident.node != o.Node:
		return fmt.Errorf("cannot open metadata in %q: it belongs to node %d, not to node %d; set the node ID back or use another data directory",
			o.Dir, ident.node, o.Node)
	case ident.cluster != "" && o.ClusterID != "" && ident.cluster != o.ClusterID:
		return fmt.Errorf("cannot open metadata in %q: it belongs to cluster %q, not %q; set the cluster ID back or use another data directory",
			o.Dir, ident.cluster, o.ClusterID)
	case f.last > 0 && f.first > 0 && ident.cluster == "":
		return fmt.Errorf("cannot open metadata in %q: %w: there is a log, but the file %q names no cluster; %s", o.Dir, errDamaged, memberName, remedy)
	default:
		return nil // Why not more: the log of a node that joined names it only after a while
	}
	if len(f.configuration.Servers) == 0 {
		return nil
	}
	var ids []string
	for _, s := range f.configuration.Servers {
		switch {
		case s.ID == serverID(o.Node):
			return nil
		case nodeOf(s.ID) == o.Node:
			return fmt.Errorf("cannot open metadata in %q: %w: the file %q is missing; %s", o.Dir, errDamaged, memberName, remedy)
		}
		ids = append(ids, fmt.Sprint(nodeOf(s.ID)))
	}
	return fmt.Errorf("cannot open metadata in %q: it belongs to node %s, not to node %d; set the node ID back or use another data directory",
		o.Dir, strings.Join(ids, ", "), o.Node)
}

// bootstrap writes the first entry of a new cluster: who votes. Why by hand: a
// crash between the library's two writes leaves a directory that it refuses.
func (f *found) bootstrap(o *Options, s *store, first raft.Configuration) error {
	if f.last > 0 || f.snapshot != nil {
		return nil
	}
	term, err := s.GetUint64([]byte("CurrentTerm")) // Source: hashicorp/raft, its key of the stable store
	if err != nil {
		return fmt.Errorf("cannot read metadata state in %q: %w", o.Dir, err)
	}
	if term > 1 {
		return fmt.Errorf("cannot open metadata in %q: %w: it voted in term %d, but its log is empty; %s", o.Dir, errDamaged, term, remedy)
	}
	f.configuration = first
	entry := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(first)}
	err = s.wal.SetUint64([]byte("CurrentTerm"), 1)
	if err == nil {
		err = s.StoreLog(entry)
	}
	if err != nil {
		return fmt.Errorf("cannot start a new cluster in %q: %w", o.Dir, err)
	}
	f.first, f.last = 1, 1
	return nil
}
