package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
)

// checkSizes holds the batches to max.message.bytes.
//
// What is measured: as in Kafka the batch as it was sent, header and compression
// included. Beyond Kafka, one uncompressed record that travels alone is measured by
// its own bytes, key + value + headers. Why: the specification promises messages of
// 10 485 760 bytes, and a batch that holds one is some 70 bytes longer; the largest
// message is accepted to the byte, and one byte more is refused.
func checkSizes(b []byte, limit int64) error {
	for len(b) > 0 {
		h, err := record.ReadHeader(b)
		if err != nil {
			return err
		}
		if h.Size() > len(b) {
			return nil // cut short: the check says so
		}
		if size := int64(h.Size()); size > limit {
			if h.Count != 1 || h.Codec() != 0 {
				return refuse(kerr.MessageTooLarge, fmt.Sprintf("the batch has %d bytes as sent, the limit max.message.bytes is %d: send smaller batches or raise it", size, limit))
			}
			payload, err := payloadOf(b[:h.Size()])
			if err != nil {
				return err
			}
			if payload > limit {
				return refuse(kerr.MessageTooLarge, fmt.Sprintf("the message has %d bytes (key, value and headers), the limit max.message.bytes is %d: send it in parts or raise the limit", payload, limit))
			}
		}
		b = b[h.Size():]
	}
	return nil
}

// payloadOf gives the bytes of keys, values and headers of an uncompressed batch.
func payloadOf(batch []byte) (int64, error) {
	var n int64
	err := record.Each(batch, func(r record.Record) error {
		n += int64(len(r.Key) + len(r.Value))
		for _, h := range r.Headers {
			n += int64(len(h.Key) + len(h.Value))
		}
		return nil
	})
	return n, err
}
