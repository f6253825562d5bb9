// Package replica is this broker's copy of each partition.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Refusals; compare with errors.Is.
var (
	ErrUnknownPartition     = errors.New("this broker does not hold the partition")
	ErrNotLeader            = errors.New("this broker does not lead the partition")
	ErrFencedEpoch          = errors.New("the leader epoch is older than the partition's")
	ErrUnknownEpoch         = errors.New("the leader epoch is newer than the partition's")
	ErrNotEnoughReplicas    = errors.New("fewer in-sync replicas than min.insync.replicas")
	ErrNotEnoughAfterAppend = errors.New("fewer in-sync replicas than min.insync.replicas after the append")
	ErrOffsetNotAvailable   = errors.New("the high watermark has not reached this leader's epoch")
	ErrTimeout              = errors.New("request timed out")
)

// Options of a Set.
type Options struct {
	Node   metadata.BrokerID
	Store  *storage.Store
	Stats  *stats.Broker
	Logger *slog.Logger
	Now    func() time.Time
	// Settings gives a topic's effective settings (dynamic layers included).
	Settings func(img *metadata.Image, topicName string) *config.Values
}

// Set is every partition this broker holds.
type Set struct{}

func New(o Options) *Set { panic("BUG: unbuilt") }

// Apply makes logs, leaderships and settings follow the new image (materialised state, not deltas: R11). Called in commit order by one goroutine.
func (s *Set) Apply(old, img *metadata.Image) error { panic("BUG: unbuilt") }
func (s *Set) Run(ctx context.Context) error        { panic("BUG: unbuilt") }

// Partition finds a led or followed partition. Errors: ErrUnknownPartition, storage.ErrOffline.
func (s *Set) Partition(p topic.Partition) (*Partition, error) { panic("BUG: unbuilt") }
func (s *Set) All() []*Partition                               { panic("BUG: unbuilt") }

// Partition is one of them.
type Partition struct{}

func (p *Partition) Name() topic.Partition { panic("BUG: unbuilt") }
func (p *Partition) TopicID() topic.ID     { panic("BUG: unbuilt") }
func (p *Partition) Stats() *stats.Topic   { panic("BUG: unbuilt") }

// Leader tells leader and epoch as this broker knows them; CheckEpoch is R3 (-1 = not said).
func (p *Partition) Leader() (metadata.BrokerID, record.Epoch) { panic("BUG: unbuilt") }
func (p *Partition) CheckLeader(epoch record.Epoch) error      { panic("BUG: unbuilt") }

// Settings gives the topic's effective settings of now (max.message.bytes, message.timestamp.type, cleanup.policy ...).
func (p *Partition) Settings() *config.Values { panic("BUG: unbuilt") }

// Append takes checked batches in order. With acks -1: refused when ISR < min.insync.replicas. Errors: the refusals above, storage's.
func (p *Partition) Append(b []byte, acks int16, now time.Time) (storage.Appended, error) {
	panic("BUG: unbuilt")
}

// Acked calls done once (perhaps before it returns) when records below end may be acknowledged: acks -1: high watermark >= end (R4); acks 1: local Durable >= end; or with an error (ErrTimeout, ErrNotLeader, ErrNotEnoughAfterAppend, storage.ErrOffline).
func (p *Partition) Acked(end record.Offset, acks int16, timeout time.Duration, done func(error)) {
	panic("BUG: unbuilt")
}

// Fetched is one read.
type Fetched struct {
	Slice                               storage.Slice // Len 0: nothing; Release always
	HighWatermark, LastStable, LogStart record.Offset
}

// Read reads for a consumer: below HW, or below LSO with committed. Errors: storage.ErrOffsetOutOfRange and the refusals.
func (p *Partition) Read(from record.Offset, max int, minOne, committed bool) (Fetched, error) {
	panic("BUG: unbuilt")
}

// Readable gives how many bytes a read from `from` could give, without reading (for min.bytes), up to max.
func (p *Partition) Readable(from record.Offset, max int, committed bool) int { panic("BUG: unbuilt") }

// Watch calls wake (never holding locks, must not block) after each move of the high watermark and after leadership, log start or state changed, until the returned func is called.
func (p *Partition) Watch(wake func()) (unwatch func()) { panic("BUG: unbuilt") }
func (p *Partition) HighWatermark() record.Offset       { panic("BUG: unbuilt") }
func (p *Partition) LastStable() record.Offset          { panic("BUG: unbuilt") }
func (p *Partition) LogStart() record.Offset            { panic("BUG: unbuilt") }
func (p *Partition) End() record.Offset                 { panic("BUG: unbuilt") }

// Latest is HW for ListOffsets (R5: ErrOffsetNotAvailable), LSO with committed.
func (p *Partition) Latest(committed bool) (record.Offset, record.Epoch, error) {
	panic("BUG: unbuilt")
}
func (p *Partition) Log() *storage.Log { panic("BUG: unbuilt") }

// DeleteBefore is DeleteRecords: o = -1 means the high watermark; above it: storage.ErrOffsetOutOfRange. done gets the new low watermark.
func (p *Partition) DeleteBefore(o record.Offset, done func(record.Offset, error)) {
	panic("BUG: unbuilt")
}
