package api

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// maxNewTopics bounds what one request makes us hold for its answer, which has all
// settings of each topic.
const maxNewTopics = 5_000

// createTopics answers CreateTopics 0–7 (defaults since 4, KIP-464; the settings
// of the new topic in the answer since 5, KIP-525; topic ID in 7).
func (a *API) createTopics(r *wire.Request) {
	req := r.Body.(*kmsg.CreateTopicsRequest)
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, len(req.Topics))
	seen := map[string]int{}
	for _, t := range req.Topics {
		seen[t.Topic]++
	}
	var tooMany error
	if len(req.Topics) > maxNewTopics {
		tooMany = refuse(kerr.PolicyViolation, fmt.Sprintf("%d topics in one request, the limit is %d: send several requests", len(req.Topics), maxNewTopics))
	}
	var wishes []controller.NewTopic
	var at []int // where each wish stands in the request
	for i, t := range req.Topics {
		rt := &resp.Topics[i]
		rt.Default()
		rt.Topic = t.Topic
		wish, err := newTopic(t)
		if tooMany != nil {
			err = tooMany
		}
		if err == nil && seen[t.Topic] > 1 {
			err = refuse(kerr.InvalidRequest, fmt.Sprintf("topic %q stands %d times in the request: name it once", t.Topic, seen[t.Topic]))
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = a.answer("CreateTopics", err)
			continue
		}
		wishes, at = append(wishes, wish), append(at, i)
	}
	if len(wishes) > 0 {
		ctx, cancel := within(r, req.TimeoutMillis)
		defer cancel()
		for n, made := range a.controller.CreateTopics(ctx, wishes, req.ValidateOnly) {
			rt := &resp.Topics[at[n]]
			rt.ErrorCode, rt.ErrorMessage = a.answer("CreateTopics", made.Err)
			if made.Err == nil && made.Topic != nil {
				a.describeCreated(rt, made.Topic, wishes[n].Configs, req.ValidateOnly)
			}
		}
	}
	var code first
	for i := range resp.Topics {
		code.see(resp.Topics[i].ErrorCode)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// newTopic reads one wish of the request.
func newTopic(t kmsg.CreateTopicsRequestTopic) (controller.NewTopic, error) {
	n := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, Replicas: t.ReplicationFactor}
	if len(t.ReplicaAssignment) > 0 {
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return n, refuse(kerr.InvalidRequest, fmt.Sprintf("topic %q has both a replica assignment and numbers (partitions %d, replicas %d): with an assignment both numbers must be -1", t.Topic, t.NumPartitions, t.ReplicationFactor))
		}
		n.Assignment = map[int32][]metadata.BrokerID{}
		for _, p := range t.ReplicaAssignment {
			if _, twice := n.Assignment[p.Partition]; twice {
				return n, refuse(kerr.InvalidReplicaAssignment, fmt.Sprintf("topic %q assigns partition %d twice", t.Topic, p.Partition))
			}
			n.Assignment[p.Partition] = toBrokerIDs(p.Replicas)
		}
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return n, refuse(kerr.InvalidConfig, fmt.Sprintf("setting %q of topic %q has no value: give one or leave it out", c.Name, t.Topic))
		}
		if n.Configs == nil {
			n.Configs = map[string]string{}
		}
		n.Configs[c.Name] = *c.Value
	}
	return n, nil
}

// describeCreated fills in what the new topic is like.
func (a *API) describeCreated(rt *kmsg.CreateTopicsResponseTopic, t *metadata.Topic, set map[string]string, validateOnly bool) {
	if !validateOnly {
		rt.TopicID = t.ID
	}
	replicas := 0
	if len(t.Partitions) > 0 {
		replicas = len(t.Partitions[0].Replicas)
	}
	rt.NumPartitions, rt.ReplicationFactor = int32(len(t.Partitions)), int16(replicas)
	for _, e := range a.topicSettings(set, replicas) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		value := e.Value
		c.Name, c.Value, c.Source = e.Setting.Name, &value, int8(e.Source)
		rt.Configs = append(rt.Configs, c)
	}
}

// topicSettings gives every topic setting with its effective value, by name.
func (a *API) topicSettings(set map[string]string, replicas int) []config.Effective {
	img := a.image()
	dynDefault, dynBroker := a.dynamic(img)
	all := config.Resolve(config.Topic, a.file, dynDefault, dynBroker, set)
	values := config.TopicValues(a.file, dynDefault, dynBroker, set, replicas)
	for i := range all {
		// Why: what holds may depend on the number of replicas (flush.messages), and
		// the client must be told what holds.
		all[i].Value = values.String(all[i].Setting.Name)
	}
	return all
}

// dynamic gives the settings made at run time: those of every broker and this one's own.
func (a *API) dynamic(img *metadata.Image) (all, own map[string]string) {
	return img.Config(metadata.Resource{Kind: metadata.BrokerResource}),
		img.Config(metadata.Resource{Kind: metadata.BrokerResource, Name: a.nodeName()})
}

func toBrokerIDs(ids []int32) []metadata.BrokerID {
	out := make([]metadata.BrokerID, len(ids))
	for i, id := range ids {
		out[i] = metadata.BrokerID(id)
	}
	return out
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
