package api

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/wire"
)

// produceCall is one request on its way. Each partition writes its own slot; the last one
// to release sends the answer. It is used again once that has left: what a request with a
// thousand small batches takes would else be collected a thousand times a second.
type produceCall struct {
	api  *API
	r    *wire.Request
	req  *kmsg.ProduceRequest
	resp kmsg.ProduceResponse
	left atomic.Int32

	slots  []produceSlot // all partitions of all topics, in the order of the request
	bytes  []byte        // the answer
	pieces [1]wire.Piece // it again
	sent   func()        // recycle

	asking  []verifyKey // what the transaction's coordinator is to be asked about; the dispatch's alone
	refused bool        // the brake refused a part of it; the dispatch's alone
}

// produceSlot is one partition of a request.
type produceSlot struct {
	call    *produceCall
	topic   *kmsg.ProduceRequestTopic
	request *kmsg.ProduceRequestTopicPartition
	answer  *kmsg.ProduceResponseTopicPartition
	part    *replica.Partition
	wait    replica.Wait
}

// maxKeptSlots bounds the calls that are used again, in partitions.
const maxKeptSlots = 1024

// Why a package variable: a pool is a cache without meaning.
var produceCalls = sync.Pool{New: func() any { return new(produceCall) }}

// produceCall makes the call for a request, with a slot and an empty answer for each of its partitions.
func (a *API) produceCall(r *wire.Request, req *kmsg.ProduceRequest, partitions int) *produceCall {
	c := produceCalls.Get().(*produceCall)
	if c.sent == nil {
		c.sent = c.recycle
	}
	c.api, c.r, c.req, c.refused = a, r, req, false
	c.slots = slices.Grow(c.slots[:0], partitions)
	c.resp.Topics = extend(c.resp.Topics, len(req.Topics))
	for i := range req.Topics {
		t, rt := &req.Topics[i], &c.resp.Topics[i]
		if req.Version >= 13 {
			if known := a.image().TopicByID(t.TopicID); known != nil {
				t.Topic = known.Name
			}
		}
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = extend(rt.Partitions, len(t.Partitions))
		for j := range t.Partitions {
			p, answer := &t.Partitions[j], &rt.Partitions[j]
			*answer = kmsg.NewProduceResponseTopicPartition()
			answer.Partition, answer.BaseOffset, answer.LogAppendTime, answer.LogStartOffset = p.Partition, -1, -1, -1
			c.slots = append(c.slots, produceSlot{call: c, topic: t, request: p, answer: answer})
		}
	}
	return c
}

// extend gives s with n elements, which hold what they held.
func extend[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

// recycle lets the call be used again.
func (c *produceCall) recycle() {
	if cap(c.slots) > maxKeptSlots || cap(c.resp.Topics) > maxKeptSlots {
		return
	}
	kept := 0
	for _, t := range c.resp.Topics[:cap(c.resp.Topics)] {
		kept += cap(t.Partitions)
	}
	for i := range c.slots {
		if !c.slots[i].wait.Reusable() {
			return
		}
	}
	if kept > maxKeptSlots {
		return
	}
	clear(c.slots)
	c.api, c.r, c.req, c.resp.Brokers = nil, nil, nil, nil
	produceCalls.Put(c)
}

// encode writes the answer. failed: it holds an error.
func (c *produceCall) encode(failed bool) {
	if failed {
		c.resp.Version = c.req.Version
		c.bytes = c.resp.AppendTo(c.bytes[:0])
	} else {
		c.bytes = appendProduced(c.bytes[:0], c.req.Version, c.resp.Topics)
	}
	c.pieces[0] = wire.Piece{Bytes: c.bytes, Release: c.sent}
}

// appendProduced writes an answer without errors. Why by hand: kmsg compares each tagged
// field with its default by reflection.
// Source: Kafka protocol, ProduceResponse 0–13.
func appendProduced(b []byte, version int16, topics []kmsg.ProduceResponseTopic) []byte {
	be := binary.BigEndian
	flexible := version >= 9
	length := func(b []byte, n int) []byte {
		if flexible {
			return binary.AppendUvarint(b, uint64(n)+1)
		}
		return be.AppendUint32(b, uint32(n))
	}
	tags := func(b []byte) []byte {
		if flexible {
			return append(b, 0)
		}
		return b
	}
	b = length(b, len(topics))
	for i := range topics {
		t := &topics[i]
		switch {
		case version >= 13:
			b = append(b, t.TopicID[:]...)
		case flexible:
			b = append(length(b, len(t.Topic)), t.Topic...)
		default:
			b = append(be.AppendUint16(b, uint16(len(t.Topic))), t.Topic...)
		}
		b = length(b, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			b = be.AppendUint16(be.AppendUint32(b, uint32(p.Partition)), uint16(p.ErrorCode))
			b = be.AppendUint64(b, uint64(p.BaseOffset))
			if version >= 2 {
				b = be.AppendUint64(b, uint64(p.LogAppendTime))
			}
			if version >= 5 {
				b = be.AppendUint64(b, uint64(p.LogStartOffset))
			}
			if version >= 8 {
				b = length(b, 0) // records that failed
				if flexible {
					b = append(b, 0) // no message: null
				} else {
					b = be.AppendUint16(b, 0xffff)
				}
			}
			b = tags(b)
		}
		b = tags(b)
	}
	if version >= 1 {
		b = be.AppendUint32(b, 0) // throttle time
	}
	return tags(b)
}
