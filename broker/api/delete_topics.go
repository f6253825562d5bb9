package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// deleteTopics answers DeleteTopics 0–6 (texts since 5; by name or ID in 6, KIP-516).
func (a *API) deleteTopics(r *wire.Request) {
	req := r.Body.(*kmsg.DeleteTopicsRequest)
	wants := req.Topics
	if req.Version < 6 {
		wants = nil
		for i := range req.TopicNames {
			wants = append(wants, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
		}
	}
	resp := kmsg.NewPtrDeleteTopicsResponse()
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(wants))
	allowed := a.settings().Bool("delete.topic.enable")
	var ids []topic.ID
	var at []int
	seen := map[topic.ID]bool{}
	for i, want := range wants {
		rt := &resp.Topics[i]
		rt.Default()
		id, err := a.deletable(want, rt, allowed, req.Version)
		if err == nil && seen[id] {
			err = refuse(kerr.InvalidRequest, "the topic stands in the request more than once: name it once")
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = a.answer("DeleteTopics", err)
			continue
		}
		seen[id] = true
		ids, at = append(ids, id), append(at, i)
	}
	if len(ids) > 0 {
		ctx, cancel := within(r, req.TimeoutMillis)
		defer cancel()
		for n, err := range a.controller.DeleteTopics(ctx, ids) {
			resp.Topics[at[n]].ErrorCode, resp.Topics[at[n]].ErrorMessage = a.answer("DeleteTopics", err)
		}
	}
	var code first
	for i := range resp.Topics {
		code.see(resp.Topics[i].ErrorCode)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// deletable finds the topic that is meant, and fills in its name and ID.
func (a *API) deletable(want kmsg.DeleteTopicsRequestTopic, rt *kmsg.DeleteTopicsResponseTopic, allowed bool, version int16) (topic.ID, error) {
	rt.Topic, rt.TopicID = want.Topic, want.TopicID
	byID := !topic.ID(want.TopicID).IsZero()
	if byID == (want.Topic != nil) {
		return topic.ID{}, refuse(kerr.InvalidRequest, "a topic to delete is named either by name or by ID, not by both or neither")
	}
	if !allowed {
		code := kerr.TopicDeletionDisabled
		if version < 3 {
			code = kerr.InvalidRequest
		}
		return topic.ID{}, refuse(code, "topics cannot be deleted: delete.topic.enable is false on this broker")
	}
	img := a.image()
	if byID {
		t := img.TopicByID(want.TopicID)
		if t == nil {
			return topic.ID{}, refuse(kerr.UnknownTopicID, fmt.Sprintf("there is no topic with ID %s", topic.ID(want.TopicID)))
		}
		rt.Topic = &t.Name
		return t.ID, nil
	}
	t := img.Topic(*want.Topic)
	if t == nil {
		return topic.ID{}, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("there is no topic %q", *want.Topic))
	}
	rt.TopicID = t.ID
	return t.ID, nil
}
