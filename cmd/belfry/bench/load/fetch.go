package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchVersion is the newest version of Fetch that names topics, which all peers speak.
const fetchVersion = 11

// Most bytes of an answer, and of a partition in it: as the consumer of this package asks for.
const (
	fetchBytes     = 50 << 20
	partitionBytes = 4 << 20
)

// fetcher asks for records on a connection of its own and looks only at the heads of batches.
type fetcher struct {
	conn  net.Conn
	topic string
	next  []int64 // offset of each partition
	ends  []int64
	buf   []byte
}

// Fetch reads a topic for a while, over and over, as Consume does, but decodes no messages: what
// comes is what the broker can send, not what a client can take. Bytes are those of batches.
func (k Kafka) Fetch(ctx context.Context, topic string, d time.Duration) (Amount, error) {
	c, err := k.client()
	if err != nil {
		return Amount{}, err
	}
	defer c.Close()
	listed, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		return Amount{}, err
	}
	f := &fetcher{topic: topic, next: make([]int64, len(listed[topic])), ends: make([]int64, len(listed[topic]))}
	for p, o := range listed[topic] {
		f.ends[p] = o.Offset
	}
	var dialer net.Dialer
	if f.conn, err = dialer.DialContext(ctx, "tcp", k.Addr); err != nil {
		return Amount{}, err
	}
	defer f.conn.Close()
	if err := f.conn.SetDeadline(time.Now().Add(d + silence)); err != nil {
		return Amount{}, err
	}
	var sum int64
	begin := time.Now()
	for time.Since(begin) < d && ctx.Err() == nil {
		n, err := f.round()
		if err != nil {
			return Amount{}, fmt.Errorf("cannot fetch: %w", err)
		}
		sum += n
		if f.ended() {
			clear(f.next)
		}
	}
	return Amount{sum, time.Since(begin)}, ctx.Err()
}

func (f *fetcher) ended() bool {
	for p, end := range f.ends {
		if f.next[p] < end {
			return false
		}
	}
	return true
}

// round asks once for all partitions that are not at their end, and gives the bytes of records.
func (f *fetcher) round() (sum int64, err error) {
	q := kmsg.NewPtrFetchRequest()
	q.SetVersion(fetchVersion)
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes, q.SessionEpoch = 500, 1, fetchBytes, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.topic
	for p := range f.next {
		if f.next[p] < f.ends[p] {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(p), f.next[p], partitionBytes
			t.Partitions = append(t.Partitions, rp)
		}
	}
	q.Topics = append(q.Topics, t)
	resp, err := f.ask(q)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, err
			}
			n, next := heads(p.RecordBatches)
			if n > 0 {
				f.next[p.Partition] = next
				sum += n
			}
		}
	}
	if sum == 0 {
		return 0, errors.New("an answer without records")
	}
	return sum, nil
}

func (f *fetcher) ask(q *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))
	if _, err := f.conn.Write(format.AppendRequest(nil, q, 1)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(f.conn, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n < 4 || n > 2*fetchBytes {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	f.buf = f.buf[:n]
	if _, err := io.ReadFull(f.conn, f.buf); err != nil {
		return nil, err
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(fetchVersion)
	return resp, resp.ReadFrom(f.buf[4:]) // after the correlation
}

// heads walks over batches and gives the bytes of the whole ones, and the offset after the last.
// Source: Kafka's message format 2: base offset, length, epoch, magic, CRC, attributes, last offset delta.
func heads(b []byte) (n, next int64) {
	const prefix, delta = 12, 23
	for len(b) >= delta+4 {
		size := prefix + int64(binary.BigEndian.Uint32(b[8:]))
		if size > int64(len(b)) || size < delta+4 {
			break
		}
		next = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[delta:])) + 1
		n += size
		b = b[size:]
	}
	return n, next
}
