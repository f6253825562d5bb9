package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/belfry-mq/belfry/broker/record"
)

// checkSize is how much of a segment is read at a time to check it.
const checkSize = 1 << 20

// rotten tells whether an error says that bytes are not what was written, as opposed to a
// disk that fails: what was let in can be decoded, and files are as long as was found.
func rotten(err error) bool {
	return errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrInvalid) || errors.Is(err, record.ErrFormat) ||
		errors.Is(err, record.ErrCodec) || errors.Is(err, record.ErrTooLarge) || errors.Is(err, io.ErrUnexpectedEOF)
}

// checker reads the batches of a segment file and proves each: frame, magic, CRC,
// offsets and epochs that do not go back.
type checker struct {
	f     io.ReaderAt
	pos   int64 // of the next batch
	size  int64 // of the file
	next  record.Offset
	epoch record.Epoch

	buf []byte
	at  int64 // position of buf
	n   int   // valid bytes in buf
}

// fill brings n bytes at pos into the buffer.
func (c *checker) fill(n int64) ([]byte, error) {
	if c.pos < c.at || c.pos+n > c.at+int64(c.n) {
		want := min(max(n, checkSize), c.size-c.pos)
		if int64(cap(c.buf)) < want {
			c.buf = make([]byte, want)
		}
		got, err := c.f.ReadAt(c.buf[:want], c.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		c.at, c.n = c.pos, got
	}
	b := c.buf[c.pos-c.at : c.n]
	if int64(len(b)) < n {
		return nil, errDamaged{fmt.Errorf("%d of %d bytes: %w", len(b), n, errShort)}
	}
	return b[:n], nil
}

// batch gives the next batch's header and steps behind it.
// Errors: io.EOF at the end; errDamaged for what is no good batch; others are trouble with the disk.
func (c *checker) batch() (record.Header, error) {
	if c.pos >= c.size {
		return record.Header{}, io.EOF
	}
	b, err := c.fill(record.HeaderSize)
	if err != nil {
		return record.Header{}, err
	}
	h, err := record.ReadHeader(b)
	if err != nil {
		return h, errDamaged{err}
	}
	if int64(h.Size()) > c.size-c.pos {
		return h, errDamaged{fmt.Errorf("batch of %d bytes, %d are there: %w", h.Size(), c.size-c.pos, errShort)}
	}
	if b, err = c.fill(int64(h.Size())); err != nil {
		return h, err
	}
	if _, err = record.Verify(b); err != nil && !planted("skipped check sums") {
		return h, errDamaged{err}
	}
	if h.Base < c.next || h.LastDelta < 0 || h.Last() < h.Base {
		return h, errDamaged{fmt.Errorf("batch from offset %d to %d, expected %d or above", h.Base, h.Last(), c.next)}
	}
	if h.LeaderEpoch < c.epoch {
		return h, errDamaged{fmt.Errorf("batch of epoch %d behind one of %d", h.LeaderEpoch, c.epoch)}
	}
	c.next, c.epoch = h.Last()+1, h.LeaderEpoch
	c.pos += int64(h.Size())
	return h, nil
}

// rest checks all batches up to the end.
func (c *checker) rest() error {
	for {
		if _, err := c.batch(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
