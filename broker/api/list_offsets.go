package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Timestamps with a meaning of their own, and the version that brought them.
// Source: Kafka protocol, ListOffsets; KIP-734 (max timestamp), KIP-405 (local), KIP-1005 (tiered),
// KIP-1023 (to be tiered).
const (
	timestampLatest        = -1
	timestampEarliest      = -2
	timestampMax           = -3 // 7
	timestampEarliestLocal = -4 // 8
	timestampLatestTiered  = -5 // 9
	timestampNextTiered    = -6 // 11
)

// found is one offset with the time and the leader epoch of its record; -1 is "not said".
type found struct {
	offset    record.Offset
	timestamp int64
	epoch     record.Epoch
}

var nothing = found{-1, -1, -1}

// listOffsets answers ListOffsets 0–11: earliest, latest, of the largest time,
// first at or after a time. Version 0 asked for a list of segment starts.
func (a *API) listOffsets(r *wire.Request) {
	req := r.Body.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	var code first
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(t.Partitions))
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			name := topic.Partition{Topic: t.Topic, Partition: p.Partition}
			f, old, err := a.findOffset(name, p, req)
			rp.ErrorCode, _ = a.answer("ListOffsets", err)
			if rp.ErrorCode == kerr.OffsetNotAvailable.Code && req.Version < 5 {
				rp.ErrorCode = kerr.LeaderNotAvailable.Code // KIP-207
			}
			if err == nil {
				rp.Offset, rp.Timestamp, rp.LeaderEpoch = int64(f.offset), f.timestamp, int32(f.epoch)
				rp.OldStyleOffsets = old
			}
			code.see(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// findOffset answers for one partition; old is the list of version 0.
func (a *API) findOffset(name topic.Partition, p kmsg.ListOffsetsRequestTopicPartition, req *kmsg.ListOffsetsRequest) (f found, old []int64, err error) {
	part, err := a.partition(name)
	if err != nil {
		return nothing, nil, err
	}
	if err := part.CheckLeader(record.Epoch(p.CurrentLeaderEpoch)); err != nil {
		return nothing, nil, err
	}
	f, err = offsetAt(part, p.Timestamp, req.Version, req.IsolationLevel == 1)
	if err != nil || req.Version > 0 {
		return f, nil, err
	}
	return f, oldStyle(part, f, p), nil
}

// oldStyle gives version 0's list, newest first. Its clients look for the last
// offset and the first one; the segment starts between them tell nobody anything.
func oldStyle(part *replica.Partition, f found, p kmsg.ListOffsetsRequestTopicPartition) []int64 {
	old := []int64{}
	start := int64(part.LogStart())
	if f.offset >= 0 {
		old = append(old, int64(f.offset))
	}
	if p.Timestamp != timestampEarliest && (len(old) == 0 || old[0] != start) {
		old = append(old, start)
	}
	return old[:min(len(old), max(0, int(p.MaxNumOffsets)))]
}

func offsetAt(part *replica.Partition, timestamp int64, version int16, committed bool) (found, error) {
	needs := map[int64]int16{timestampMax: 7, timestampEarliestLocal: 8, timestampLatestTiered: 9, timestampNextTiered: 11}[timestamp]
	if version < needs {
		return nothing, refuse(kerr.UnsupportedVersion, fmt.Sprintf("timestamp %d needs ListOffsets version %d, the request has %d", timestamp, needs, version))
	}
	limit := part.HighWatermark()
	if committed {
		limit = part.LastStable()
	}
	switch timestamp {
	case timestampLatest:
		o, epoch, err := part.Latest(committed)
		return found{o, -1, epoch}, err
	case timestampEarliest, timestampEarliestLocal:
		start := part.LogStart()
		return found{start, -1, part.Log().EpochAt(start)}, nil
	case timestampLatestTiered, timestampNextTiered:
		return nothing, nil // nothing is tiered
	case timestampMax:
		return below(limit)(part.Log().MaxTimestamp())
	}
	if timestamp < 0 {
		return nothing, refuse(kerr.InvalidRequest, fmt.Sprintf("timestamp %d has no meaning; use -1 latest, -2 earliest, -3 largest time, or milliseconds since 1970", timestamp))
	}
	return below(limit)(part.Log().OffsetAt(timestamp, limit))
}

// below turns the log's answer into ours: what a consumer may not see yet is not found.
func below(limit record.Offset) func(record.Offset, int64, record.Epoch, bool, error) (found, error) {
	return func(o record.Offset, at int64, epoch record.Epoch, ok bool, err error) (found, error) {
		if err != nil || !ok || o >= limit {
			return nothing, err
		}
		return found{o, at, epoch}, nil
	}
}
