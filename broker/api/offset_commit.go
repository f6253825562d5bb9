package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// offsetCommit answers OffsetCommit 0–10. A coordinator knows groups, not topics:
// commits for partitions that do not exist are refused here, and what goes by topic ID
// (10) is named here.
func (a *API) offsetCommit(r *wire.Request) {
	req := r.Body.(*kmsg.OffsetCommitRequest)
	known, unknown := a.splitCommit(req)
	reply := func(resp *kmsg.OffsetCommitResponse) {
		resp.Topics = append(resp.Topics, unknown...)
		var code first
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				code.see(p.ErrorCode)
			}
		}
		r.Answer(wire.Message(resp, int16(code)))
	}
	if len(known.Topics) == 0 && len(unknown) > 0 {
		reply(kmsg.NewPtrOffsetCommitResponse())
		return
	}
	a.groups.OffsetCommit(known, reply)
}

// splitCommit parts the partitions that exist from those that do not. The request
// itself is given back when all exist.
func (a *API) splitCommit(req *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitRequest, []kmsg.OffsetCommitResponseTopic) {
	img := a.image()
	known := *req
	known.Topics = make([]kmsg.OffsetCommitRequestTopic, 0, len(req.Topics))
	var unknown []kmsg.OffsetCommitResponseTopic
	for _, t := range req.Topics {
		n, why := 0, kerr.UnknownTopicOrPartition.Code
		it := img.Topic(t.Topic)
		if req.Version >= 10 {
			if it = img.TopicByID(topic.ID(t.TopicID)); it == nil {
				why = kerr.UnknownTopicID.Code
			} else {
				t.Topic = it.Name
			}
		}
		if it != nil {
			n = len(it.Partitions)
		}
		good := t
		good.Partitions = nil
		bad := kmsg.NewOffsetCommitResponseTopic()
		bad.Topic, bad.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			if p.Partition >= 0 && int(p.Partition) < n {
				good.Partitions = append(good.Partitions, p)
				continue
			}
			e := kmsg.NewOffsetCommitResponseTopicPartition()
			e.Partition, e.ErrorCode = p.Partition, why
			bad.Partitions = append(bad.Partitions, e)
		}
		if len(good.Partitions) > 0 {
			known.Topics = append(known.Topics, good)
		}
		if len(bad.Partitions) > 0 {
			unknown = append(unknown, bad)
		}
	}
	if len(unknown) == 0 && req.Version < 10 {
		return req, nil
	}
	return &known, unknown
}
