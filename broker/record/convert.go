package record

import (
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
)

// Positions in a message of magic 0 or 1, and sizes.
// Source: Kafka protocol, "Old message format".
const (
	posMessageCRC        = LogOverhead
	posMessageMagic      = LogOverhead + 4
	posMessageAttributes = LogOverhead + 5
	posMessageTimestamp  = LogOverhead + 6 // magic 1 only
	minMessage           = LogOverhead + 14
)

// maxConverted is what an old message set may grow to, in bytes. Why so much less than what Check takes: the
// converted records are held.
const maxConverted = 32 << 20

// Legacy says whether b begins with a message of magic 0 or 1, which must be converted before Check.
func Legacy(b []byte) bool {
	return len(b) > posMagic && b[posMagic] < 2
}

// Convert makes one batch of magic 2 of a message set of magic 0 or 1, as old clients produce it; it is compressed as
// the first message was. The limits are not applied, but for MaxDecompressed: the batch has to pass Check like any other.
// Records of magic 0 get no timestamp.
// Errors: ErrCorrupt, ErrInvalid, ErrCodec, ErrTimestamp, ErrTooLarge as Check.
func Convert(b []byte, l Limits) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("cannot convert messages: none: %w", ErrInvalid)
	}
	left := int64(maxConverted)
	if l.MaxDecompressed > 0 {
		left = min(left, l.MaxDecompressed)
	}
	out := NewBuilder(None)
	for first := true; len(b) > 0; first = false {
		m, rest, err := readMessage(b)
		if err != nil {
			return nil, err
		}
		b = rest
		if first {
			out.Codec = m.codec
		}
		if m.codec == None {
			out.Add(m.record())
		} else if left, err = convertInner(out, m, left); err != nil {
			return nil, err
		}
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("cannot convert messages: no records: %w", ErrInvalid)
	}
	return out.Build()
}

// convertInner adds the messages inside a compressed one and gives what may still be decompressed.
func convertInner(out *Builder, m message, left int64) (int64, error) {
	inner, err := m.decompress(left)
	if err != nil {
		return 0, err
	}
	left -= int64(len(inner))
	for len(inner) > 0 {
		im, rest, err := readMessage(inner)
		if err != nil {
			return 0, err
		}
		if im.codec != None || im.magic != m.magic {
			return 0, fmt.Errorf("cannot convert message inside a compressed one: %s, magic %d in %d: %w", im.codec, im.magic, m.magic, ErrInvalid)
		}
		out.Add(im.record())
		inner = rest
	}
	return left, nil
}

// message is one message of magic 0 or 1. Its slices alias what it was read from.
type message struct {
	magic      int8
	codec      Codec
	timestamp  int64
	key, value []byte // nil: null
}

func (m message) record() Record {
	return Record{Timestamp: m.timestamp, Key: m.key, Value: m.value}
}

// readMessage reads the message at the start of b and gives what follows it.
func readMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < minMessage {
		return m, nil, fmt.Errorf("cannot read message: %d bytes: %w", len(b), ErrCorrupt)
	}
	size := int64(int32(be.Uint32(b[posLength:])))
	if size < minMessage-LogOverhead || size > int64(len(b)-LogOverhead) {
		return m, nil, fmt.Errorf("cannot read message of %d bytes in %d: %w", size, len(b), ErrCorrupt)
	}
	b, rest = b[:size+LogOverhead], b[size+LogOverhead:]
	m.magic = int8(b[posMessageMagic])
	if m.magic != 0 && m.magic != 1 {
		return m, nil, fmt.Errorf("cannot read message: magic %d among old ones: %w", m.magic, ErrCorrupt)
	}
	if got, want := crc32.ChecksumIEEE(b[posMessageMagic:]), be.Uint32(b[posMessageCRC:]); got != want {
		return m, nil, fmt.Errorf("cannot read message: CRC %08x, it says %08x: %w", got, want, ErrCorrupt)
	}
	attributes := b[posMessageAttributes]
	m.codec = Codec(attributes & CodecMask)
	if m.codec >= Zstd {
		return m, nil, fmt.Errorf("cannot read message with %s: %w", m.codec, ErrCodec)
	}
	m.timestamp = NoTimestamp
	body := b[posMessageTimestamp:]
	if m.magic == 1 {
		if attributes&LogAppendTimeBit != 0 {
			return m, nil, fmt.Errorf("cannot read message that is stamped already: %w", ErrTimestamp)
		}
		if len(body) < 8 {
			return m, nil, fmt.Errorf("cannot read message: no timestamp: %w", ErrCorrupt)
		}
		m.timestamp = int64(be.Uint64(body))
		// Why also the largest: its distance from no timestamp does not fit the delta of magic 2.
		if m.timestamp < NoTimestamp || m.timestamp == math.MaxInt64 {
			return m, nil, fmt.Errorf("cannot read message with timestamp %d: %w", m.timestamp, ErrTimestamp)
		}
		body = body[8:]
	}
	var ok bool
	if m.key, body, ok = sizedBytes(body); ok {
		m.value, body, ok = sizedBytes(body)
	}
	if !ok || len(body) != 0 {
		return m, nil, fmt.Errorf("cannot read message: key and value do not fill it: %w", ErrCorrupt)
	}
	return m, rest, nil
}

// sizedBytes reads a length of 32 bits and so many bytes; -1 is null.
func sizedBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(int32(be.Uint32(b)))
	b = b[4:]
	if n == -1 {
		return nil, b, true
	}
	if n < 0 || n > int64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// decompress gives the message set inside a compressed message.
func (m message) decompress(limit int64) ([]byte, error) {
	src := m.value
	if m.codec == LZ4 && m.magic == 0 {
		src = mendLZ4(src, false)
	}
	r, free, err := newDecoder(m.codec, src)
	if err != nil {
		return nil, fmt.Errorf("cannot decompress message (%s): %w: %w", m.codec, err, ErrCorrupt)
	}
	defer free()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress message (%s): %w: %w", m.codec, err, ErrCorrupt)
	}
	if int64(len(b)) > limit {
		return nil, errDecoded
	}
	return b, nil
}

// Layout of the start of an LZ4 frame.
// Source: LZ4 frame format 1.6.
const (
	lz4Magic      = 4 // bytes before the descriptor
	lz4SizeFlag   = 0x08
	lz4DictFlag   = 0x01
	lz4Descriptor = 2
)

// mendLZ4 gives a copy of an LZ4 frame with its header checksum rewritten. Kafka's clients computed the checksum of
// magic 0 over the frame's magic number too; wrong=true makes that mistake again, for them.
// Source: KAFKA-3160.
func mendLZ4(frame []byte, wrong bool) []byte {
	n := lz4Descriptor
	if len(frame) > lz4Magic {
		if frame[lz4Magic]&lz4SizeFlag != 0 {
			n += 8
		}
		if frame[lz4Magic]&lz4DictFlag != 0 {
			n += 4
		}
	}
	if len(frame) <= lz4Magic+n {
		return frame // the decoder will say what is wrong
	}
	from := lz4Magic
	if wrong {
		from = 0
	}
	out := append([]byte(nil), frame...)
	out[lz4Magic+n] = byte(xxh32(frame[from:lz4Magic+n]) >> 8)
	return out
}

// xxh32 is the 32-bit xxHash with seed 0 of fewer than 16 bytes; more, which a wrong checksum may cover in a frame
// that no Kafka client writes, give a value that matches nothing.
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h := uint32(p5) + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		w := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		h = bits.RotateLeft32(h+w*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
