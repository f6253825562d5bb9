package record

import (
	"fmt"
	"hash/crc32"
)

// Downgrade appends to dst, as messages of magic 0 or 1, what a client that does not know magic 2 may see of one
// batch: no headers, no transaction markers, with magic 0 no timestamps. A compressed batch becomes a compressed
// message. Offsets stay as they are.
// Requires: batch is whole and was checked; magic is 0 or 1.
// Errors: ErrCodec for zstd, which these formats do not have; else as Each.
func Downgrade(dst, batch []byte, magic int8) ([]byte, error) {
	h, err := ReadHeader(batch)
	if err != nil {
		return dst, err
	}
	switch {
	case magic != 0 && magic != 1:
		panic(fmt.Sprintf("BUG: downgrade to magic %d", magic))
	case h.Control():
		return dst, nil
	case h.Codec() == Zstd:
		return dst, fmt.Errorf("cannot downgrade batch at offset %d: %s: %w", h.Base, h.Codec(), ErrCodec)
	}
	set, base := dst, Offset(0)
	if h.Codec() != None {
		set = nil
		if magic == 1 {
			base = h.Base // inner offsets of magic 1 are relative
		}
	}
	n, last := 0, Offset(0)
	top := int64(NoTimestamp)
	err = Each(batch, func(r Record) error {
		n++
		last, top = r.Offset, max(top, r.Timestamp)
		set = appendMessage(set, r.Offset-base, magic, h.Attributes&LogAppendTimeBit, r)
		return nil
	})
	if err != nil || n == 0 {
		return dst, err
	}
	if h.Codec() == None {
		return set, nil
	}
	value, err := compress(nil, h.Codec(), set)
	if err != nil {
		return dst, fmt.Errorf("cannot downgrade batch at offset %d: %w", h.Base, err)
	}
	if h.Codec() == LZ4 && magic == 0 {
		value = mendLZ4(value, true)
	}
	return appendMessage(dst, last, magic, h.Attributes&(CodecMask|LogAppendTimeBit), Record{Timestamp: top, Value: value}), nil
}

// appendMessage appends one message of magic 0 or 1.
func appendMessage(dst []byte, o Offset, magic int8, attributes int16, r Record) []byte {
	at := len(dst)
	dst = be.AppendUint64(dst, uint64(o))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // length and CRC follow
	if magic == 0 {
		attributes &= CodecMask
	}
	dst = append(dst, byte(magic), byte(attributes))
	if magic == 1 {
		dst = be.AppendUint64(dst, uint64(r.Timestamp))
	}
	dst = appendSized(dst, r.Key)
	dst = appendSized(dst, r.Value)
	be.PutUint32(dst[at+posLength:], uint32(len(dst)-at-LogOverhead))
	be.PutUint32(dst[at+posMessageCRC:], crc32.ChecksumIEEE(dst[at+posMessageMagic:]))
	return dst
}

func appendSized(b, v []byte) []byte {
	if v == nil {
		return be.AppendUint32(b, 1<<32-1)
	}
	b = be.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
