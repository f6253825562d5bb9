package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// alterPartitionAssignments answers AlterPartitionReassignments 0–1 (KIP-455; a fixed
// number of replicas KIP-860).
func (a *API) alterPartitionAssignments(r *wire.Request) {
	req := r.Body.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	var rs []controller.Reassignment
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			w := controller.Reassignment{Partition: topic.Partition{Topic: t.Topic, Partition: p.Partition}}
			if p.Replicas != nil {
				w.Replicas = make([]metadata.BrokerID, len(p.Replicas))
				for i, id := range p.Replicas {
					w.Replicas[i] = metadata.BrokerID(id)
				}
			}
			rs = append(rs, w)
		}
	}
	ctx, cancel := within(r, req.TimeoutMillis)
	defer cancel()
	errs := a.controller.Reassign(ctx, rs, r.Version >= 1 && !req.AllowReplicationFactorChange)
	var code first
	for _, t := range req.Topics {
		rt := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode, rp.ErrorMessage = a.answer("AlterPartitionReassignments", errs[0])
			errs = errs[1:]
			code.see(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// listPartitionReassignments answers ListPartitionReassignments 0 (KIP-455): the
// partitions that are being moved now, all or those asked for.
func (a *API) listPartitionReassignments(r *wire.Request) {
	req := r.Body.(*kmsg.ListPartitionReassignmentsRequest)
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	img := a.image()
	list := func(t *metadata.Topic, asked func(int32) bool) {
		rt := kmsg.NewListPartitionReassignmentsResponseTopic()
		rt.Topic = t.Name
		for n := range t.Partitions {
			p := &t.Partitions[n]
			if len(p.Adding)+len(p.Removing) == 0 || !asked(int32(n)) {
				continue
			}
			rp := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			rp.Partition, rp.Replicas = int32(n), brokerIDs(p.Replicas)
			rp.AddingReplicas, rp.RemovingReplicas = brokerIDs(p.Adding), brokerIDs(p.Removing)
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	if req.Topics == nil {
		for _, t := range img.Topics() {
			list(t, func(int32) bool { return true })
		}
	}
	for _, want := range unique(req.Topics, func(t *kmsg.ListPartitionReassignmentsRequestTopic) string { return t.Topic }) {
		if t := img.Topic(want.Topic); t != nil {
			named := map[int32]bool{}
			for _, n := range want.Partitions {
				named[n] = true
			}
			list(t, func(n int32) bool { return named[n] })
		}
	}
	r.Answer(wire.Message(resp, 0))
}
