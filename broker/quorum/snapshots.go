package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// A snapshot is one file, little-endian:
//
//	magic 8 | version 2 | index 8 | term 8 | configuration index 8 |
//	configuration length 4 | configuration (raft's encoding) | CRC-32C 4 | image
//
// The CRC covers everything before it; the image (metadata/FORMAT.md) has its
// own. A snapshot is written under a temporary name, synced, renamed.
const (
	snapshotMagic   = "BELFRYSN"
	snapshotVersion = 1
	snapshotFixed   = 8 + 2 + 8 + 8 + 8 + 4
	snapshotSuffix  = ".snapshot"
	damagedSuffix   = ".damaged"
	keepSnapshots   = 2 // Why: an older one can stand in for one that rots
)

// snapshots is the directory of snapshots; it implements raft.SnapshotStore.
type snapshots struct {
	dir    string
	logger *slog.Logger
	// create makes a file; tests put a full disk there.
	create func(path string) (snapshotFile, error)
}

// snapshotFile is what a sink needs of a file.
type snapshotFile interface {
	io.WriteCloser
	Sync() error
}

var _ raft.SnapshotStore = (*snapshots)(nil)

func openSnapshots(dir string, logger *slog.Logger) (*snapshots, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil {
		return nil, fmt.Errorf("cannot list metadata snapshots: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot remove unfinished metadata snapshot: %w", err)
		}
	}
	return &snapshots{dir: dir, logger: logger, create: func(path string) (snapshotFile, error) {
		return os.Create(path)
	}}, nil
}

// names gives the IDs of all snapshots, newest first. Zeroes in front make the
// order of names the order of indexes.
func (s *snapshots) names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list metadata snapshots: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), snapshotSuffix); ok {
			ids = append(ids, id)
		}
	}
	slices.Reverse(ids) // ReadDir sorts
	return ids, nil
}

func (s *snapshots) path(id string) string { return filepath.Join(s.dir, id+snapshotSuffix) }

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("cannot create a snapshot of version %d", version)
	}
	id := fmt.Sprintf("%020d-%020d", index, term)
	conf := raft.EncodeConfiguration(configuration)
	head := append(make([]byte, 0, snapshotFixed+len(conf)+4), snapshotMagic...)
	head = binary.LittleEndian.AppendUint16(head, snapshotVersion)
	head = binary.LittleEndian.AppendUint64(head, index)
	head = binary.LittleEndian.AppendUint64(head, term)
	head = binary.LittleEndian.AppendUint64(head, configurationIndex)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(conf)))
	head = append(head, conf...)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	file, err := s.create(s.path(id) + ".tmp")
	if err != nil {
		return nil, fmt.Errorf("cannot create metadata snapshot: %w", err)
	}
	k := &sink{store: s, id: id, file: file}
	if _, err := k.Write(head); err != nil {
		return nil, errors.Join(err, k.Cancel())
	}
	return k, nil
}

// List implements raft.SnapshotStore. Open already took away what is damaged.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	ids, err := s.names()
	if err != nil {
		return nil, err
	}
	var all []*raft.SnapshotMeta
	for _, id := range ids {
		meta, body, err := s.Open(id)
		if err != nil {
			return nil, err
		}
		if err := body.Close(); err != nil {
			return nil, fmt.Errorf("cannot close metadata snapshot %q: %w", s.path(id), err)
		}
		all = append(all, meta)
	}
	return all, nil
}

// Open implements raft.SnapshotStore.
//
// Errors: errDamaged, metadata.ErrUnknown, the file's.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	path := s.path(id)
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open metadata snapshot: %w", err)
	}
	meta, err := readHead(file)
	if err == nil {
		meta.ID = id
		if want := fmt.Sprintf("%020d-%020d", meta.Index, meta.Term); id != want {
			err = fmt.Errorf("%w: it holds snapshot %s", errDamaged, want)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot read metadata snapshot %q: %w", path, err), file.Close())
	}
	return meta, file, nil
}

