package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// clusterMetadata is the name that Kafka's tools take for the metadata log.
const clusterMetadata = "__cluster_metadata"

// NewTopic is one topic wished for. Partitions -1 / Replicas -1: the default. Assignment, if set, gives the replicas of each partition.
type NewTopic struct {
	Name       string
	Partitions int32
	Replicas   int16
	Assignment map[int32][]metadata.BrokerID
	Configs    map[string]string
}

// Created is what became of one NewTopic; Err is *Refusal or trouble. With
// validateOnly, Topic is what would have been created.
type Created struct {
	Topic *metadata.Topic
	Err   error
}

// CreateTopics creates topics; what became of each is at its position. Topics
// that are refused do not keep the others from being created.
func (c *Controller) CreateTopics(ctx context.Context, ts []NewTopic, validateOnly bool) []Created {
	made := make([]Created, len(ts))
	d, end, err := c.begin(ctx)
	if err != nil {
		for i := range made {
			made[i].Err = err
		}
		return made
	}
	defer end()
	topics, wishes := d.createTopics(ts)
	if !validateOnly {
		c.commit(ctx, wishes)
	}
	for i := range made {
		made[i] = Created{topics[i], wishes[i].err}
		if wishes[i].err != nil {
			made[i].Topic = nil
		} else if now := c.quorum.Image().TopicByID(topics[i].ID); now != nil {
			made[i].Topic = now
		}
	}
	return made
}

// createTopics decides on each topic; a later one sees the earlier ones.
func (d *decision) createTopics(ts []NewTopic) ([]*metadata.Topic, []wish) {
	topics, wishes := make([]*metadata.Topic, len(ts)), make([]wish, len(ts))
	names := make(map[string]int)
	for _, t := range ts {
		names[t.Name]++
	}
	clashes := d.clashes(ts)
	for i, t := range ts {
		made, records, err := (*metadata.Topic)(nil), []metadata.Record(nil), error(nil)
		if names[t.Name] > 1 {
			err = refuse(codeInvalidRequest, "topic %q stands %d times in the request; name it once", t.Name, names[t.Name])
		} else if err = d.checkName(t.Name, clashes); err == nil {
			made, records, err = d.createTopic(t)
		}
		if err == nil {
			d.countPartitions(t.Name, len(made.Partitions))
			clashes[flat(t.Name)] = t.Name
		}
		topics[i], wishes[i] = made, wish{records, err}
	}
	return topics, wishes
}

// flat is a name as a metric's name would hold it.
func flat(name string) string { return strings.ReplaceAll(name, ".", "_") }

// clashes gives the present topics by flat name, if a new name could clash at all.
func (d *decision) clashes(ts []NewTopic) map[string]string {
	taken := make(map[string]string)
	if !slices.ContainsFunc(ts, func(t NewTopic) bool { return strings.ContainsAny(t.Name, "._") }) {
		return taken
	}
	for _, t := range d.img.Topics() {
		if strings.ContainsAny(t.Name, "._") {
			taken[flat(t.Name)] = t.Name
		}
	}
	return taken
}

func (d *decision) checkName(name string, clashes map[string]string) error {
	if err := topic.CheckName(name); err != nil {
		return refuse(codeInvalidTopic, "topic name %q is not legal: %v", name, err)
	}
	if name == clusterMetadata {
		return refuse(codeInvalidTopic, "topic name %q is kept for the cluster's own metadata; choose another one", name)
	}
	if d.img.Topic(name) != nil {
		return refuse(codeTopicAlreadyExists, "topic %q already exists", name)
	}
	if other, ok := clashes[flat(name)]; ok && other != name {
		return refuse(codeInvalidTopic, "topic name %q collides with topic %q: metrics cannot tell '.' from '_'; choose another name", name, other)
	}
	return nil
}

