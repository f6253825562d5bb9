package record

import (
	"fmt"
	"math"
	"runtime"
)

// DefaultMaxDecompressed is what a batch may grow to, in bytes, where nothing else is said.
const DefaultMaxDecompressed = 128 << 20

// Limits say what Check lets through.
type Limits struct {
	MaxBatch        int   // bytes of one batch as sent (max.message.bytes); 0: no limit
	MaxDecompressed int64 // bytes of one batch's records; 0: DefaultMaxDecompressed
	NoNullKeys      bool  // compacted topic: every record needs a key
	NoZstd          bool  // the request is older than zstd (Produce before version 7)
	LogAppendTime   bool  // the broker will stamp the batch: its timestamps are not judged
	Now             int64 // ms, wall clock; what MaxBefore and MaxAfter count from
	MaxBefore       int64 // ms a timestamp may lie before Now (message.timestamp.before.max.ms); ≤ 0: any
	MaxAfter        int64 // ms a timestamp may lie after Now (message.timestamp.after.max.ms); ≤ 0: any
}

// Info is what Check saw.
type Info struct {
	Batches      int
	Records      int
	MaxTimestamp int64  // ms, over all records; NoTimestamp if none has one
	NullKey      bool   // some record has no key
	First        Header // of the first batch: producer ID, epoch, sequence, attributes
}

// Check is the one door for what a client produces: b must be one or more whole batches of magic 2, back to back.
// It verifies frames, magic, CRC32C and codec, that counts, deltas and sequences agree, that no batch claims what
// only brokers may (control, append time, delete horizon), and walks all records, decompressing at most a window
// at a time. A header whose max timestamp is not its records' is put right in place, CRC and all.
//
// For uncompressed batches it allocates nothing.
// Errors: exactly one of ErrCorrupt, ErrInvalid, ErrTooLarge, ErrFormat, ErrCodec, ErrTimestamp.
func Check(b []byte, l Limits) (Info, error) {
	info := Info{MaxTimestamp: NoTimestamp}
	if len(b) == 0 {
		return info, fmt.Errorf("cannot check records: none: %w", ErrInvalid)
	}
	for len(b) > 0 {
		h, err := ReadHeader(b)
		if err != nil {
			return info, err
		}
		if l.MaxBatch > 0 && h.Size() > l.MaxBatch {
			return info, fmt.Errorf("cannot take batch of %d bytes, limit %d: %w", h.Size(), l.MaxBatch, ErrTooLarge)
		}
		if _, err := Verify(b); err != nil {
			return info, err
		}
		if err := h.judge(&l); err != nil {
			return info, err
		}
		batch := b[:h.Size()]
		top, nullKey, err := h.walk(batch[HeaderSize:], &l)
		if err != nil {
			return info, err
		}
		if top != h.MaxTimestamp {
			h.MaxTimestamp = top
			be.PutUint64(batch[posMaxTimestamp:], uint64(top))
			WriteCRC(batch)
			h.CRC = be.Uint32(batch[posCRC:])
		}
		if info.Batches == 0 {
			info.First = h
		}
		info.Batches++
		info.Records += int(h.Count)
		info.MaxTimestamp = max(info.MaxTimestamp, top)
		info.NullKey = info.NullKey || nullKey
		b = b[h.Size():]
	}
	return info, nil
}

// judge checks what the header alone can tell.
func (h *Header) judge(l *Limits) error {
	switch {
	case h.Codec() > Zstd, h.Codec() == Zstd && l.NoZstd:
		return fmt.Errorf("cannot take batch with %s: %w", h.Codec(), ErrCodec)
	case h.LogAppendTime():
		return fmt.Errorf("cannot take batch that is stamped already: %w", ErrTimestamp)
	case h.Attributes&(ControlBit|DeleteHorizonBit) != 0:
		return fmt.Errorf("cannot take batch with attributes %#x from a client: %w", h.Attributes, ErrInvalid)
	case h.Count <= 0 || h.LastDelta != h.Count-1:
		return fmt.Errorf("cannot take batch of %d records with last delta %d: %w", h.Count, h.LastDelta, ErrInvalid)
	case h.ProducerID < -1, h.ProducerID >= 0 && (h.ProducerEpoch < 0 || h.BaseSequence < 0):
		return fmt.Errorf("cannot take batch of producer %d, epoch %d, sequence %d: %w", h.ProducerID, h.ProducerEpoch, h.BaseSequence, ErrInvalid)
	case h.Transactional() && h.ProducerID < 0:
		return fmt.Errorf("cannot take transactional batch without producer: %w", ErrInvalid)
	}
	return nil
}

