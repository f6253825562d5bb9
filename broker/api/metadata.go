package api

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// What everybody may do while there is no access control; KIP-430's bit fields
// (1 << operation number). Source: Kafka, AclOperation.
const (
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	groupOperations   = 1<<3 | 1<<6 | 1<<8
)

// metadata answers Metadata 0–13: brokers and topics, by name or (12) by ID. An
// unknown name is created when the broker's auto.create.topics.enable and the
// request (4+) both allow it.
func (a *API) metadata(r *wire.Request) {
	req := r.Body.(*kmsg.MetadataRequest)
	resp := kmsg.NewPtrMetadataResponse()
	all := req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
	create := a.settings().Bool("auto.create.topics.enable") && (req.Version < 4 || req.AllowAutoTopicCreation)
	var code first
	if all {
		for _, t := range a.image().Topics() {
			resp.Topics = append(resp.Topics, a.topicMetadata(t, req, r))
		}
	} else {
		for _, want := range unique(req.Topics, keyOfWanted) {
			t := a.wantedTopic(r.Context(), want, create, req, r)
			code.see(t.ErrorCode)
			resp.Topics = append(resp.Topics, t)
		}
	}
	img := a.image()
	for _, b := range img.Brokers() {
		e, ok := endpoint(b, r)
		if !ok || b.Fenced {
			continue
		}
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port, m.Rack = int32(b.ID), e.Host, e.Port, text(b.Rack)
		resp.Brokers = append(resp.Brokers, m)
	}
	id := img.ClusterID()
	resp.ClusterID = &id
	resp.ControllerID = a.controllerID(img, r.Session)
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// unmade gives the error code of a topic that was not created because of another one. Why not the same: of a topic that
// may still come clients expect LEADER_NOT_AVAILABLE; at what else says "try again" some give up (kafkajs).
func unmade(code int16) int16 {
	if code == kerr.NotController.Code || code == kerr.RequestTimedOut.Code {
		return kerr.LeaderNotAvailable.Code
	}
	return code
}

// wantedTopic describes one topic that the request names.
func (a *API) wantedTopic(ctx context.Context, want kmsg.MetadataRequestTopic, create bool, req *kmsg.MetadataRequest, r *wire.Request) kmsg.MetadataResponseTopic {
	fail := func(code *kerr.Error) kmsg.MetadataResponseTopic {
		m := kmsg.NewMetadataResponseTopic()
		m.Topic, m.TopicID, m.ErrorCode = want.Topic, want.TopicID, code.Code
		if m.Topic == nil && req.Version < 12 {
			m.Topic = new(string)
		}
		if want.Topic != nil {
			m.IsInternal = topic.IsInternal(*want.Topic)
		}
		return m
	}
	if want.Topic == nil {
		if topic.ID(want.TopicID).IsZero() {
			return fail(kerr.InvalidRequest)
		}
		t := a.image().TopicByID(want.TopicID)
		if t == nil {
			return fail(kerr.UnknownTopicID)
		}
		return a.topicMetadata(t, req, r)
	}
	name := *want.Topic
	if t := a.image().Topic(name); t != nil {
		return a.topicMetadata(t, req, r)
	}
	if err := topic.CheckName(name); err != nil {
		return fail(kerr.InvalidTopicException)
	}
	if !create || name == topic.TransactionState {
		return fail(kerr.UnknownTopicOrPartition)
	}
	if err := a.create(ctx, name); err != nil {
		m := fail(kerr.UnknownTopicOrPartition)
		code, _ := a.answer("Metadata", err)
		m.ErrorCode = unmade(code)
		return m
	}
	t := a.image().Topic(name)
	if t == nil { // made and deleted again in the meantime
		return fail(kerr.UnknownTopicOrPartition)
	}
	return a.topicMetadata(t, req, r)
}

// create makes a topic with the instance's defaults, or as an internal one needs to be.
// That another client was faster is no error.
func (a *API) create(ctx context.Context, name string) error {
	n := controller.NewTopic{Name: name, Partitions: -1, Replicas: -1}
	s := a.settings()
	switch name {
	case topic.ConsumerOffsets:
		n.Partitions = int32(s.Int("offsets.topic.num.partitions"))
		n.Replicas = int16(min(s.Int("offsets.topic.replication.factor"), int64(len(a.image().Brokers()))))
		n.Configs = map[string]string{
			"cleanup.policy":   "compact",
			"compression.type": "producer",
			"segment.bytes":    s.String("offsets.topic.segment.bytes"),
		}
	case topic.TransactionState:
		n.Partitions = int32(s.Int("transaction.state.log.num.partitions"))
		n.Replicas = int16(min(s.Int("transaction.state.log.replication.factor"), int64(len(a.image().Brokers()))))
		n.Configs = map[string]string{
			"cleanup.policy":                 "compact",
			"compression.type":               "uncompressed",
			"min.insync.replicas":            strconv.FormatInt(min(s.Int("transaction.state.log.min.isr"), int64(n.Replicas)), 10),
			"segment.bytes":                  s.String("transaction.state.log.segment.bytes"),
			"unclean.leader.election.enable": "false",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := a.createTopic(ctx, n)
	if err != nil && codeOf(err) == kerr.TopicAlreadyExists.Code {
		return nil
	}
	return err
}

// topicMetadata describes a topic that is there.
func (a *API) topicMetadata(t *metadata.Topic, req *kmsg.MetadataRequest, r *wire.Request) kmsg.MetadataResponseTopic {
	m := kmsg.NewMetadataResponseTopic()
	m.Topic, m.TopicID, m.IsInternal = &t.Name, t.ID, topic.IsInternal(t.Name)
	if req.IncludeTopicAuthorizedOperations {
		m.AuthorizedOperations = topicOperations
	}
	m.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition, mp.LeaderEpoch = int32(i), int32(p.LeaderEpoch)
		mp.Replicas, mp.ISR = brokerIDs(p.Replicas), brokerIDs(p.ISR)
		var leader metadata.BrokerID
		leader, mp.ErrorCode, mp.OfflineReplicas = a.state(p, r)
		mp.Leader = int32(leader)
		if mp.ErrorCode == kerr.ListenerNotFound.Code && req.Version == 0 {
			mp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		m.Partitions = append(m.Partitions, mp)
	}
	return m
}

// state gives a partition's leader as the client can reach it, with an error code
// where it cannot, and the replicas whose brokers are not in service.
func (a *API) state(p *metadata.Partition, r *wire.Request) (leader metadata.BrokerID, code int16, offline []int32) {
	img := a.image()
	for _, id := range p.Replicas {
		if b := img.Broker(id); b == nil || b.Fenced {
			offline = append(offline, int32(id))
		}
	}
	b := img.Broker(p.Leader)
	if b == nil || b.Fenced {
		return metadata.NoBroker, kerr.LeaderNotAvailable.Code, offline
	}
	if _, ok := endpoint(b, r); !ok {
		return metadata.NoBroker, kerr.ListenerNotFound.Code, offline
	}
	return p.Leader, 0, offline
}

func brokerIDs(ids []metadata.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}
