package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// offsetFetch answers OffsetFetch 0–10. A coordinator keeps offsets by name: from
// version 10 on, topics are named here on the way in and go by ID on the way out.
func (a *API) offsetFetch(r *wire.Request) {
	req := r.Body.(*kmsg.OffsetFetchRequest)
	var unknown [][]kmsg.OffsetFetchResponseGroupTopic
	if r.Version >= 10 {
		unknown = nameTopics(req, a.image())
	}
	resp := a.groups.OffsetFetch(uniqueOffsets(req))
	if r.Version >= 10 {
		identifyTopics(resp, a.image())
	}
	code := first(resp.ErrorCode)
	for i := range resp.Groups {
		g := &resp.Groups[i]
		code.see(g.ErrorCode)
		if i < len(unknown) && g.ErrorCode == 0 {
			g.Topics = append(g.Topics, unknown[i]...)
		}
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// nameTopics names the topics of a request that goes by ID, each group once. Those that
// do not exist are taken out; their answers are given for each group.
func nameTopics(req *kmsg.OffsetFetchRequest, img *metadata.Image) (unknown [][]kmsg.OffsetFetchResponseGroupTopic) {
	req.Groups = unique(req.Groups, func(g *kmsg.OffsetFetchRequestGroup) string { return g.Group })
	for i := range req.Groups {
		g := &req.Groups[i]
		if g.Topics == nil {
			unknown = append(unknown, nil)
			continue
		}
		g.Topics = unique(g.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) [16]byte { return t.TopicID })
		known := make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(g.Topics))
		var bad []kmsg.OffsetFetchResponseGroupTopic
		for _, t := range g.Topics {
			if it := img.TopicByID(topic.ID(t.TopicID)); it != nil {
				t.Topic = it.Name
				known = append(known, t)
				continue
			}
			bt := kmsg.NewOffsetFetchResponseGroupTopic()
			bt.TopicID = t.TopicID
			for _, n := range unique(t.Partitions, same[int32]) {
				bp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				bp.Partition, bp.Offset, bp.LeaderEpoch, bp.Metadata = n, -1, -1, text("")
				bp.ErrorCode = kerr.UnknownTopicID.Code
				bt.Partitions = append(bt.Partitions, bp)
			}
			bad = append(bad, bt)
		}
		g.Topics = known
		unknown = append(unknown, bad)
	}
	return unknown
}

// identifyTopics gives the topics of an answer their IDs; what is gone meanwhile is left out.
func identifyTopics(resp *kmsg.OffsetFetchResponse, img *metadata.Image) {
	for i := range resp.Groups {
		g := &resp.Groups[i]
		known := g.Topics[:0]
		for _, t := range g.Topics {
			if it := img.Topic(t.Topic); it != nil {
				t.TopicID = it.ID
				known = append(known, t)
			}
		}
		g.Topics = known
	}
}
