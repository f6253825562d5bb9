package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/belfry-mq/belfry/broker/topic"
)

// Errors of decoding; compare with errors.Is.
var (
	// ErrCorrupt: the bytes are not what was written.
	ErrCorrupt = errors.New("damaged metadata")
	// ErrUnknown: the bytes are whole, but this version of the program cannot read them.
	ErrUnknown = errors.New("unknown metadata format")
)

// Versions that this program writes, and the newest it reads.
const (
	batchVersion    = 1
	recordVersion   = 0
	snapshotVersion = 1
)

const (
	batchMagic = 0xB7 // first byte of a batch
	crcSize    = 4
	batchHead  = 1 + 1 // magic, version
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBatch appends a batch of records to b as FORMAT.md says.
func AppendBatch(b []byte, records []Record) []byte {
	start := len(b)
	b = append(b, batchMagic, batchVersion)
	b = binary.AppendUvarint(b, uint64(len(records)))
	var scratch encoder
	for _, r := range records {
		b = appendRecord(b, &scratch, r)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// DecodeBatch reads what AppendBatch wrote. The records do not alias b.
//
// Errors: ErrCorrupt, ErrUnknown.
func DecodeBatch(b []byte) ([]Record, error) {
	if len(b) < batchHead+1+crcSize {
		return nil, fmt.Errorf("%w: a batch of %d bytes is shorter than its frame", ErrCorrupt, len(b))
	}
	if b[0] != batchMagic {
		return nil, fmt.Errorf("%w: a batch starts with 0x%02x, not 0x%02x", ErrCorrupt, b[0], batchMagic)
	}
	body, sum := b[:len(b)-crcSize], binary.LittleEndian.Uint32(b[len(b)-crcSize:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: a batch has CRC 0x%08x, its bytes give 0x%08x", ErrCorrupt, sum, got)
	}
	if b[1] != batchVersion {
		return nil, fmt.Errorf("%w: batch version %d, this program reads %d: use the newer program that wrote it",
			ErrUnknown, b[1], batchVersion)
	}
	d := decoder{b: body[batchHead:]}
	records, err := d.records(d.count(minRecord))
	if err != nil {
		return nil, err
	}
	if err := d.end("batch"); err != nil {
		return nil, err
	}
	return records, nil
}

// minRecord is the fewest bytes a record can take: type, version, length.
const minRecord = 3

func appendRecord(b []byte, scratch *encoder, r Record) []byte {
	scratch.b = scratch.b[:0]
	r.encode(scratch)
	b = binary.AppendUvarint(b, uint64(r.kind()))
	b = binary.AppendUvarint(b, recordVersion)
	b = binary.AppendUvarint(b, uint64(len(scratch.b)))
	return append(b, scratch.b...)
}

// records reads count framed records.
func (d *decoder) records(count int) ([]Record, error) {
	records := make([]Record, 0, count)
	for range count {
		r, err := d.record()
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// record reads one framed record.
func (d *decoder) record() (Record, error) {
	k, version := d.uint(), d.uint()
	body := d.take(d.uint())
	if d.err != nil {
		return nil, d.err
	}
	r := newRecord(kind(k))
	if r == nil {
		return nil, fmt.Errorf("%w: record type %d: use the newer program that wrote it", ErrUnknown, k)
	}
	if version != recordVersion {
		return nil, fmt.Errorf("%w: version %d of record type %d, this program reads %d: use the newer program that wrote it",
			ErrUnknown, version, k, recordVersion)
	}
	in := decoder{b: body}
	r.decode(&in)
	if err := in.end("record"); err != nil {
		return nil, fmt.Errorf("record type %d: %w", k, err)
	}
	return r, nil
}

// encoder writes the fields of a record.
type encoder struct{ b []byte }

func (e *encoder) int(v int64) { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) float(v float64) {
	e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(v))
}
func (e *encoder) id(v topic.ID) { e.b = append(e.b, v[:]...) }
func (e *encoder) length(n int)  { e.b = binary.AppendUvarint(e.b, uint64(n)) }
func (e *encoder) text(v string) { e.length(len(v)); e.b = append(e.b, v...) }
func (e *encoder) flag(v bool)   { e.b = append(e.b, flagByte(v)) }
func (e *encoder) ids(v []topic.ID) {
	e.length(len(v))
	for _, id := range v {
		e.id(id)
	}
}

func (e *encoder) brokers(v []BrokerID) {
	e.length(len(v))
	for _, id := range v {
		e.int(int64(id))
	}
}

func flagByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// decoder reads the fields of a record. After the first error it gives zeroes.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
	}
	d.b = nil
}

// end tells the first error, or that bytes are left over.
func (d *decoder) end(what string) error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes are left over at the end of a %s", len(d.b), what)
	}
	return d.err
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("a number is cut short or too long")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number is cut short or too long")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int32() int32 {
	v := d.int()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail("the number %d does not fit 32 bits", v)
		return 0
	}
	return int32(v)
}

func (d *decoder) int16() int16 {
	v := d.int()
	if v < math.MinInt16 || v > math.MaxInt16 {
		d.fail("the number %d does not fit 16 bits", v)
		return 0
	}
	return int16(v)
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("%d bytes are announced, %d are there", n, len(d.b))
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// count reads the number of items that follow, each at least size bytes long.
// Why size: a forged count must not make us allocate more than was received.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail("%d items are announced in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) float() float64 {
	b := d.take(8)
	if len(b) < 8 {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func (d *decoder) text() string { return string(d.take(d.uint())) }

func (d *decoder) flag() bool {
	b := d.take(1)
	if len(b) == 1 && b[0] > 1 {
		d.fail("the byte 0x%02x is neither true nor false", b[0])
	}
	return len(b) == 1 && b[0] == 1
}

func (d *decoder) id() (id topic.ID) {
	copy(id[:], d.take(uint64(len(id))))
	return id
}

func (d *decoder) ids() []topic.ID {
	n := d.count(len(topic.ID{}))
	if n == 0 {
		return nil
	}
	ids := make([]topic.ID, n)
	for i := range ids {
		ids[i] = d.id()
	}
	return ids
}

func (d *decoder) brokers() []BrokerID {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	ids := make([]BrokerID, n)
	for i := range ids {
		ids[i] = BrokerID(d.int32())
	}
	return ids
}
