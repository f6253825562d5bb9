package record

import (
	"errors"
	"fmt"
	"math"
)

// Record is one record of a batch. Its slices alias the batch or a buffer that the next record overwrites.
type Record struct {
	Offset    Offset
	Timestamp int64  // ms; NoTimestamp if it has none
	Key       []byte // nil: null
	Value     []byte // nil: null
	Headers   []Pair
}

// Pair is one record header.
type Pair struct {
	Key   []byte
	Value []byte // nil: null
}

// ErrStop ends Each early without an error.
var ErrStop = errors.New("stop")

// Each calls f with each record of one whole batch of magic 2, in order, decompressing as it goes.
// The record is valid until f returns. f may return ErrStop.
// Errors: f's; ErrCorrupt, ErrInvalid, ErrCodec; ErrTooLarge beyond DefaultMaxDecompressed bytes.
func Each(batch []byte, f func(Record) error) error {
	h, err := ReadHeader(batch)
	if err != nil {
		return err
	}
	if h.Size() > len(batch) {
		return fmt.Errorf("cannot read batch at offset %d: %d of %d bytes: %w", h.Base, len(batch), h.Size(), ErrCorrupt)
	}
	if h.Count == 0 {
		return nil // compaction leaves such headers for the producers' sake; there is nothing to decompress
	}
	var w window
	if err := w.open(h.Codec(), batch[HeaderSize:h.Size()], 0); err != nil {
		return err
	}
	defer w.done()
	var headers []Pair
	for i := int32(0); i < h.Count; i++ {
		n, err := w.varint()
		if err != nil {
			return err
		}
		if n < 0 || n > math.MaxInt32 {
			return errVarint
		}
		if err := w.fill(int(n)); err != nil {
			return err
		}
		if int64(len(w.b)) < n {
			return errCut
		}
		rec, err := h.parse(w.b[:n:n], &headers)
		if err != nil {
			return err
		}
		if err := f(rec); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
		w.b = w.b[n:]
	}
	return nil
}

// parse reads one record of the batch; headers is the memory for its headers, or nil if they are not wanted.
// Invariant: it accepts exactly the records that smallFields accepts.
func (h *Header) parse(b []byte, headers *[]Pair) (Record, error) {
	c := cursor{b: b}
	c.skip(1) // attributes: none are defined
	ts, delta := c.varint(), c.varint()
	rec := Record{Offset: h.Base + Offset(delta), Timestamp: h.FirstTimestamp + ts}
	if h.LogAppendTime() {
		rec.Timestamp = h.MaxTimestamp
	}
	rec.Key = c.bytes(true)
	rec.Value = c.bytes(true)
	n := c.varint()
	if n < 0 || n > int64(len(c.b)) {
		c.bad = true
	}
	if headers != nil {
		*headers = (*headers)[:0]
	}
	for ; n > 0 && !c.bad; n-- {
		p := Pair{Key: c.bytes(false), Value: c.bytes(true)}
		if headers != nil {
			*headers = append(*headers, p)
		}
	}
	if c.bad || len(c.b) != 0 || delta < 0 || delta > math.MaxInt32 {
		return rec, fmt.Errorf("malformed record: %w", ErrInvalid)
	}
	if headers != nil {
		rec.Headers = *headers
	}
	return rec, nil
}

// cursor reads the parts of a record in memory; after the first failure it is bad and gives nothing.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) skip(n int) {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return
	}
	c.b = c.b[n:]
}

func (c *cursor) varint() int64 {
	v, n := varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes(nullable bool) []byte {
	n := c.varint()
	if c.bad || n == -1 && nullable {
		return nil
	}
	if n < 0 || n > int64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}
