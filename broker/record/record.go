// Package record reads and writes record batches, the unit that clients send,
// logs store and followers copy.
//
// A batch is checked once at the door (Check) and trusted after that. Only magic 2 is
// stored. Offsets, positions and sizes are never mixed: an Offset counts records.
package record

// Offset is a record's number within its partition.
type Offset int64

// Epoch is a leader's term.
type Epoch int32

// Sizes and positions of the fields of a magic-2 batch in bytes.
// Source: Kafka protocol, "Record Batch".
const (
	HeaderSize  = 61 // through numRecords
	LogOverhead = 12 // base offset and length
)

// Attribute bits of a batch.
const (
	CodecMask        = 0x07
	LogAppendTimeBit = 0x08
	TransactionalBit = 0x10
	ControlBit       = 0x20
	DeleteHorizonBit = 0x40
)

// Header is the fixed part of a magic-2 batch.
type Header struct {
	Base           Offset
	Length         int32 // bytes after the length field
	LeaderEpoch    Epoch
	Magic          int8
	CRC            uint32
	Attributes     int16
	LastDelta      int32
	FirstTimestamp int64 // ms
	MaxTimestamp   int64 // ms
	ProducerID     int64 // -1: none
	ProducerEpoch  int16
	BaseSequence   int32
	Count          int32
}

// Size gives the whole batch's bytes.
func (h Header) Size() int { return int(h.Length) + LogOverhead }

// Last gives the offset of the batch's last record.
func (h Header) Last() Offset { return h.Base + Offset(h.LastDelta) }
