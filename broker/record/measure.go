package record

import (
	"errors"
	"fmt"
	"io"
)

// Measure decompresses b, which is not a batch, keeps nothing, and gives how many
// bytes it holds.
//
// Errors: ErrCodec, ErrCorrupt, ErrTooLarge beyond max bytes.
func Measure(c Codec, b []byte, max int64) (n int64, err error) {
	if c == None {
		n = int64(len(b))
	} else {
		r, done, err := newDecoder(c, b)
		if errors.Is(err, ErrCodec) {
			return 0, fmt.Errorf("cannot decompress %v: %w", c, err)
		}
		if err != nil {
			return 0, fmt.Errorf("cannot decompress %v: %w: %w", c, ErrCorrupt, err)
		}
		defer done()
		if n, err = io.Copy(io.Discard, io.LimitReader(r, max+1)); err != nil {
			return 0, fmt.Errorf("cannot decompress %v: %w: %w", c, ErrCorrupt, err)
		}
	}
	if n > max {
		return n, fmt.Errorf("cannot take more than %d bytes decompressed: %w", max, ErrTooLarge)
	}
	return n, nil
}
