package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
)

// maxDowngraded bounds the bytes that one fetch of an old client makes us hold.
const maxDowngraded = 8 << 20

// modern gives the records as batches of magic 2: what clients before 0.11 send is
// made into one.
func modern(b []byte, version int16) ([]byte, error) {
	if !record.Legacy(b) {
		return b, nil
	}
	if version >= 3 {
		return nil, refuse(kerr.UnsupportedForMessageFormat, fmt.Sprintf("old message format in a produce request of version %d; since version 3 the format is 2", version))
	}
	return record.Convert(b, record.Limits{})
}

// downgrade makes the records of a result readable for clients before 0.11: Fetch
// 2 and 3 know messages of magic 1, 0 and 1 those of magic 0.
//
// It gives the offset behind what was read.
func (res *result) downgrade(version int16) (next record.Offset, err error) {
	magic := int8(0)
	if version >= 2 {
		magic = 1
	}
	b := make([]byte, res.got.Slice.Len())
	if _, err := res.got.Slice.ReadAt(b, 0); err != nil {
		return 0, fmt.Errorf("cannot read batches at offset %d of %q: %w", res.want.offset, res.want.name, err)
	}
	old := make([]byte, 0, len(b))
	for len(b) > 0 {
		h, err := record.ReadHeader(b)
		if err != nil {
			return 0, err
		}
		next = h.Last() + 1
		if old, err = record.Downgrade(old, b[:h.Size()], magic); err != nil {
			return 0, err
		}
		b = b[h.Size():]
	}
	res.old = old
	return next, nil
}
