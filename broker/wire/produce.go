package wire

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxProduceVersion is the newest version that decodeProduce knows.
const maxProduceVersion = 13

// maxKeptEntries is how many partitions a frame keeps room for until its next request.
const maxKeptEntries = 1024

// decodeProduce reads a walked body into req, whose slices are used again; tags that nobody knows are left out.
// Why by hand: each request of a producer would leave six objects to the garbage collector, and more with each topic.
// Source: Kafka protocol, ProduceRequest 0–13.
func decodeProduce(req *kmsg.ProduceRequest, s *Session, body []byte, version int16, flexible bool) error {
	w := walker{b: body, version: version, flexible: flexible}
	req.Version, req.TransactionID, req.UnknownTags = version, nil, kmsg.Tags{}
	if version >= 3 {
		if id := w.nullable(2); id != nil {
			text := string(id)
			req.TransactionID = &text
		}
	}
	req.Acks, req.TimeoutMillis = int16(be.Uint16(w.next(2))), int32(be.Uint32(w.next(4)))
	n := w.length(4)
	req.Topics = extend(req.Topics, n)
	for i := range req.Topics {
		t := &req.Topics[i]
		*t = kmsg.ProduceRequestTopic{Partitions: t.Partitions}
		if version >= 13 {
			copy(t.TopicID[:], w.next(len(t.TopicID)))
		} else {
			name := w.nullable(2)
			if name == nil {
				w.fail(errLength) // null is no name
			}
			t.Topic = s.topicName(name)
		}
		t.Partitions = extend(t.Partitions, w.length(4))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			*p = kmsg.ProduceRequestTopicPartition{Partition: int32(be.Uint32(w.next(4)))}
			p.Records = w.nullable(4)
			w.end()
		}
		w.end()
	}
	w.end()
	if w.err != nil {
		return fmt.Errorf("cannot decode request Produce version %d: %w", version, w.err)
	}
	return nil
}

// extend gives s with n elements, which hold what they held.
func extend[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

// next gives n bytes; after an error zeros.
func (w *walker) next(n int) []byte {
	if n > len(w.b) {
		w.fail(errShort)
	}
	if w.err != nil {
		return make([]byte, min(n, 16)) // what is longer has its length checked before
	}
	b := w.b[:n:n]
	w.b = w.b[n:]
	return b
}

// nullable gives the bytes of a string (width 2) or of bytes (width 4); nil: it is null.
func (w *walker) nullable(width int) []byte {
	n := w.nullableLength(width)
	if w.err != nil || n < 0 {
		return nil
	}
	return w.next(n)
}

// end reads over the tags of a structure.
func (w *walker) end() {
	if w.flexible {
		w.tags(&structure{})
	}
}

// forget makes a frame's request ready for the next one.
func (f *frame) forget() {
	kept := 0
	for i := range f.req.Topics {
		kept += cap(f.req.Topics[i].Partitions)
	}
	if kept+cap(f.req.Topics) > maxKeptEntries {
		f.req = kmsg.ProduceRequest{}
	}
}
