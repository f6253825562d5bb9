// Package null is a broker that stores nothing: it decodes requests, checks every batch as a node
// does, and answers. What it reaches is the limit of a machine, the protocol and a client.
package null

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/wire"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
)

// Queue is the setting of a topic whose messages are handed on through memory, from its producers
// to its one reader, and are gone then. Those of other topics are gone at once.
const Queue = "null.queue"

// broker takes every topic that it is asked for as existing. Fetches get the same batch again and
// again, with fitting offsets, unless the topic is a queue.
type broker struct {
	addr       *net.TCPAddr
	partitions int
	batch      []byte // of batchRecords records
	queues     queues
}

const batchRecords = 1000

// Run serves the null broker on addr until ctx ends.
func Run(ctx context.Context, addr string, partitions int, log *slog.Logger) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	b := record.NewBuilder(record.None)
	for _, v := range load.Values(1000)[:batchRecords] {
		b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: v})
	}
	batch, err := b.Build()
	if err != nil {
		return err
	}
	n := &broker{addr: l.Addr().(*net.TCPAddr), partitions: partitions, batch: batch}
	s, err := wire.New(wire.Options{
		Listeners: []wire.Listener{{Name: "PLAINTEXT", Net: l}}, Handler: n, Versions: nullVersions, Stats: stats.New(), Logger: log,
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// nullVersions are the newest versions that need no topic IDs.
func nullVersions(_ *wire.Session, key int16) (low, high int16, ok bool) {
	high, ok = map[int16]int16{0: 12, 1: fetchVersion, 2: 4, 3: 9, 18: 4, 19: 5, 20: 5, 22: 2}[key]
	if key == 1 {
		low = fetchVersion
	}
	return low, high, ok
}

// Serve answers one request.
func (n *broker) Serve(r *wire.Request) {
	switch q := r.Body.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := n.versions()
		if r.Unsupported {
			resp.ErrorCode = 35 // UNSUPPORTED_VERSION: the client asks again
		}
		r.Answer(wire.Message(resp, resp.ErrorCode))
	case *kmsg.MetadataRequest:
		r.Answer(wire.Message(n.metadata(q), 0))
	case *kmsg.CreateTopicsRequest:
		resp := kmsg.NewPtrCreateTopicsResponse()
		for _, t := range q.Topics {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Topic, int32(n.partitions), 1
			for _, c := range t.Configs {
				if c.Name == Queue {
					n.queues.create(t.Topic, n.partitions)
				}
			}
			resp.Topics = append(resp.Topics, rt)
		}
		r.Answer(wire.Message(resp, 0))
	case *kmsg.DeleteTopicsRequest:
		resp := kmsg.NewPtrDeleteTopicsResponse()
		for _, name := range q.TopicNames {
			n.queues.drop(name)
			rt := kmsg.NewDeleteTopicsResponseTopic()
			rt.Topic = kmsg.StringPtr(name)
			resp.Topics = append(resp.Topics, rt)
		}
		r.Answer(wire.Message(resp, 0))
	case *kmsg.InitProducerIDRequest:
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ProducerID, resp.ProducerEpoch = 1, 0
		r.Answer(wire.Message(resp, 0))
	case *kmsg.ListOffsetsRequest:
		r.Answer(wire.Message(n.listOffsets(q), 0))
	case *kmsg.ProduceRequest:
		r.Answer(wire.Message(n.produce(q), 0))
	case *kmsg.FetchRequest:
		if wait := n.queues.waits(q); wait != nil {
			go func() { // Why: the connection's goroutine must not stand still
				wait(r.Context())
				r.Answer(wire.Pieces(n.fetch(q), 0))
			}()
			return
		}
		r.Answer(wire.Pieces(n.fetch(q), 0))
	default:
		r.Drop(fmt.Errorf("the null broker does not serve API %d", r.Key))
	}
}

func (n *broker) versions() *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	for key := range int16(32) {
		if low, high, ok := nullVersions(nil, key); ok {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MinVersion: low, MaxVersion: high})
		}
	}
	return resp
}

