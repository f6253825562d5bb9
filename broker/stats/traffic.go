package stats

import (
	"encoding/binary"
	"errors"
	"time"
)

// TagTraffic is a tag of the protocol's DescribeLogDirs (version 2 and later). With it, and
// whatever value, a request asks a broker for its Traffic, and in an answer it holds it.
// Source: our own; other brokers and clients pass over tags that they do not know (KIP-482).
const TagTraffic = 10_001

// Traffic is what one process of a broker has counted of its clients, by topic.
type Traffic struct {
	Began  int64         // when the counters began, Unix nanoseconds: another number is another process
	Age    time.Duration // of the counters when they were read, on a clock that nobody sets
	Topics []TopicTraffic
}

// TopicTraffic is one topic's share, in bytes as sent on the wire.
type TopicTraffic struct {
	Name              string
	BytesIn, BytesOut uint64
}

// Traffic gives the counters of now.
func (b *Broker) Traffic() Traffic {
	if b == nil {
		return Traffic{}
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	t := Traffic{Began: b.began.UnixNano(), Age: time.Since(b.began), Topics: make([]TopicTraffic, 0, len(b.mu.topics))}
	for name, c := range b.mu.topics {
		t.Topics = append(t.Topics, TopicTraffic{Name: name, BytesIn: c.own.bytesIn.Get(), BytesOut: c.own.bytesOut.Get()})
	}
	return t
}

// Append writes it behind b, for ReadTraffic: version 0, began, age, number of topics, then of
// each length and bytes of its name and both counters, all numbers as varints.
func (t Traffic) Append(b []byte) []byte {
	b = append(b, 0)
	b = binary.AppendVarint(b, t.Began)
	b = binary.AppendVarint(b, int64(t.Age))
	b = binary.AppendUvarint(b, uint64(len(t.Topics)))
	for _, s := range t.Topics {
		b = binary.AppendUvarint(b, uint64(len(s.Name)))
		b = append(b, s.Name...)
		b = binary.AppendUvarint(b, s.BytesIn)
		b = binary.AppendUvarint(b, s.BytesOut)
	}
	return b
}

var errTraffic = errors.New("cannot read traffic counters: not in a form that is known here")

// ReadTraffic reads what Append wrote.
//
// Errors: it is cut short, or written by a later program.
func ReadTraffic(b []byte) (Traffic, error) {
	if len(b) == 0 || b[0] != 0 {
		return Traffic{}, errTraffic
	}
	r := trafficReader{rest: b[1:]}
	t := Traffic{Began: r.varint(), Age: time.Duration(r.varint())}
	n := r.uvarint()
	if n > uint64(len(r.rest)) { // a topic takes more than a byte
		return Traffic{}, errTraffic
	}
	t.Topics = make([]TopicTraffic, 0, n)
	for range n {
		name := r.bytes(r.uvarint())
		t.Topics = append(t.Topics, TopicTraffic{Name: string(name), BytesIn: r.uvarint(), BytesOut: r.uvarint()})
	}
	if r.short || len(r.rest) > 0 {
		return Traffic{}, errTraffic
	}
	return t, nil
}

type trafficReader struct {
	rest  []byte
	short bool
}

func (r *trafficReader) took(n int) {
	if n <= 0 {
		r.short, r.rest = true, nil
		return
	}
	r.rest = r.rest[n:]
}

func (r *trafficReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.took(n)
	return v
}

func (r *trafficReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.took(n)
	return v
}

func (r *trafficReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