func readHead(file *os.File) (*raft.SnapshotMeta, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, snapshotFixed)
	if _, err := io.ReadFull(file, head); err != nil {
		return nil, fmt.Errorf("%w: its head is cut short (%w)", errDamaged, err)
	}
	if string(head[:8]) != snapshotMagic {
		return nil, fmt.Errorf("%w: it starts with %q, not %q", errDamaged, head[:8], snapshotMagic)
	}
	size := int64(binary.LittleEndian.Uint32(head[34:]))
	rest := info.Size() - snapshotFixed - size - 4
	if rest < 0 {
		return nil, fmt.Errorf("%w: its head announces more than its %d bytes", errDamaged, info.Size())
	}
	conf := make([]byte, size+4)
	if _, err := io.ReadFull(file, conf); err != nil {
		return nil, fmt.Errorf("%w: its head is cut short (%w)", errDamaged, err)
	}
	conf, want := conf[:size], binary.LittleEndian.Uint32(conf[size:])
	if crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, conf) != want {
		return nil, fmt.Errorf("%w: the CRC of its head does not match", errDamaged)
	}
	if v := binary.LittleEndian.Uint16(head[8:]); v != snapshotVersion {
		return nil, fmt.Errorf("%w: snapshot file version %d, this program reads %d: use the newer program that wrote it",
			metadata.ErrUnknown, v, snapshotVersion)
	}
	configuration, err := decodeConfiguration(conf)
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{
		Version:            raft.SnapshotVersionMax,
		Index:              binary.LittleEndian.Uint64(head[10:]),
		Term:               binary.LittleEndian.Uint64(head[18:]),
		ConfigurationIndex: binary.LittleEndian.Uint64(head[26:]),
		Configuration:      configuration,
		Size:               rest,
	}, nil
}

// decodeConfiguration reads raft's encoding of the voters. Why recover: the
// library panics on bytes that it did not write.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the list of voters cannot be read: %v", errDamaged, p)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// image reads a whole snapshot.
func (s *snapshots) image(id string) (*raft.SnapshotMeta, *metadata.Image, error) {
	meta, body, err := s.Open(id)
	if err != nil {
		return nil, nil, err
	}
	img, err := metadata.ReadSnapshot(body)
	if err == nil && img.Index() > meta.Index {
		err = fmt.Errorf("%w: its image stands at %d, after its index %d", errDamaged, img.Index(), meta.Index)
	}
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read metadata snapshot %q: %w", s.path(id), err)
	}
	return meta, img, nil
}

// setAside takes a damaged snapshot out of the list but keeps its bytes.
func (s *snapshots) setAside(id string) error {
	err := os.Rename(s.path(id), s.path(id)+damagedSuffix)
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("cannot set damaged metadata snapshot aside: %w", err)
	}
	return nil
}

// within gives the highest index up to index that the older snapshot holds, 0 if
// there is none: what is behind it the log must keep, so that it can stand in.
func (s *snapshots) within(index uint64) (uint64, error) {
	ids, err := s.names()
	if err != nil || len(ids) < keepSnapshots {
		return 0, err
	}
	older, _, err := parseID(ids[keepSnapshots-1])
	return min(index, older), err
}

// parseID reads index and term of a snapshot's name.
func parseID(id string) (index, term uint64, err error) {
	if n, err := fmt.Sscanf(id, "%d-%d", &index, &term); n != 2 || err != nil {
		return 0, 0, fmt.Errorf("cannot read the name of metadata snapshot %q: want INDEX-TERM", id)
	}
	return index, term, nil
}

// reap removes all but the newest snapshots.
func (s *snapshots) reap() error {
	ids, err := s.names()
	if err != nil {
		return err
	}
	for _, id := range ids[min(keepSnapshots, len(ids)):] {
		if err := os.Remove(s.path(id)); err != nil {
			return fmt.Errorf("cannot remove old metadata snapshot: %w", err)
		}
	}
	return nil
}

// sink is a snapshot on its way to disk; it implements raft.SnapshotSink.
type sink struct {
	store *snapshots
	id    string
	file  snapshotFile
	done  bool
	err   error
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.id }

// Write implements io.Writer.
func (k *sink) Write(b []byte) (int, error) {
	n, err := k.file.Write(b)
	if err != nil {
		k.err = fmt.Errorf("cannot write metadata snapshot %q: %w", k.store.path(k.id), err)
	}
	return n, err
}

// Close implements raft.SnapshotSink: the snapshot counts from here on.
func (k *sink) Close() error {
	if k.done {
		return k.err
	}
	if k.err != nil {
		return errors.Join(k.err, k.Cancel())
	}
	path := k.store.path(k.id)
	err := k.file.Sync()
	if err != nil {
		k.err = fmt.Errorf("cannot sync metadata snapshot %q: %w", path, err)
		return errors.Join(k.err, k.Cancel())
	}
	k.done = true
	if err = k.file.Close(); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(k.store.dir)
	}
	if err != nil {
		k.err = fmt.Errorf("cannot finish metadata snapshot %q: %w", path, err)
		return k.err
	}
	if err := k.store.reap(); err != nil {
		k.store.logger.Warn("cannot clean up metadata snapshots", "err", err)
	}
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	err := errors.Join(k.file.Close(), os.Remove(k.store.path(k.id)+".tmp"))
	if err != nil {
		return fmt.Errorf("cannot remove unfinished metadata snapshot: %w", err)
	}
	return nil
}
