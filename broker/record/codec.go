package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how a batch's records are compressed.
type Codec int8

// The codecs, as the attributes of a batch number them.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// ParseCodec gives the codec of a Kafka name: none, uncompressed, gzip, snappy, lz4, zstd.
func ParseCodec(name string) (Codec, error) {
	if name == "uncompressed" {
		return None, nil
	}
	for c := None; c <= Zstd; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return None, fmt.Errorf("cannot parse compression type %q: %w", name, ErrCodec)
}

// Bounds of one decoder.
const (
	// maxStream is the largest zstd window that is decoded as a stream. Why: the decoder
	// allocates all of it before the first byte comes out. A batch that asks for more
	// (levels above 19) is decoded whole, which takes what it really holds.
	maxStream = 8 << 20
	// maxWindow is the largest zstd window at all.
	// Source: zstd, ZSTD_WINDOWLOG_LIMIT_DEFAULT; Kafka's own limit.
	maxWindow = 128 << 20
	// maxSnappyBlock is the largest decoded snappy block. Why: a raw stream is one block
	// whose length is only claimed; the format cannot expand by more than 64 to 3.
	maxSnappyBlock = 64 << 20
	snappyRatio    = 22
)

// Why package variables: pools are caches without meaning; a decoder of zstd costs 100 µs and much garbage to make.
var (
	gzipReaders   sync.Pool
	snappyReaders sync.Pool
	zstdReaders   sync.Pool
	lz4Readers    sync.Pool
	buffers       = sync.Pool{New: func() any { return new([windowSize]byte) }}
)

// newDecoder gives a stream of decompressed records and a function that gives the decoder back.
func newDecoder(c Codec, b []byte) (io.Reader, func(), error) {
	src := bytes.NewReader(b)
	switch c {
	case Gzip:
		r, _ := gzipReaders.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		if err := r.Reset(src); err != nil {
			return nil, nil, err
		}
		return r, func() { gzipReaders.Put(r) }, nil
	case Snappy:
		r, _ := snappyReaders.Get().(*snappyReader)
		if r == nil {
			r = new(snappyReader)
		}
		r.reset(b)
		return r, func() { r.reset(nil); snappyReaders.Put(r) }, nil
	case LZ4:
		r, _ := lz4Readers.Get().(*lz4.Reader)
		if r == nil {
			r = lz4.NewReader(nil)
		}
		r.Reset(src)
		return r, func() { r.Reset(nil); lz4Readers.Put(r) }, nil
	case Zstd:
		return newZstd(b)
	}
	return nil, nil, ErrCodec
}

func newZstd(b []byte) (io.Reader, func(), error) {
	d, _ := zstdReaders.Get().(*zstd.Decoder)
	if d == nil {
		var err error
		d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(DefaultMaxDecompressed))
		if err != nil {
			return nil, nil, err
		}
	}
	var h zstd.Header
	if h.Decode(b) == nil && (h.WindowSize > maxStream || h.SingleSegment && h.FrameContentSize > maxStream) {
		whole, err := d.DecodeAll(b, nil)
		zstdReaders.Put(d)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, nil, errDecoded
		}
		return bytes.NewReader(whole), func() {}, err
	}
	if err := d.Reset(bytes.NewReader(b)); err != nil {
		return nil, nil, err
	}
	return d, func() { _ = d.Reset(nil); zstdReaders.Put(d) }, nil
}

// xerialMagic starts the framing that Java's snappy stream writes; version and lowest compatible version follow it.
// Source: snappy-java, SnappyCodec.
var xerialMagic = [8]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeader = 16       // magic, version, compatible version
	xerialBlock  = 32 << 10 // bytes of one block before compression, as Java writes them
)

// snappyReader decodes blocks: one that fills the input, or xerial's, each with its length before it.
type snappyReader struct {
	src    []byte
	framed bool
	buf    []byte // decoded and not yet read: buf[at:]
	at     int
}

// reset sets r on a new stream. It keeps only the memory of a usual block.
func (r *snappyReader) reset(b []byte) {
	buf := r.buf[:0]
	if cap(buf) > windowSize {
		buf = nil
	}
	*r = snappyReader{src: b, buf: buf}
	if len(b) >= xerialHeader && [8]byte(b) == xerialMagic {
		r.framed, r.src = true, b[xerialHeader:]
	}
}

var errSnappy = errors.New("malformed snappy stream")

func (r *snappyReader) Read(p []byte) (int, error) {
	for r.at == len(r.buf) {
		if len(r.src) == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.at:])
	r.at += n
	return n, nil
}

func (r *snappyReader) next() error {
	block := r.src
	r.src = nil
	if r.framed {
		if len(block) < 4 {
			return errSnappy
		}
		n := binary.BigEndian.Uint32(block)
		if uint64(n) > uint64(len(block)-4) {
			return errSnappy
		}
		block, r.src = block[4:4+n], block[4+n:]
	}
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return err
	}
	if n > maxSnappyBlock || n > snappyRatio*len(block)+64 {
		return errSnappy
	}
	r.buf, err = snappy.Decode(r.buf[:cap(r.buf)], block)
	r.at = 0
	return err
}

// compress appends src, compressed, to dst.
func compress(dst []byte, c Codec, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		dst = append(dst, xerialMagic[:]...)
		dst = binary.BigEndian.AppendUint32(dst, 1)
		dst = binary.BigEndian.AppendUint32(dst, 1)
		for len(src) > 0 {
			n := min(len(src), xerialBlock)
			block := snappy.Encode(nil, src[:n])
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
			dst = append(dst, block...)
			src = src[n:]
		}
		return dst, nil
	}
	w := bytes.NewBuffer(dst)
	enc, err := newEncoder(c, w)
	if err != nil {
		return dst, err
	}
	if _, err := enc.Write(src); err != nil {
		return dst, err
	}
	if err := enc.Close(); err != nil {
		return dst, err
	}
	return w.Bytes(), nil
}

func newEncoder(c Codec, w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriter(w), nil
	case LZ4:
		enc := lz4.NewWriter(w)
		// Why: Kafka's own reader knows neither linked blocks nor a checksum of the content.
		err := enc.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1))
		return enc, err
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}
	return nil, ErrCodec
}
