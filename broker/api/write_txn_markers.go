package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// markerTime is how long a marker may take to be committed. Its coordinator tries again.
const markerTime = 30 * time.Second

// maxMarkerPartitions bounds what one request makes us hold for its answer.
const maxMarkerPartitions = 100_000

// writeTxnMarkers answers WriteTxnMarkers 0–2 (the transaction's version since 2, KIP-1228): transaction coordinators, and tools that end a
// transaction which hangs (KIP-664), commit or abort a producer's transaction in partitions led here.
func (a *API) writeTxnMarkers(r *wire.Request) {
	req := r.Body.(*kmsg.WriteTxnMarkersRequest)
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	total := 0
	for i := range req.Markers {
		m := kmsg.NewWriteTxnMarkersResponseMarker()
		m.ProducerID = req.Markers[i].ProducerID
		for _, t := range req.Markers[i].Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = t.Topic
			for _, n := range t.Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition = n
				rt.Partitions = append(rt.Partitions, rp)
			}
			total += len(t.Partitions)
			m.Topics = append(m.Topics, rt)
		}
		resp.Markers = append(resp.Markers, m)
	}
	if total > maxMarkerPartitions {
		for i := range resp.Markers {
			failMarkers(&resp.Markers[i], kerr.InvalidRequest.Code)
		}
		r.Answer(wire.Message(resp, kerr.InvalidRequest.Code))
		return
	}
	var left atomic.Int64
	left.Store(int64(total) + 1)
	release := func() {
		if left.Add(-1) == 0 {
			r.Answer(wire.Message(resp, firstMarkerCode(resp)))
		}
	}
	for i := range req.Markers {
		a.writeMarkers(&req.Markers[i], &resp.Markers[i], release)
	}
	release()
}

// writeMarkers writes one producer's markers; release is called once for each partition.
func (a *API) writeMarkers(m *kmsg.WriteTxnMarkersRequestMarker, answer *kmsg.WriteTxnMarkersResponseMarker, release func()) {
	marker := record.Marker{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Committed}
	for i := range answer.Topics {
		for j := range answer.Topics[i].Partitions {
			p := &answer.Topics[i].Partitions[j]
			a.WriteMarker(topic.Partition{Topic: answer.Topics[i].Topic, Partition: p.Partition}, marker, m.TransactionVersion, func(err error) {
				p.ErrorCode, _ = a.answer("WriteTxnMarkers", err)
				release()
			})
		}
	}
}

// WriteMarker ends a producer's transaction in a partition that this broker leads. version is the
// transaction's protocol (transaction.version), 0 if it is not known. done is called once, from
// any goroutine, perhaps before WriteMarker returns, when the marker is committed or will not be.
//
// Errors given to done: those of replica.Partition.AppendMarker and Await; each has a Kafka code.
func (a *API) WriteMarker(name topic.Partition, m record.Marker, version int8, done func(error)) {
	if m.ProducerID < 0 || m.ProducerEpoch < 0 {
		done(refuse(kerr.InvalidRequest, "the marker names no producer"))
		return
	}
	if topic.IsInternal(name.Topic) {
		a.writeOffsetsMarker(name, m, done)
		return
	}
	part, err := a.partition(name)
	if err != nil {
		done(err)
		return
	}
	got, err := part.AppendMarker(m, version, a.now())
	if err != nil {
		done(err)
		return
	}
	part.Acked(got.Last+1, -1, markerTime, done)
}

// writeOffsetsMarker has the group coordinator write the marker, who alone writes its log.
func (a *API) writeOffsetsMarker(name topic.Partition, m record.Marker, done func(error)) {
	if name.Topic != topic.ConsumerOffsets {
		done(refuse(kerr.InvalidTopicException, "no transaction has records in this internal topic"))
		return
	}
	if a.txnOffsets == nil {
		done(refuse(kerr.CoordinatorNotAvailable, "this broker coordinates no transactional offsets"))
		return
	}
	run := func() {
		ctx, cancel := context.WithTimeout(a.closing, markerTime)
		defer cancel()
		done(a.txnOffsets.WriteMarker(ctx, name.Partition, m))
	}
	if !a.later(run) {
		done(refuse(kerr.NotLeaderForPartition, "the broker stops"))
	}
}

func failMarkers(m *kmsg.WriteTxnMarkersResponseMarker, code int16) {
	for i := range m.Topics {
		for j := range m.Topics[i].Partitions {
			m.Topics[i].Partitions[j].ErrorCode = code
		}
	}
}

func firstMarkerCode(resp *kmsg.WriteTxnMarkersResponse) int16 {
	var code first
	for _, m := range resp.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				code.see(p.ErrorCode)
			}
		}
	}
	return int16(code)
}
