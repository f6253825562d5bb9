package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// Suffixes of the files of a segment.
const (
	logSuffix      = ".log"
	indexSuffix    = ".index"
	timeSuffix     = ".timeindex"
	abortSuffix    = ".txnindex"
	snapshotSuffix = ".snapshot"
	deletedSuffix  = ".deleted"
	cleanedSuffix  = ".cleaned"
	swapSuffix     = ".swap"
	tmpSuffix      = ".tmp"
)

// segment is one file of batches with its two indexes.
type segment struct {
	dir    disk.Dir
	folder string
	base   record.Offset
	file   lazyFile
	times  index
	index  index
	aborts index // aborted transactions whose marker lies in the segment

	size   atomic.Int64 // bytes of whole batches
	end    atomic.Int64 // offset behind the last batch
	synced atomic.Int64 // bytes known to be on disk
	named  atomic.Bool  // the file's name is on disk
	sealed atomic.Bool  // closed, and all of it with its indexes is on disk
	gone   atomic.Bool  // deleted, or replaced by the cleaner
	// old is the bytes that were there when the process started and were not read then;
	// proven the bytes from the begin whose CRCs were found right since.
	old, proven atomic.Int64

	// maxTime is the largest timestamp in it (-1: none) and maxRel the batch that has it,
	// by the relative offset of its last record.
	maxTime, maxRel atomic.Int64
	// keepTime is the largest timestamp, each capped by when its batch was appended (R24). ms
	keepTime atomic.Int64
	// firstTime is about when the first batch was appended, ms; 0: empty.
	firstTime atomic.Int64
	// unindexed is the bytes behind the last index entry; only the appender uses it.
	unindexed int64
	allocated int64 // blocks are reserved up to here; only the appender uses it
	jitter    int64 // ms by which this segment is rolled early

	// hint and tail are (relative offset << 32 | position) of where the last read ended and
	// of the last appended batch: most reads begin at one of them.
	hint, tail atomic.Uint64
}

func newSegment(dir disk.Dir, folder string, base record.Offset) *segment {
	s := &segment{dir: dir, folder: folder, base: base}
	s.index = index{dir: dir, gone: &s.gone, name: s.name(indexSuffix), width: offsetEntry}
	s.times = index{dir: dir, gone: &s.gone, name: s.name(timeSuffix), width: timeEntry}
	s.aborts = index{dir: dir, gone: &s.gone, name: s.name(abortSuffix), width: abortEntry}
	s.end.Store(int64(base))
	s.maxTime.Store(-1)
	s.maxRel.Store(-1)
	s.keepTime.Store(-1)
	return s
}

// name gives the path of one of its files in the log directory.
func (s *segment) name(suffix string) string { return fileName(s.folder, s.base, suffix) }

// fileName names a file after the first offset in it.
func fileName(folder string, base record.Offset, suffix string) string {
	return fmt.Sprintf("%s/%020d%s", folder, base, suffix)
}

// create makes the segment's empty file.
func (s *segment) create() error {
	f, err := s.dir.Create(s.name(logSuffix))
	if err != nil {
		return err
	}
	s.file.set(f)
	s.index.clear()
	s.times.clear()
	return nil
}

// take gives the open .log file, to be released.
func (s *segment) take() (*handle, error) {
	return s.file.take(func() (disk.File, error) { return openUnless(&s.gone, s.dir, s.name(logSuffix)) })
}

