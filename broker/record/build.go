package record

import (
	"fmt"
	"math"
)

// Builder makes one batch of magic 2 after another. It is not safe for concurrent use.
type Builder struct {
	// Header is the pattern of the next batch: Base, LeaderEpoch, ProducerID, ProducerEpoch, BaseSequence and
	// Attributes (without codec) are taken from it, the rest is computed.
	Header Header
	Codec  Codec

	records []byte
	scratch []byte
	count   int32
	last    int64 // offset delta
	first   int64 // timestamp
	top     int64
}

// NewBuilder gives a builder of batches without producer, from offset 0 on.
func NewBuilder(c Codec) *Builder {
	return &Builder{Codec: c, Header: Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, LeaderEpoch: -1}, last: -1}
}

// Len gives the number of records added since the last batch.
func (b *Builder) Len() int { return int(b.count) }

// Size gives about the bytes that the batch would have uncompressed.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// Add appends a record at the next offset; its Offset is not looked at. What r refers to is copied.
func (b *Builder) Add(r Record) {
	r.Offset = b.Header.Base + Offset(b.last+1)
	b.AddAt(r)
}

// AddAt appends a record at its own offset, which leaves a gap if it is not the next (compaction).
// Requires: r.Offset above the last record's and less than 2^31 above the base.
func (b *Builder) AddAt(r Record) {
	delta := int64(r.Offset - b.Header.Base)
	if delta <= b.last || delta > math.MaxInt32 {
		panic(fmt.Sprintf("BUG: record at offset %d after %d in batch at %d", r.Offset, int64(b.Header.Base)+b.last, b.Header.Base))
	}
	if b.count == 0 {
		b.first, b.top = r.Timestamp, r.Timestamp
	}
	b.top = max(b.top, r.Timestamp)
	b.last = delta
	b.count++

	body := append(b.scratch[:0], 0)
	body = appendVarint(body, r.Timestamp-b.first)
	body = appendVarint(body, delta)
	body = appendBytes(body, r.Key)
	body = appendBytes(body, r.Value)
	body = appendVarint(body, int64(len(r.Headers)))
	for _, p := range r.Headers {
		body = appendVarint(body, int64(len(p.Key)))
		body = append(body, p.Key...)
		body = appendBytes(body, p.Value)
	}
	b.scratch = body
	b.records = appendVarint(b.records, int64(len(body)))
	b.records = append(b.records, body...)
}

// Build gives the batch, in memory of its own, and starts the next one: same pattern, empty, base behind the last record.
// Errors: no records; an unknown codec; more than 2 GiB.
func (b *Builder) Build() ([]byte, error) {
	if b.count == 0 {
		return nil, fmt.Errorf("cannot build batch: no records")
	}
	out, err := compress(make([]byte, HeaderSize, HeaderSize+len(b.records)), b.Codec, b.records)
	if err != nil {
		return nil, fmt.Errorf("cannot build batch (%s): %w", b.Codec, err)
	}
	if len(out) > math.MaxInt32-LogOverhead {
		return nil, fmt.Errorf("cannot build batch of %d bytes: %w", len(out), ErrTooLarge)
	}
	h := b.Header
	h.Magic = 2
	h.Length = int32(len(out) - LogOverhead)
	h.Attributes = h.Attributes&^CodecMask | int16(b.Codec)
	h.LastDelta, h.Count = int32(b.last), b.count
	h.FirstTimestamp, h.MaxTimestamp = b.first, b.top
	h.Put(out)
	WriteCRC(out)

	b.Header.Base = h.Last() + 1
	if h.BaseSequence >= 0 {
		next := h
		next.LastDelta++
		b.Header.BaseSequence = next.LastSequence()
	}
	b.records, b.count, b.last = b.records[:0], 0, -1
	return out, nil
}

func appendBytes(b, v []byte) []byte {
	if v == nil {
		return append(b, 1) // zig-zag -1
	}
	b = appendVarint(b, int64(len(v)))
	return append(b, v...)
}
