// Package storage keeps partition logs on disk.
package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Options of a Store.
type Options struct {
	FS             disk.FS
	Dirs           []string
	ClusterID      string // "" on first format: Store makes one; read it with ClusterID()
	NodeID         int32
	Stats          *stats.Broker
	Logger         *slog.Logger
	Now            func() time.Time
	Checkpoint     time.Duration               // recovery points, log starts
	RetentionCheck time.Duration               // log.retention.check.interval.ms
	DirFailed      func(dir string, err error) // called once per directory
	Reserve        int64                       // bytes of the preallocated reserve file per directory (R22)
}

// LogConfig is a topic's settings as the log needs them.
type LogConfig struct {
	SegmentBytes    int64
	SegmentAge      time.Duration
	SegmentJitter   time.Duration
	IndexBytes      int
	IndexInterval   int
	RetentionBytes  int64         // -1 unlimited
	RetentionAge    time.Duration // <0 unlimited
	DeleteDelay     time.Duration
	Compact, Delete bool
	MinCleanable    float64
	DeleteRetention time.Duration
	FlushMessages   int64         // 1 = each batch is on disk before it counts as durable; 0 = the OS decides
	FlushEvery      time.Duration // 0 = never by time
	Preallocate     bool
	Internal        bool // never deleted by the guard
}

// Refusals of Append; compare with errors.Is. api/errors.go maps them.
var (
	ErrOutOfOrderSequence   = errors.New("out of order sequence number")
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	ErrOffsetOutOfRange     = errors.New("offset out of range")
	ErrFull                 = errors.New("no space left on the log directory")
	ErrOffline              = errors.New("log directory is offline")
	ErrClosed               = errors.New("log is closed")
)

// Store owns all log directories of the node.
type Store struct{}

// Open reads, recovers and serves. Errors: meta.properties mismatch (R23), every directory offline, another process holds the lock.
func Open(o Options) (*Store, error) { panic("BUG: unbuilt") }
func (s *Store) ClusterID() string   { panic("BUG: unbuilt") }

// Run does the background work (retention, flush by time, checkpoints, cleaner, removal, scrubber); returns when ctx ends.
func (s *Store) Run(ctx context.Context) error { panic("BUG: unbuilt") }

// Close flushes everything and writes the clean-shutdown file (never after an I/O error).
func (s *Store) Close() error               { panic("BUG: unbuilt") }
func (s *Store) Log(p topic.Partition) *Log { panic("BUG: unbuilt") }
func (s *Store) Logs() []*Log               { panic("BUG: unbuilt") }

// Create makes the log or gives the one that is there with the same topic ID; a log of another ID under that name is deleted first. Lands in the online directory with the fewest logs.
func (s *Store) Create(p topic.Partition, id topic.ID, c LogConfig) (*Log, error) {
	panic("BUG: unbuilt")
}
func (s *Store) Delete(p topic.Partition, id topic.ID) error { panic("BUG: unbuilt") }
func (s *Store) Dirs() []Dir                                 { panic("BUG: unbuilt") }

// FreeOldest is the guard's delete: closed segments, oldest by largest timestamp first, over all partitions but internal ones, until bytes are freed; rolls active segments first when the rest is not enough.
func (s *Store) FreeOldest(ctx context.Context, bytes int64) (freed int64, err error) {
	panic("BUG: unbuilt")
}

// Dir is one log directory's state.
type Dir struct {
	Path        string
	UUID        topic.ID
	Err         error // nil: online
	Total, Free int64 // bytes, of the file system
	Size        int64 // bytes of message data in it
}

// Log is one partition's replica on disk. All methods are safe for concurrent use; Append and Truncate exclude each other.
type Log struct{}

// Append says how batches come in.
type Append struct {
	Epoch         record.Epoch // the leader's; stamped into each batch when Assign
	Assign        bool         // leader: give offsets, judge sequences. false: follower, take as they are
	LogAppendTime bool         // stamp with Now and rewrite the CRC
	Now           int64        // ms, wall clock
}

// Appended says where they landed.
type Appended struct {
	First, Last record.Offset
	AppendTime  int64         // ms; -1 with CreateTime
	Start       record.Offset // log start
	Duplicate   bool          // the very same batch was appended before; First/Last are those of then (R27)
}

