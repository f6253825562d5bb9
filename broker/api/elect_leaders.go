package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// electLeaders answers ElectLeaders 0–2 (KIP-183; unclean elections KIP-460). Without a
// list it elects for every partition and speaks only of those that needed it.
func (a *API) electLeaders(r *wire.Request) {
	req := r.Body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	if req.ElectionType < 0 || req.ElectionType > 1 {
		resp.ErrorCode = kerr.InvalidRequest.Code
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	var ps []topic.Partition
	for _, t := range req.Topics {
		for _, n := range t.Partitions {
			ps = append(ps, topic.Partition{Topic: t.Topic, Partition: n})
		}
	}
	all := req.Topics == nil
	if all {
		for _, t := range a.image().Topics() {
			for n := range t.Partitions {
				ps = append(ps, topic.Partition{Topic: t.Name, Partition: int32(n)})
			}
		}
	}
	ctx, cancel := within(r, req.TimeoutMillis)
	defer cancel()
	var code first
	for i, err := range a.controller.ElectLeaders(ctx, ps, req.ElectionType == 1) {
		rp := kmsg.NewElectLeadersResponseTopicPartition()
		rp.Partition = ps[i].Partition
		rp.ErrorCode, rp.ErrorMessage = a.answer("ElectLeaders", err)
		if all && rp.ErrorCode == kerr.ElectionNotNeeded.Code {
			continue
		}
		code.see(rp.ErrorCode)
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != ps[i].Topic {
			rt := kmsg.NewElectLeadersResponseTopic()
			rt.Topic = ps[i].Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rt := &resp.Topics[len(resp.Topics)-1]
		rt.Partitions = append(rt.Partitions, rp)
	}
	r.Answer(wire.Message(resp, int16(code)))
}