// openUnless opens a file of a segment that is not gone. Why it looks afterwards: the
// cleaner puts other content under the name, but says gone before.
func openUnless(gone *atomic.Bool, dir disk.Dir, name string) (disk.File, error) {
	f, err := dir.OpenFile(name)
	if err == nil && gone.Load() {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, err
}

// drop lets go of the open files.
func (s *segment) drop() {
	s.file.drop()
	s.index.file.drop()
	s.times.file.drop()
	s.aborts.file.drop()
}

// trim gives back the blocks that were reserved and not used.
// Requires: nobody appends.
func (s *segment) trim() error {
	if s.allocated <= s.size.Load() {
		return nil
	}
	h, err := s.take()
	if err != nil {
		return err
	}
	defer h.Release()
	s.allocated = 0
	return h.Truncate(s.size.Load())
}

// fits tells whether n bytes up to offset last may be added.
func (s *segment) fits(n int64, last record.Offset, limit int64) bool {
	size := s.size.Load()
	return size == 0 && n <= math.MaxInt32 && last-s.base <= math.MaxInt32 ||
		size+n <= min(limit, math.MaxInt32) && last-s.base <= math.MaxInt32
}

// note takes a batch at pos that was appended at ms now into indexes and times.
func (s *segment) note(h *record.Header, pos, now int64, interval int) {
	rel := int64(h.Last() - s.base)
	if s.firstTime.Load() == 0 {
		s.firstTime.Store(max(1, now))
	}
	if h.Count > 0 && h.MaxTimestamp > s.maxTime.Load() {
		s.maxTime.Store(h.MaxTimestamp)
		s.maxRel.Store(rel)
	}
	s.keepTime.Store(max(s.keepTime.Load(), keepTime(h.MaxTimestamp, now)))
	if s.unindexed > int64(interval) {
		e := putOffset(int32(rel), int32(pos))
		s.index.add(e[:])
		s.noteTime()
		s.unindexed = 0
	}
	s.unindexed += int64(h.Size())
}

// keepTime gives the time by which retention judges what has timestamp ts and was
// appended at now, ms. Why not ts alone: a wrong producer clock would keep it for ever (R24).
func keepTime(ts, now int64) int64 {
	if ts < 0 {
		return now
	}
	return min(ts, now)
}

// noteTime adds the largest timestamp so far to the time index if it is news.
func (s *segment) noteTime() {
	ts := s.maxTime.Load()
	if last, _, err := s.times.last(); err != nil || ts <= last {
		return
	}
	e := putTime(ts, int32(s.maxRel.Load()))
	s.times.add(e[:])
}

// full tells whether an index has reached its size.
func (s *segment) full(limit int) bool {
	return (s.index.len()+1)*offsetEntry > limit || (s.times.len()+1)*timeEntry > limit
}

func pack(rel, pos int64) uint64 { return uint64(rel)<<32 | uint64(pos) }

func unpack(v uint64) (rel, pos int64) { return int64(v >> 32), int64(v & math.MaxUint32) }

// seek gives position and header of the first batch whose last offset is >= from.
// Errors: io.EOF if there is none below limit bytes.
func (s *segment) seek(f io.ReaderAt, from record.Offset, limit int64) (record.Header, int64, error) {
	want := max(0, int64(from-s.base))
	pos := int64(-1)
	for _, v := range [...]uint64{s.tail.Load(), s.hint.Load()} {
		if rel, p := unpack(v); rel == want && p < limit {
			pos = p
		}
	}
	if pos < 0 {
		var err error
		if pos, err = s.index.positionOf(want); err != nil {
			return record.Header{}, 0, err
		}
	}
	c := newScan(f, pos, limit)
	defer c.free()
	for {
		h, at, err := c.next()
		if err != nil || h.Last() >= from {
			return h, at, err
		}
	}
}

// scanSize is how much of a segment is read at a time to walk over headers: about one index interval.
const scanSize = 4096

// scan walks over the batch headers of a file.
type scan struct {
	f          io.ReaderAt
	pos, limit int64
	at         int64 // position of buf
	n          int   // valid bytes in buf
	buf        [scanSize]byte
}

var scanPool = sync.Pool{New: func() any { return new(scan) }}

// newScan starts at pos, where a batch must begin, and ends before limit.
func newScan(f io.ReaderAt, pos, limit int64) *scan {
	c := scanPool.Get().(*scan)
	c.f, c.pos, c.limit, c.at, c.n = f, pos, limit, 0, 0
	return c
}

func (c *scan) free() {
	c.f = nil
	scanPool.Put(c)
}

// next gives the next batch's header and position.
// Errors: io.EOF at the limit; record.ErrCorrupt and others for what is no whole batch.
func (c *scan) next() (record.Header, int64, error) {
	if c.pos >= c.limit {
		return record.Header{}, c.pos, io.EOF
	}
	if c.n == 0 || c.pos < c.at || c.pos+record.HeaderSize > c.at+int64(c.n) {
		n, err := c.f.ReadAt(c.buf[:min(scanSize, c.limit-c.pos)], c.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return record.Header{}, c.pos, err
		}
		c.at, c.n = c.pos, n
	}
	h, err := record.ReadHeader(c.buf[c.pos-c.at : c.n])
	if err != nil {
		return h, c.pos, err
	}
	at := c.pos
	if at+int64(h.Size()) > c.limit {
		return h, at, fmt.Errorf("cannot read batch at position %d: %d of %d bytes: %w", at, c.limit-at, h.Size(), record.ErrCorrupt)
	}
	c.pos += int64(h.Size())
	return h, at, nil
}