// decoding has a place for each compressed batch that is walked at a time. Why: each may hold many megabytes;
// more of them than processors would only be preempted holding it, and a thousand clients could ask for it at once.
// Why a package variable: memory and processors belong to the process.
var decoding = make(chan struct{}, runtime.NumCPU())

// walk checks each record of the batch and gives the largest timestamp and whether a key is null.
func (h *Header) walk(payload []byte, l *Limits) (top int64, nullKey bool, err error) {
	if h.Codec() != None {
		decoding <- struct{}{}
		defer func() { <-decoding }()
	}
	var w window
	if err := w.open(h.Codec(), payload, l.MaxDecompressed); err != nil {
		return 0, false, err
	}
	defer w.done()
	top = math.MinInt64
	var bad []BadRecord
	for i := int32(0); i < h.Count; i++ {
		f, err := w.record()
		if err == nil {
			err = h.judgeShape(int64(i), f)
		}
		if err != nil {
			return 0, false, badRecord(i, fmt.Errorf("cannot take record %d of %d: %w", i, h.Count, err))
		}
		ts := h.FirstTimestamp + f.timestamp
		if err := l.judgeRecord(i, f, ts); err != nil && len(bad) < mostBadRecords {
			bad = append(bad, BadRecord{i, err})
		}
		nullKey = nullKey || f.nullKey
		top = max(top, ts)
	}
	end, err := w.end()
	if err == nil && !end {
		err = fmt.Errorf("cannot take batch with more than the %d records it says: %w", h.Count, ErrInvalid)
	}
	if err == nil && len(bad) > 0 {
		err = &RecordError{Records: bad}
	}
	return top, nullKey, err
}

// judgeShape checks what the record with number i says of its own place in the batch.
func (h *Header) judgeShape(i int64, f fields) error {
	switch {
	case f.delta != i:
		return fmt.Errorf("its offset delta is %d: %w", f.delta, ErrInvalid)
	case (h.FirstTimestamp+f.timestamp < h.FirstTimestamp) != (f.timestamp < 0):
		return fmt.Errorf("its timestamp delta is %d: %w", f.timestamp, ErrInvalid)
	}
	return nil
}

// judgeRecord checks the record with number i and timestamp ts against what the topic takes.
func (l *Limits) judgeRecord(i int32, f fields, ts int64) error {
	if f.nullKey && l.NoNullKeys {
		return fmt.Errorf("cannot take record %d without key into a compacted topic: %w", i, ErrInvalid)
	}
	return l.judgeTime(ts)
}

func (l *Limits) judgeTime(ts int64) error {
	if l.LogAppendTime || ts == NoTimestamp {
		return nil
	}
	// Why unsigned: the difference of two int64 may need 64 bits.
	if ahead := uint64(ts) - uint64(l.Now); ts > l.Now && l.MaxAfter > 0 && ahead > uint64(l.MaxAfter) {
		return fmt.Errorf("cannot take timestamp %d: it is %d ms ahead of the broker's clock, the limit message.timestamp.after.max.ms is %d; set the producer's clock right or raise the limit: %w", ts, ahead, l.MaxAfter, ErrTimestamp)
	}
	if behind := uint64(l.Now) - uint64(ts); ts < l.Now && l.MaxBefore > 0 && behind > uint64(l.MaxBefore) {
		return fmt.Errorf("cannot take timestamp %d: it is %d ms behind the broker's clock, the limit message.timestamp.before.max.ms is %d; send newer messages or raise the limit: %w", ts, behind, l.MaxBefore, ErrTimestamp)
	}
	return nil
}

// fields are what Check wants to know of a record.
type fields struct {
	timestamp int64 // delta, ms
	delta     int64 // of the offset
	nullKey   bool
}

