package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Offset is a record's number within its partition.
type Offset int64

// Epoch is a leader's term.
type Epoch int32

// Sizes of a magic-2 batch in bytes.
// Source: Kafka protocol, "Record Batch".
const (
	HeaderSize  = 61 // through numRecords
	LogOverhead = 12 // base offset and length
)

// Positions of the fields of a magic-2 batch in bytes.
const (
	posLength         = 8
	posLeaderEpoch    = 12
	posMagic          = 16
	posCRC            = 17
	posAttributes     = 21
	posLastDelta      = 23
	posFirstTimestamp = 27
	posMaxTimestamp   = 35
	posProducerID     = 43
	posProducerEpoch  = 51
	posBaseSequence   = 53
	posCount          = 57
)

// Attribute bits of a batch.
const (
	CodecMask        = 0x07
	LogAppendTimeBit = 0x08
	TransactionalBit = 0x10
	ControlBit       = 0x20
	DeleteHorizonBit = 0x40
)

// NoTimestamp is the timestamp of a record that has none.
const NoTimestamp = -1

// castagnoli is never written after the program's start; the standard library keeps one table for all callers.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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

// Codec gives the compression of the batch's records.
func (h Header) Codec() Codec { return Codec(h.Attributes & CodecMask) }

// LogAppendTime says whether the broker stamped the batch; its records then all have the max timestamp.
func (h Header) LogAppendTime() bool { return h.Attributes&LogAppendTimeBit != 0 }

// Transactional says whether the batch belongs to a transaction.
func (h Header) Transactional() bool { return h.Attributes&TransactionalBit != 0 }

// Control says whether the batch holds transaction markers.
func (h Header) Control() bool { return h.Attributes&ControlBit != 0 }

// LastSequence gives the sequence of the batch's last record; sequences wrap from the largest int32 to 0.
func (h Header) LastSequence() int32 {
	if h.BaseSequence < 0 {
		return h.BaseSequence
	}
	return int32((int64(h.BaseSequence) + int64(h.LastDelta)) & 0x7fffffff)
}

// ReadHeader reads the header at the start of b, which need not hold the records.
// Errors: ErrCorrupt for fewer than HeaderSize bytes or a length that cannot be; ErrFormat for magic 0 and 1.
func ReadHeader(b []byte) (Header, error) {
	if len(b) > posMagic && (b[posMagic] == 0 || b[posMagic] == 1) {
		return Header{}, fmt.Errorf("cannot read batch header: magic %d: %w", b[posMagic], ErrFormat)
	}
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("cannot read batch header: %d bytes: %w", len(b), ErrCorrupt)
	}
	if b[posMagic] != 2 {
		return Header{}, fmt.Errorf("cannot read batch header: magic %d: %w", int8(b[posMagic]), ErrCorrupt)
	}
	h := Header{
		Base:           Offset(be.Uint64(b)),
		Length:         int32(be.Uint32(b[posLength:])),
		LeaderEpoch:    Epoch(be.Uint32(b[posLeaderEpoch:])),
		Magic:          2,
		CRC:            be.Uint32(b[posCRC:]),
		Attributes:     int16(be.Uint16(b[posAttributes:])),
		LastDelta:      int32(be.Uint32(b[posLastDelta:])),
		FirstTimestamp: int64(be.Uint64(b[posFirstTimestamp:])),
		MaxTimestamp:   int64(be.Uint64(b[posMaxTimestamp:])),
		ProducerID:     int64(be.Uint64(b[posProducerID:])),
		ProducerEpoch:  int16(be.Uint16(b[posProducerEpoch:])),
		BaseSequence:   int32(be.Uint32(b[posBaseSequence:])),
		Count:          int32(be.Uint32(b[posCount:])),
	}
	// Why the upper bound: Size must not overflow where int has 32 bits.
	if h.Length < HeaderSize-LogOverhead || h.Length > 1<<31-1-LogOverhead {
		return Header{}, fmt.Errorf("cannot read batch header: length %d: %w", h.Length, ErrCorrupt)
	}
	return h, nil
}

// Put writes the header's fields, its CRC included, to the first HeaderSize bytes of b.
// Requires: len(b) ≥ HeaderSize.
func (h Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	be.PutUint64(b, uint64(h.Base))
	be.PutUint32(b[posLength:], uint32(h.Length))
	be.PutUint32(b[posLeaderEpoch:], uint32(h.LeaderEpoch))
	b[posMagic] = byte(h.Magic)
	be.PutUint32(b[posCRC:], h.CRC)
	be.PutUint16(b[posAttributes:], uint16(h.Attributes))
	be.PutUint32(b[posLastDelta:], uint32(h.LastDelta))
	be.PutUint64(b[posFirstTimestamp:], uint64(h.FirstTimestamp))
	be.PutUint64(b[posMaxTimestamp:], uint64(h.MaxTimestamp))
	be.PutUint64(b[posProducerID:], uint64(h.ProducerID))
	be.PutUint16(b[posProducerEpoch:], uint16(h.ProducerEpoch))
	be.PutUint32(b[posBaseSequence:], uint32(h.BaseSequence))
	be.PutUint32(b[posCount:], uint32(h.Count))
}

// SetBase gives the batch at the start of b its offset and leader epoch. Both lie outside the CRC: two stores.
// Requires: len(b) ≥ HeaderSize.
func SetBase(b []byte, o Offset, e Epoch) {
	be.PutUint64(b, uint64(o))
	be.PutUint32(b[posLeaderEpoch:], uint32(e))
}

// StampAppendTime makes ms the time of all records of the batch at the start of b and rewrites its CRC.
// Requires: b holds the whole batch, checked.
func StampAppendTime(b []byte, ms int64) {
	a := be.Uint16(b[posAttributes:])
	be.PutUint16(b[posAttributes:], a|LogAppendTimeBit)
	be.PutUint64(b[posMaxTimestamp:], uint64(ms))
	WriteCRC(b[:sizeOf(b)])
}

// WriteCRC computes the CRC of the batch that fills b and stores it.
func WriteCRC(b []byte) {
	be.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
}

// Verify reads the header at the start of b and checks that the whole batch is there and has the CRC that it says.
// It does not look into the records: this is the check of recovery, followers and the scrubber.
// Errors: as ReadHeader; ErrCorrupt for a cut batch or a wrong CRC.
func Verify(b []byte) (Header, error) {
	h, err := ReadHeader(b)
	if err != nil {
		return h, err
	}
	if h.Size() > len(b) {
		return h, fmt.Errorf("cannot verify batch at offset %d: %d of %d bytes: %w", h.Base, len(b), h.Size(), ErrCorrupt)
	}
	if got := crc32.Checksum(b[posAttributes:h.Size()], castagnoli); got != h.CRC {
		return h, fmt.Errorf("cannot verify batch at offset %d: CRC %08x, header says %08x: %w", h.Base, got, h.CRC, ErrCorrupt)
	}
	return h, nil
}

// sizeOf gives the bytes of the checked batch at the start of b.
func sizeOf(b []byte) int { return int(be.Uint32(b[posLength:])) + LogOverhead }

// be is the byte order of everything but varints.
var be = binary.BigEndian
