package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// offsetForLeaderEpoch answers OffsetForLeaderEpoch 0–4: where the log parts from
// what the client read in that epoch (KIP-101, KIP-279, KIP-320).
func (a *API) offsetForLeaderEpoch(r *wire.Request) {
	req := r.Body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	var code first
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			epoch, end, err := a.endOfEpoch(topic.Partition{Topic: t.Topic, Partition: p.Partition}, p)
			rp.ErrorCode, _ = a.answer("OffsetForLeaderEpoch", err)
			if err == nil {
				rp.LeaderEpoch, rp.EndOffset = int32(epoch), int64(end)
			}
			code.see(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func (a *API) endOfEpoch(name topic.Partition, p kmsg.OffsetForLeaderEpochRequestTopicPartition) (record.Epoch, record.Offset, error) {
	part, err := a.partition(name)
	if err != nil {
		return -1, -1, err
	}
	if err := part.CheckLeader(record.Epoch(p.CurrentLeaderEpoch)); err != nil {
		return -1, -1, err
	}
	// Why: an epoch that this leader has not reached yet has no end; with -1 the client asks again later.
	if _, now := part.Leader(); p.LeaderEpoch < 0 || record.Epoch(p.LeaderEpoch) > now {
		return -1, -1, nil
	}
	epoch, end := part.Log().EndOf(record.Epoch(p.LeaderEpoch))
	return epoch, end, nil
}