// Append takes one or more whole, checked, back-to-back batches; b is changed in place and not kept after return. Does not wait for the disk to sync: see Durable.
func (l *Log) Append(b []byte, a Append) (Appended, error) { panic("BUG: unbuilt") }

// Read gives whole batches from the one that holds `from`, at most max bytes (at least one batch if minOne), none that begins at or above limit.
func (l *Log) Read(from record.Offset, max int, limit record.Offset, minOne bool) (Slice, error) {
	panic("BUG: unbuilt")
}

// Slice is a piece of a segment file. Release must be called once; until then the file's bytes stay readable, also after deletion.
type Slice struct {
	file sliceFile
	pos  int64
	n    int
}
type sliceFile interface {
	ReadAt([]byte, int64) (int, error)
	OS() *os.File
	Release()
}

func (s Slice) Len() int { return s.n }

// File gives the OS file and position for sendfile, nil when there is none (memory disk).
func (s Slice) File() (*os.File, int64)                { panic("BUG: unbuilt") }
func (s Slice) ReadAt(b []byte, at int64) (int, error) { panic("BUG: unbuilt") } // at relative to the slice
func (s Slice) Release()                               { panic("BUG: unbuilt") }

func (l *Log) Partition() topic.Partition { panic("BUG: unbuilt") }
func (l *Log) TopicID() topic.ID          { panic("BUG: unbuilt") }
func (l *Log) Dir() string                { panic("BUG: unbuilt") }
func (l *Log) Start() record.Offset       { panic("BUG: unbuilt") }
func (l *Log) End() record.Offset         { panic("BUG: unbuilt") }

// Durable is the offset up to which this replica may be counted: the synced end when FlushMessages is 1, else End.
func (l *Log) Durable() record.Offset { panic("BUG: unbuilt") }

// Notify sets the one function called (from any goroutine, without locks held) after Durable advanced.
func (l *Log) Notify(f func()) { panic("BUG: unbuilt") }

// SetHighWatermark bounds retention, compaction and FreeOldest, and is checkpointed; HighWatermark gives it back after a restart.
func (l *Log) SetHighWatermark(o record.Offset) { panic("BUG: unbuilt") }
func (l *Log) HighWatermark() record.Offset     { panic("BUG: unbuilt") }

// BeginEpoch inserts (epoch, End) into the epoch cache (R1).
func (l *Log) BeginEpoch(e record.Epoch) error { panic("BUG: unbuilt") }
func (l *Log) LastEpoch() record.Epoch         { panic("BUG: unbuilt") } // -1 none
// EndOf gives the largest epoch <= e and its end offset; (-1,-1) if unknown.
func (l *Log) EndOf(e record.Epoch) (record.Epoch, record.Offset) { panic("BUG: unbuilt") }
func (l *Log) EpochAt(o record.Offset) record.Epoch               { panic("BUG: unbuilt") }

// OffsetAt gives the first record with timestamp >= ts below limit, exactly; found=false: none.
func (l *Log) OffsetAt(ts int64, limit record.Offset) (o record.Offset, at int64, e record.Epoch, found bool, err error) {
	panic("BUG: unbuilt")
}

// MaxTimestamp gives the record with the largest timestamp (first of them).
func (l *Log) MaxTimestamp() (o record.Offset, at int64, e record.Epoch, found bool, err error) {
	panic("BUG: unbuilt")
}

// DeleteBefore moves the log start (durably) and drops whole segments below it.
func (l *Log) DeleteBefore(o record.Offset) (start record.Offset, err error) { panic("BUG: unbuilt") }
func (l *Log) Truncate(to record.Offset) error                               { panic("BUG: unbuilt") }

// Flush waits until everything appended so far is on disk.
func (l *Log) Flush() error            { panic("BUG: unbuilt") }
func (l *Log) Size() int64             { panic("BUG: unbuilt") } // bytes of message data
func (l *Log) Reconfigure(c LogConfig) { panic("BUG: unbuilt") }

// Producers gives the live producer state, sorted by ID (R27, KIP-664).
func (l *Log) Producers() []Producer { panic("BUG: unbuilt") }

// Producer is one producer's state in one partition.
type Producer struct {
	ID              int64
	Epoch           int16
	LastSequence    int32
	LastTimestamp   int64
	LastOffset      record.Offset
	CurrentTxnStart record.Offset // -1 none
}
