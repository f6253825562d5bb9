package storage

import (
	"errors"
	"log/slog"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage/disk"
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
	Kept           bool                        // since the last process the machine has run on: what that one wrote is there, on disk or in the page cache
	CleanEvery     time.Duration               // how long the cleaner rests; 0: defaultCleanEvery
	MovePace       func() int64                // bytes a second that a move may copy, asked for again and again; nil, 0: as fast as it goes
	ProducerExpiry time.Duration               // when a silent producer's state is forgotten; 0: defaultProducerExpiry
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
	MinLag          time.Duration // a message stays uncompacted at least so long
	MaxLag          time.Duration // a message is compacted after so long, however little there is to do; 0 = never
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
	ErrStaleEpoch           = errors.New("the leader epoch went back")
	ErrClosed               = errors.New("log is closed")
	// ErrNameless: the log's folder was there at the start, but does not say whose it is.
	ErrNameless = errors.New("partition.metadata is damaged")
	// ErrInvalidTxnState: the batch is not part of the transaction that is or is not open.
	ErrInvalidTxnState = errors.New("the batch does not fit the state of the producer's transaction")
	// ErrCoordinatorFenced: the marker comes from a coordinator that was deposed.
	ErrCoordinatorFenced = errors.New("a newer transaction coordinator has written a marker")
)