// createTopic decides on one topic whose name is good.
func (d *decision) createTopic(t NewTopic) (*metadata.Topic, []metadata.Record, error) {
	placed, err := d.placeTopic(t)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
		if err := checkSetting(config.Topic, metadata.Resource{Kind: metadata.TopicResource, Name: t.Name}, name, t.Configs[name]); err != nil {
			return nil, nil, err
		}
	}
	if err := d.checkLimit(t.Name, len(placed)); err != nil {
		return nil, nil, err
	}
	made := &metadata.Topic{Name: t.Name, ID: d.id(), Created: d.now}
	records := []metadata.Record{&metadata.TopicCreated{Name: made.Name, ID: made.ID, Created: made.Created}}
	for n, replicas := range placed {
		p, err := d.newPartition(replicas)
		if err != nil {
			return nil, nil, refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: %v", n, t.Name, err)
		}
		made.Partitions = append(made.Partitions, p)
		records = append(records, &metadata.PartitionCreated{Topic: made.ID, Number: int32(n), State: p})
	}
	for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
		records = append(records, &metadata.ConfigSet{
			Resource: metadata.Resource{Kind: metadata.TopicResource, Name: t.Name}, Name: name, Value: t.Configs[name]})
	}
	return made, records, nil
}

// placeTopic gives the replicas of each partition of a new topic.
func (d *decision) placeTopic(t NewTopic) ([][]metadata.BrokerID, error) {
	if len(t.Assignment) > 0 {
		placed := make([][]metadata.BrokerID, len(t.Assignment))
		for n := range placed {
			replicas, ok := t.Assignment[int32(n)]
			if !ok {
				return nil, refuse(codeInvalidReplicaAssignment,
					"topic %q assigns %d partitions but not number %d; number them from 0 without a gap", t.Name, len(placed), n)
			}
			placed[n] = replicas
		}
		return placed, d.checkAssignment(t.Name, 0, placed, len(placed[0]))
	}
	v := d.settings()
	partitions, replicas := int(t.Partitions), int(t.Replicas)
	if partitions == -1 {
		partitions = int(v.Int("num.partitions"))
	}
	if partitions < 1 || partitions > maxTopicPartitions {
		return nil, refuse(codeInvalidPartitions, "topic %q cannot have %d partitions; want 1 to %d, or -1 for the default (num.partitions)",
			t.Name, t.Partitions, maxTopicPartitions)
	}
	brokers := d.img.Brokers()
	if replicas == -1 {
		replicas = min(int(v.Int("default.replication.factor")), max(len(brokers), 1))
	}
	if replicas < 1 {
		return nil, refuse(codeInvalidReplicationFactor,
			"topic %q cannot have %d replicas; want at least 1, or -1 for the default (default.replication.factor)", t.Name, t.Replicas)
	}
	return d.place(t.Name, partitions, replicas)
}

// place lets the placement choose.
func (d *decision) place(name string, partitions, replicas int) ([][]metadata.BrokerID, error) {
	brokers := d.img.Brokers()
	if len(brokers) == 0 {
		return nil, refuse(codeInvalidReplicationFactor, "topic %q cannot be placed: no broker is registered yet; try again", name)
	}
	if replicas > len(brokers) {
		return nil, refuse(codeInvalidReplicationFactor,
			"topic %q cannot have %d replicas: the number of brokers is %d; ask for that many or fewer, or add brokers", name, replicas, len(brokers))
	}
	spots := make([]Spot, len(brokers))
	live := 0
	for i, b := range brokers {
		spots[i] = Spot{b.ID, b.Rack, !b.Active()}
		if b.Active() {
			live++
		}
	}
	if live == 0 {
		return nil, refuse(codeInvalidReplicationFactor,
			"topic %q cannot be placed: none of the %d brokers is in service; wait until one is", name, len(brokers))
	}
	return Place(spots, partitions, replicas, d.rnd), nil
}

