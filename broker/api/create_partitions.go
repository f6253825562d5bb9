package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// createPartitions answers CreatePartitions 0–3 (KIP-195). Every topic of the
// request is echoed.
func (a *API) createPartitions(r *wire.Request) {
	req := r.Body.(*kmsg.CreatePartitionsRequest)
	resp := kmsg.NewPtrCreatePartitionsResponse()
	resp.Topics = make([]kmsg.CreatePartitionsResponseTopic, len(req.Topics))
	seen := map[string]int{}
	for _, t := range req.Topics {
		seen[t.Topic]++
	}
	var wishes []controller.Growth
	var at []int
	for i, t := range req.Topics {
		rt := &resp.Topics[i]
		rt.Default()
		rt.Topic = t.Topic
		if seen[t.Topic] > 1 {
			rt.ErrorCode, rt.ErrorMessage = a.answer("CreatePartitions", refuse(kerr.InvalidRequest, fmt.Sprintf("topic %q stands %d times in the request: name it once", t.Topic, seen[t.Topic])))
			continue
		}
		wishes, at = append(wishes, growth(t)), append(at, i)
	}
	if len(wishes) > 0 {
		ctx, cancel := within(r, req.TimeoutMillis)
		defer cancel()
		for n, err := range a.controller.CreatePartitions(ctx, wishes, req.ValidateOnly) {
			resp.Topics[at[n]].ErrorCode, resp.Topics[at[n]].ErrorMessage = a.answer("CreatePartitions", err)
		}
	}
	var code first
	for i := range resp.Topics {
		code.see(resp.Topics[i].ErrorCode)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func growth(t kmsg.CreatePartitionsRequestTopic) controller.Growth {
	g := controller.Growth{Topic: t.Topic, Count: t.Count}
	if t.Assignment != nil {
		g.Assignment = make([][]metadata.BrokerID, len(t.Assignment))
		for i, p := range t.Assignment {
			g.Assignment[i] = toBrokerIDs(p.Replicas)
		}
	}
	return g
}
