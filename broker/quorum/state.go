package quorum

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft-wal/types"
)

// The state file has two copies of the same state and a mark. Every change
// writes and syncs the first copy, then the second: a crash tears at most one, and
// a copy that rots is read from the other. All blocks are written when the file
// is made, so a full disk cannot fail a change. Little-endian:
//
//	copy: magic 8 | sequence 8 | length 4 | payload CRC-32C 4 | payload
//	mark: index 8 | CRC-32C of the index 4
const (
	stateMagic  = "BELFRYQS"
	stateHead   = 8 + 8 + 4 + 4
	stateCopy   = 64 << 10 // holds some 900 segments of 4 MiB
	stateMark   = 2 * stateCopy
	stateSize   = stateMark + 4096
	stateFormat = 1
	segmentSize = 8*8 + 4 // one segment in the payload
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is the cause of every error about bytes that are not what was written.
var errDamaged = errors.New("damaged")

// fileAt is what the state file needs of a file.
type fileAt interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	Sync() error
	Close() error
}

// state is the file of term, vote and segment list; it implements types.MetaStore.
type state struct {
	path string
	file fileAt

	mu struct {
		sync.Mutex
		seq    uint64
		log    types.PersistentState
		values map[string][]byte
		mark   uint64
	}
}

var _ types.MetaStore = (*state)(nil)

// openState opens the state file and makes it if it is not there.
func openState(path string) (*state, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeState(path); err != nil {
			return nil, fmt.Errorf("cannot create metadata state %q: %w", path, err)
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open metadata state: %w", err)
	}
	s := &state{path: path, file: file}
	if err := s.load(); err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot read metadata state %q: %w", path, err)
	}
	return s, nil
}

func makeState(path string) error {
	tmp := path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	empty := &state{file: file}
	b := make([]byte, stateSize)
	copy(b, empty.encodeLocked())
	copy(b[stateCopy:], b[:stateCopy])
	copy(b[stateMark:], encodeMark(0))
	_, err = file.WriteAt(b, 0)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// makeDir makes a directory, and those above it, so that they outlive a power cut (R18).
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = syncDir(above)
	}
	if err != nil {
		return fmt.Errorf("cannot create metadata directory %q: %w", dir, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}

// load reads the newer of both copies and makes them equal again.
func (s *state) load() error {
	b := make([]byte, stateSize)
	if n, err := s.file.ReadAt(b, 0); err != nil {
		return fmt.Errorf("%w: it has %d bytes instead of %d: %w", errDamaged, n, stateSize, err)
	}
	first, second := decodeCopy(b[:stateCopy]), decodeCopy(b[stateCopy:stateMark])
	best := first
	if best == nil || second != nil && second.seq > best.seq {
		best = second
	}
	if best == nil {
		return fmt.Errorf("%w: neither of its copies can be read; put the metadata directory back from a backup", errDamaged)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.seq, s.mu.log, s.mu.values = best.seq, best.log, best.values
	mark, ok := decodeMark(b[stateMark:])
	if !ok {
		return fmt.Errorf("%w: the durable mark cannot be read; put the metadata directory back from a backup", errDamaged)
	}
	s.mu.mark = mark
	if first == nil || second == nil || first.seq != second.seq {
		return s.writeLocked()
	}
	return nil
}

// contents is what one copy holds.
type contents struct {
	seq    uint64
	log    types.PersistentState
	values map[string][]byte
}

func (s *state) encodeLocked() []byte {
	b := append(make([]byte, 0, 1024), stateMagic...)
	b = binary.LittleEndian.AppendUint64(b, s.mu.seq)
	b = append(b, make([]byte, 8)...) // length and CRC come last
	b = append(b, stateFormat)
	b = binary.LittleEndian.AppendUint64(b, s.mu.log.NextSegmentID)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.mu.log.Segments)))
	for _, g := range s.mu.log.Segments {
		for _, v := range []uint64{g.ID, g.BaseIndex, g.MinIndex, g.MaxIndex, g.Codec, g.IndexStart, stamp(g.CreateTime), stamp(g.SealTime)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = binary.LittleEndian.AppendUint32(b, g.SizeLimit)
	}
	for key, value := range s.mu.values {
		b = append(b, byte(len(key)))
		b = append(b, key...)
		b = append(b, byte(len(value)))
		b = append(b, value...)
	}
	binary.LittleEndian.PutUint32(b[16:], uint32(len(b)-stateHead))
	binary.LittleEndian.PutUint32(b[20:], sumCopy(b))
	return b
}

// sumCopy sums everything but the magic and the sum itself.
func sumCopy(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:20], castagnoli), castagnoli, b[stateHead:])
}