// record consumes one record. One that is larger than the window goes by in parts.
func (w *window) record() (fields, error) {
	n, err := w.varint()
	if err != nil {
		return fields{}, err
	}
	if n < 0 || n > math.MaxInt32 {
		return fields{}, errVarint
	}
	if n <= windowSize || w.r == nil {
		if err := w.fill(int(n)); err != nil {
			return fields{}, err
		}
		if int64(len(w.b)) < n {
			return fields{}, errCut
		}
		f, ok := smallFields(w.b[:n])
		if !ok {
			return fields{}, fmt.Errorf("malformed record: %w", ErrInvalid)
		}
		w.b = w.b[n:]
		return f, nil
	}
	return w.largeFields(n)
}

// smallFields reads a record that is in memory. Why without a cursor: this is the broker's hottest loop, and plain
// slices take half the time.
func smallFields(b []byte) (f fields, ok bool) {
	if len(b) == 0 {
		return f, false
	}
	b = b[1:] // attributes
	var n int
	if f.timestamp, n = varint(b); n <= 0 {
		return f, false
	}
	b = b[n:]
	if f.delta, n = varint(b); n <= 0 {
		return f, false
	}
	b = b[n:]
	size, n := varint(b)
	f.nullKey = size == -1
	if b, ok = skipSized(b, size, n, -1); !ok {
		return f, false
	}
	size, n = varint(b)
	if b, ok = skipSized(b, size, n, -1); !ok {
		return f, false
	}
	headers, n := varint(b)
	if n <= 0 || headers < 0 || headers > int64(len(b)) {
		return f, false
	}
	b = b[n:]
	for ; headers > 0; headers-- {
		size, n = varint(b)
		if b, ok = skipSized(b, size, n, 0); !ok {
			return f, false
		}
		size, n = varint(b)
		if b, ok = skipSized(b, size, n, -1); !ok {
			return f, false
		}
	}
	return f, len(b) == 0
}

// skipSized drops a length, which took n bytes, and what it is the length of; least is -1 where null is allowed.
func skipSized(b []byte, size int64, n int, least int64) ([]byte, bool) {
	if n <= 0 || size < least || size > int64(len(b)-n) {
		return nil, false
	}
	return b[n+int(max(size, 0)):], true
}

// largeFields reads a record of n bytes from the stream without holding it.
func (w *window) largeFields(n int64) (f fields, err error) {
	s := streamed{w: w, left: n}
	s.skip(1)
	f.timestamp, f.delta = s.varint(), s.varint()
	key := s.varint()
	f.nullKey = key == -1
	if key != -1 {
		s.skip(key)
	}
	if value := s.varint(); value != -1 {
		s.skip(value)
	}
	headers := s.varint()
	if headers < 0 || headers > s.left {
		s.fail(errVarint)
	}
	for ; headers > 0 && w.err == nil; headers-- {
		s.skip(s.varint())
		if value := s.varint(); value != -1 {
			s.skip(value)
		}
	}
	if w.err == nil && s.left != 0 {
		s.fail(errVarint)
	}
	return f, w.err
}

// streamed is a cursor over the next left bytes of a window.
// Why the error is the window's: kept here it would make the compiler put every window on the heap.
type streamed struct {
	w    *window
	left int64
}

func (s *streamed) fail(err error) {
	if s.w.err == nil {
		s.w.err = err
	}
}

func (s *streamed) varint() int64 {
	if s.w.err != nil {
		return 0
	}
	if err := s.w.fill(maxVarint); err != nil {
		s.fail(err)
		return 0
	}
	b := s.w.b
	v, n := varint(b[:min(int64(len(b)), s.left)])
	if n <= 0 {
		s.fail(errVarint)
		return 0
	}
	s.w.b = b[n:]
	s.left -= int64(n)
	return v
}

func (s *streamed) skip(n int64) {
	if s.w.err != nil {
		return
	}
	if n < 0 || n > s.left {
		s.fail(errVarint)
		return
	}
	s.left -= n
	if err := s.w.skip(n); err != nil {
		s.fail(err)
	}
}