// checkAssignment checks replicas that a client chose, for partitions from first on.
func (d *decision) checkAssignment(name string, first int, placed [][]metadata.BrokerID, replicas int) error {
	if first+len(placed) > maxTopicPartitions {
		return refuse(codeInvalidPartitions, "topic %q cannot have %d partitions; %d is the limit", name, first+len(placed), maxTopicPartitions)
	}
	for i, ids := range placed {
		bad := func(format string, args ...any) error {
			return refuse(codeInvalidReplicaAssignment, "partition %d of topic %q: %s", first+i, name, fmt.Sprintf(format, args...))
		}
		switch {
		case len(ids) == 0:
			return bad("no replicas are assigned; name at least one broker")
		case len(ids) != replicas:
			return bad("%d replicas are assigned but the topic has %d; all partitions have the same number", len(ids), replicas)
		}
		for n, id := range ids {
			if slices.Contains(ids[:n], id) {
				return bad("broker %d is assigned twice; name each once", id)
			}
			if d.img.Broker(id) == nil {
				return bad("broker %d is not registered; registered are %v", id, d.brokerIDs())
			}
		}
	}
	return nil
}

func (d *decision) brokerIDs() []metadata.BrokerID {
	var ids []metadata.BrokerID
	for _, b := range d.img.Brokers() {
		ids = append(ids, b.ID)
	}
	return ids
}

// newPartition is a partition's first state: led by its first replica in service.
func (d *decision) newPartition(replicas []metadata.BrokerID) (metadata.Partition, error) {
	p := metadata.Partition{Replicas: replicas}
	for _, id := range replicas {
		if d.img.Broker(id).Active() {
			p.ISR = append(p.ISR, id)
		}
	}
	if len(p.ISR) == 0 {
		return p, fmt.Errorf("none of its brokers %v is in service; choose others or wait", replicas)
	}
	p.Leader = p.ISR[0]
	return p, nil
}

// countPartitions notes partitions that this request adds.
func (d *decision) countPartitions(name string, n int) {
	if !topic.IsInternal(name) {
		d.partitions += n
	}
}

// checkLimit keeps the instance within its partition limit.
// Source: product specification, "Flavors and limits".
func (d *decision) checkLimit(name string, more int) error {
	v, brokers := d.settings(), len(d.img.Brokers())
	limit := config.PartitionLimit(v, brokers)
	have := d.img.Partitions() + d.partitions
	if limit == 0 || topic.IsInternal(name) || int64(have+more) <= limit {
		return nil
	}
	flavor := config.FlavorOf(v)
	how := fmt.Sprintf("set by instance.partition.limit, flavor %s", flavor.Name)
	if v.Int("instance.partition.limit") <= 0 {
		how = fmt.Sprintf("flavor %s: %d per broker, %d brokers", flavor.Name, flavor.PartitionsPerBroker, brokers)
	}
	return refuse(codePolicyViolation,
		"topic %q needs %d more partitions; the instance has %d and its limit is %d (%s), so %d are left; ask for fewer, delete topics, or raise the limit",
		name, more, have, limit, how, max(0, limit-int64(have)))
}

// DeleteTopics takes IDs; errors by position.
func (c *Controller) DeleteTopics(ctx context.Context, ids []topic.ID) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(ids), err)
	}
	defer end()
	wishes := d.deleteTopics(ids)
	c.commit(ctx, wishes)
	return errorsOf(wishes)
}

func (d *decision) deleteTopics(ids []topic.ID) []wish {
	wishes := make([]wish, len(ids))
	for i, id := range ids {
		t := d.img.TopicByID(id)
		switch {
		case slices.Contains(ids[:i], id):
			wishes[i].err = refuse(codeInvalidRequest, "topic ID %v stands in the request more than once; name it once", id)
		case t == nil:
			wishes[i].err = refuse(codeUnknownTopicID, "there is no topic with ID %v", id)
		case topic.IsInternal(t.Name):
			wishes[i].err = refuse(codeInvalidRequest, "topic %q is internal and cannot be deleted: it holds the state of groups and transactions", t.Name)
		case beingMoved(t) >= 0:
			wishes[i].err = refuse(codeReassignmentInProgress, "topic %q cannot be deleted while partition %d is being moved; wait or cancel the move", t.Name, beingMoved(t))
		default:
			wishes[i].records = []metadata.Record{&metadata.TopicRemoved{ID: id}}
		}
	}
	return wishes
}