func stamp(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func unstamp(v uint64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(v))
}

// decodeCopy gives nil for a copy that is torn or damaged.
func decodeCopy(b []byte) *contents {
	if string(b[:8]) != stateMagic {
		return nil
	}
	size := binary.LittleEndian.Uint32(b[16:])
	if size > stateCopy-stateHead {
		return nil
	}
	b = b[:stateHead+size]
	if sumCopy(b) != binary.LittleEndian.Uint32(b[20:]) {
		return nil
	}
	c := &contents{seq: binary.LittleEndian.Uint64(b[8:]), values: make(map[string][]byte)}
	b = b[stateHead:]
	if len(b) < 13 || b[0] != stateFormat {
		return nil
	}
	c.log.NextSegmentID = binary.LittleEndian.Uint64(b[1:])
	count := binary.LittleEndian.Uint32(b[9:])
	b = b[13:]
	if uint64(count)*segmentSize > uint64(len(b)) {
		return nil
	}
	for range count {
		u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		c.log.Segments = append(c.log.Segments, types.SegmentInfo{
			ID: u(0), BaseIndex: u(1), MinIndex: u(2), MaxIndex: u(3), Codec: u(4), IndexStart: u(5),
			CreateTime: unstamp(u(6)), SealTime: unstamp(u(7)), SizeLimit: binary.LittleEndian.Uint32(b[64:]),
		})
		b = b[segmentSize:]
	}
	for len(b) > 0 {
		key, rest, ok := shortBytes(b)
		if !ok {
			return nil
		}
		value, rest, ok := shortBytes(rest)
		if !ok {
			return nil
		}
		c.values[string(key)] = value
		b = rest
	}
	return c
}

// shortBytes reads a length byte and as many bytes.
func shortBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}

func encodeMark(index uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, index)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMark(b []byte) (uint64, bool) {
	return binary.LittleEndian.Uint64(b), crc32.Checksum(b[:8], castagnoli) == binary.LittleEndian.Uint32(b[8:])
}

// writeLocked writes the next generation to both copies.
func (s *state) writeLocked() error {
	s.mu.seq++
	b := s.encodeLocked()
	if len(b) > stateCopy {
		return fmt.Errorf("cannot write metadata state %q: %d log segments do not fit it", s.path, len(s.mu.log.Segments))
	}
	for _, at := range []int64{0, stateCopy} {
		if _, err := s.file.WriteAt(b, at); err != nil {
			return fmt.Errorf("cannot write metadata state %q: %w", s.path, err)
		}
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("cannot sync metadata state %q: %w", s.path, err)
		}
	}
	return nil
}

// Load implements types.MetaStore.
func (s *state) Load(string) (types.PersistentState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.log, nil
}

// CommitState implements types.MetaStore.
func (s *state) CommitState(log types.PersistentState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.mu.log
	s.mu.log = log
	err := s.writeLocked()
	if err != nil {
		s.mu.log = before
	}
	return err
}

// GetStable implements types.MetaStore.
func (s *state) GetStable(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.values[string(key)], nil
}

// SetStable implements types.MetaStore.
func (s *state) SetStable(key, value []byte) error {
	return s.setStable(map[string][]byte{string(key): value})
}

// setStable writes several values at once; nil removes one.
func (s *state) setStable(values map[string][]byte) error {
	const most = 255 // lengths are one byte
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.mu.values
	next, changed := maps.Clone(before), false
	for key, value := range values {
		if len(key) > most || len(value) > most {
			return fmt.Errorf("cannot write metadata state %q: a value is longer than %d bytes", s.path, most)
		}
		if had, ok := before[key]; ok == (value != nil) && bytes.Equal(had, value) {
			continue // raft writes its term again at every start
		}
		changed = true
		if value == nil {
			delete(next, key)
		} else {
			next[key] = bytes.Clone(value)
		}
	}
	if !changed {
		return nil
	}
	s.mu.values = next
	err := s.writeLocked()
	if err != nil {
		s.mu.values = before
	}
	return err
}

// Close implements types.MetaStore; the log closes it too.
func (s *state) Close() error {
	err := s.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// marked is the index up to which the log was durable at least.
func (s *state) marked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.mark
}

// setMark notes that the log is durable up to index. Why only a mark that goes
// back is synced: one that is too low after a power cut only notices less, and
// the page cache keeps it over a killed process; one that is too high would
// refuse a good log.
func (s *state) setMark(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.file.WriteAt(encodeMark(index), stateMark)
	if err == nil && index < s.mu.mark {
		err = s.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot write metadata state %q: %w", s.path, err)
	}
	s.mu.mark = index
	return nil
}
