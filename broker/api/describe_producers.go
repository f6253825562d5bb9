package api

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// describeProducers answers DescribeProducers 0 (KIP-664): the idempotent and transactional
// producers that the leader of a partition remembers, and where their open transactions begin.
func (a *API) describeProducers(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	var code first
	for _, t := range unique(req.Topics, func(t *kmsg.DescribeProducersRequestTopic) string { return t.Topic }) {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		for _, n := range unique(t.Partitions, same[int32]) {
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = n
			ps, err := a.producersOf(topic.Partition{Topic: t.Topic, Partition: n})
			rp.ErrorCode, rp.ErrorMessage = a.answer("DescribeProducers", err)
			code.see(rp.ErrorCode)
			for _, p := range ps {
				rp.ActiveProducers = append(rp.ActiveProducers, describeProducer(p))
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func (a *API) producersOf(name topic.Partition) ([]storage.Producer, error) {
	part, err := a.partition(name)
	if err == nil {
		err = part.CheckLeader(-1)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot describe the producers of partition %d of topic %q: %w", name.Partition, name.Topic, err)
	}
	ps := part.Log().Producers()
	slices.SortFunc(ps, func(x, y storage.Producer) int { return int(min(1, max(-1, x.ID-y.ID))) })
	return ps, nil
}

func describeProducer(p storage.Producer) kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	rp := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
	rp.ProducerID, rp.ProducerEpoch, rp.LastSequence = p.ID, int32(p.Epoch), p.LastSequence
	rp.LastTimestamp, rp.CurrentTxnStartOffset = p.LastTimestamp, int64(p.CurrentTxnStart)
	rp.CoordinatorEpoch = p.CoordinatorEpoch
	return rp
}
