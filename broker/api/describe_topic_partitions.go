package api

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// maxDescribedPartitions is how many partitions one answer holds at most.
// Source: Kafka, max.request.partition.size.limit.
const maxDescribedPartitions = 2000

// describeTopicPartitions answers DescribeTopicPartitions 0 (KIP-966): topics in the
// order of their names, page by page. A cursor says where the next page begins.
func (a *API) describeTopicPartitions(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeTopicPartitionsRequest)
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	names := make([]string, 0, len(req.Topics))
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	img := a.image()
	if len(req.Topics) == 0 {
		for _, t := range img.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	left := min(int(req.ResponsePartitionLimit), maxDescribedPartitions)
	if left <= 0 {
		left = maxDescribedPartitions
	}
	var code first
	for _, name := range names {
		from := int32(0)
		if c := req.Cursor; c != nil && name < c.Topic {
			continue
		} else if c != nil && name == c.Topic {
			from = max(0, c.Partition)
		}
		t := img.Topic(name)
		if t == nil && len(req.Topics) == 0 || t == nil && req.Cursor != nil && name == req.Cursor.Topic {
			continue // deleted between two pages
		}
		if left == 0 {
			resp.NextCursor = cursorAt(name, from)
			break
		}
		rt, next := a.describeTopic(name, t, from, left, r)
		code.see(rt.ErrorCode)
		resp.Topics = append(resp.Topics, rt)
		left -= len(rt.Partitions)
		if next != math.MaxInt32 {
			resp.NextCursor = cursorAt(name, next)
			break
		}
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func cursorAt(name string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = name, partition
	return &c
}

// describeTopic gives the partitions of a topic from one on, at most limit, and
// which one comes after them: MaxInt32 for none. T is nil for an unknown topic.
func (a *API) describeTopic(name string, t *metadata.Topic, from int32, limit int, r *wire.Request) (rt kmsg.DescribeTopicPartitionsResponseTopic, next int32) {
	rt = kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.IsInternal = &name, topic.IsInternal(name)
	if t == nil {
		rt.ErrorCode = kerr.UnknownTopicOrPartition.Code
		if topic.CheckName(name) != nil {
			rt.ErrorCode = kerr.InvalidTopicException.Code
		}
		return rt, math.MaxInt32
	}
	rt.TopicID, rt.AuthorizedOperations = t.ID, topicOperations
	for n := int(from); n < len(t.Partitions); n++ {
		if len(rt.Partitions) == limit {
			return rt, int32(n)
		}
		p := &t.Partitions[n]
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		var leader metadata.BrokerID
		leader, rp.ErrorCode, rp.OfflineReplicas = a.state(p, r)
		rp.Partition, rp.LeaderID, rp.LeaderEpoch = int32(n), int32(leader), int32(p.LeaderEpoch)
		rp.Replicas, rp.ISR = brokerIDs(p.Replicas), brokerIDs(p.ISR)
		rp.EligibleLeaderReplicas, rp.LastKnownELR = brokerIDs(p.ELR), []int32{}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, math.MaxInt32
}