func (n *broker) metadata(q *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	resp.ControllerID = 0
	b := kmsg.NewMetadataResponseBroker()
	b.Host, b.Port = n.addr.IP.String(), int32(n.addr.Port)
	resp.Brokers = append(resp.Brokers, b)
	for _, asked := range q.Topics {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = asked.Topic
		for p := range n.partitions {
			rp := kmsg.NewMetadataResponseTopicPartition()
			rp.Partition, rp.Replicas, rp.ISR = int32(p), []int32{0}, []int32{0}
			t.Partitions = append(t.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (n *broker) listOffsets(q *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	resp := kmsg.NewPtrListOffsetsResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset = p.Partition, 0
			if p.Timestamp == latest {
				if queue := n.queues.topic(t.Topic); queue != nil {
					rp.Offset = queue.end(p.Partition)
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (n *broker) produce(q *kmsg.ProduceRequest) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition = p.Partition
			if _, err := record.Check(p.Records, record.Limits{}); err != nil {
				rp.ErrorCode = 2 // CORRUPT_MESSAGE
			} else if queue := n.queues.topic(t.Topic); queue != nil {
				rp.BaseOffset = queue.add(p.Partition, p.Records)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// latest asks ListOffsets for the end.
const latest = -1

// fetchVersion is the only version of Fetch that the null broker speaks: the newest one whose
// response has no compact lengths.
const fetchVersion = 11

// endless is the end of a topic that is no queue.
const endless = 1 << 40

// batches gives what a fetch finds in a partition, and the partition's end.
func (n *broker) batches(topic string, p kmsg.FetchRequestTopicPartition, most int) (bs []batch, end int64) {
	if most <= 0 {
		return nil, p.FetchOffset
	}
	if queue := n.queues.topic(topic); queue != nil {
		return queue.take(p.Partition, p.FetchOffset, most)
	}
	base := p.FetchOffset / batchRecords * batchRecords
	for range most / len(n.batch) {
		bs = append(bs, batch{base, n.batch[8:]})
		base += batchRecords
	}
	return bs, endless
}

// fetch answers straight from memory, without a copy: only the offsets are new, and they stand in
// front of what a batch's checksum covers.
func (n *broker) fetch(q *kmsg.FetchRequest) []wire.Piece {
	var pieces []wire.Piece
	be := binary.BigEndian
	head := make([]byte, 4+2+4) // throttle time, error, session: all zero
	head = be.AppendUint32(head, uint32(len(q.Topics)))
	left := int(q.MaxBytes)
	for _, t := range q.Topics {
		head = be.AppendUint16(head, uint16(len(t.Topic)))
		head = append(head, t.Topic...)
		head = be.AppendUint32(head, uint32(len(t.Partitions)))
		for _, p := range t.Partitions {
			batches, end := n.batches(t.Topic, p, min(left, int(p.PartitionMaxBytes)))
			bytes := 0
			for _, b := range batches {
				bytes += 8 + len(b.rest)
			}
			left -= bytes
			head = be.AppendUint32(head, uint32(p.Partition))
			head = append(head, 0, 0)                    // error
			head = be.AppendUint64(head, uint64(end))    // high watermark
			head = be.AppendUint64(head, uint64(end))    // last stable offset
			head = be.AppendUint64(head, 0)              // log start
			head = be.AppendUint32(head, 0)              // aborted transactions
			head = be.AppendUint32(head, math.MaxUint32) // preferred replica: none
			head = be.AppendUint32(head, uint32(bytes))
			for _, b := range batches {
				head = be.AppendUint64(head, uint64(b.base))
				pieces = append(pieces, wire.Piece{Bytes: head}, wire.Piece{Bytes: b.rest})
				head = nil
			}
		}
	}
	if len(head) > 0 {
		pieces = append(pieces, wire.Piece{Bytes: head})
	}
	return pieces
}
