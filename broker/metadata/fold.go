package metadata

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/belfry-mq/belfry/broker/topic"
)

// Fold gives the image after a batch of records that was committed at index.
// The records belong to the new image afterwards.
//
// Errors: a record does not fit the image (a topic that is not there, an epoch
// that is not the next one). Then the whole batch has no effect; every node that
// folds the same batch into the same image comes to the same refusal.
func (i *Image) Fold(index uint64, records []Record) (*Image, error) {
	if index < i.index {
		return nil, fmt.Errorf("cannot fold index %d into an image that stands at %d", index, i.index)
	}
	f := &folding{
		index:      index,
		clusterID:  i.clusterID,
		created:    i.created,
		names:      edit[nameKey, *Topic]{pages: i.names},
		ids:        edit[idKey, *Topic]{pages: i.ids},
		brokers:    edit[BrokerID, *Broker]{pages: i.brokers},
		configs:    edit[Resource, *settings]{pages: i.configs},
		quotas:     edit[QuotaEntity, *quotas]{pages: i.quotas},
		features:   i.features,
		producers:  i.producers,
		partitions: i.partitions,
	}
	for n, r := range records {
		if err := r.fold(f); err != nil {
			return nil, fmt.Errorf("cannot fold record %d of %d at index %d: %w", n+1, len(records), index, err)
		}
	}
	return f.image(), nil
}

// At gives the same image standing at a later index, for commits that carry no records.
func (i *Image) At(index uint64) *Image {
	next, err := i.Fold(index, nil)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return next
}

// folding is an image on its way to the next one. Invariant: it never writes to
// what the old image can see; own and ownSettings hold what this fold copied
// already and so may change in place.
type folding struct {
	index       uint64
	clusterID   string
	created     int64
	names       edit[nameKey, *Topic]
	ids         edit[idKey, *Topic]
	brokers     edit[BrokerID, *Broker]
	configs     edit[Resource, *settings]
	quotas      edit[QuotaEntity, *quotas]
	features    map[string]int16
	producers   int64
	partitions  int
	own         map[*Topic]bool
	ownSettings map[*settings]bool
}

func (f *folding) image() *Image {
	return &Image{
		index:      f.index,
		clusterID:  f.clusterID,
		created:    f.created,
		names:      f.names.done(),
		ids:        f.ids.done(),
		brokers:    f.brokers.done(),
		configs:    f.configs.done(),
		quotas:     f.quotas.done(),
		features:   f.features,
		producers:  f.producers,
		partitions: f.partitions,
	}
}

// keep puts a topic that this fold made into both look-ups.
func (f *folding) keep(t *Topic) {
	f.names.set(nameKey(t.Name), t)
	f.ids.set(idKey(t.ID), t)
}

// copy gives a topic that this fold may change.
func (f *folding) copy(t *Topic) *Topic {
	own := *t
	own.Partitions = slices.Clone(t.Partitions)
	if f.own == nil {
		f.own = make(map[*Topic]bool)
	}
	f.own[&own] = true
	return &own
}

// topic gives a topic that may be changed.
func (f *folding) topic(id topic.ID) (*Topic, error) {
	t, ok := f.ids.look(idKey(id))
	if !ok {
		return nil, fmt.Errorf("there is no topic with ID %q", id)
	}
	if f.own[t] {
		return t, nil
	}
	own := f.copy(t)
	f.keep(own)
	return own, nil
}

// settings gives a resource's settings that may be changed.
func (f *folding) settings(r Resource) *settings {
	s, ok := f.configs.look(r)
	if ok && f.ownSettings[s] {
		return s
	}
	own := &settings{values: make(map[string]string)}
	if ok {
		maps.Copy(own.values, s.values)
	}
	if f.ownSettings == nil {
		f.ownSettings = make(map[*settings]bool)
	}
	f.ownSettings[own] = true
	f.configs.set(r, own)
	return own
}

// broker gives a broker if it is registered under this epoch.
func (f *folding) broker(id BrokerID, epoch int64) (*Broker, error) {
	b, ok := f.brokers.look(id)
	if !ok {
		return nil, fmt.Errorf("broker %d is not registered", id)
	}
	if b.Epoch != epoch {
		return nil, fmt.Errorf("broker %d is registered with epoch %d, not %d", id, b.Epoch, epoch)
	}
	return b, nil
}

func (f *folding) fence(id BrokerID, epoch int64, fenced bool) error {
	b, err := f.broker(id, epoch)
	if err != nil {
		return err
	}
	next := *b
	next.Fenced, next.Leaving = fenced, next.Leaving && fenced
	f.brokers.set(id, &next)
	return nil
}

func (r *ClusterNamed) fold(f *folding) error {
	if r.ID == "" {
		return fmt.Errorf("a cluster ID is not empty")
	}
	if f.clusterID != "" {
		return fmt.Errorf("the cluster is named %q already, not %q", f.clusterID, r.ID)
	}
	f.clusterID, f.created = r.ID, r.Created
	return nil
}

func (r *TopicCreated) fold(f *folding) error {
	if err := topic.CheckName(r.Name); err != nil {
		return fmt.Errorf("topic name %q: %w", r.Name, err)
	}
	if r.ID.IsZero() {
		return fmt.Errorf("topic %q has no ID", r.Name)
	}
	if _, ok := f.names.look(nameKey(r.Name)); ok {
		return fmt.Errorf("topic %q is there already", r.Name)
	}
	if t, ok := f.ids.look(idKey(r.ID)); ok {
		return fmt.Errorf("topic %q has the ID %q of topic %q", r.Name, r.ID, t.Name)
	}
	f.keep(f.copy(&Topic{Name: r.Name, ID: r.ID, Created: r.Created}))
	return nil
}

func (r *TopicRemoved) fold(f *folding) error {
	t, ok := f.ids.look(idKey(r.ID))
	if !ok {
		return fmt.Errorf("there is no topic with ID %q", r.ID)
	}
	f.ids.remove(idKey(t.ID))
	f.names.remove(nameKey(t.Name))
	f.configs.remove(Resource{TopicResource, t.Name})
	if !topic.IsInternal(t.Name) {
		f.partitions -= len(t.Partitions)
	}
	return nil
}

func (r *PartitionCreated) fold(f *folding) error {
	t, err := f.topic(r.Topic)
	if err != nil {
		return err
	}
	if int(r.Number) != len(t.Partitions) {
		return fmt.Errorf("topic %q has %d partitions, number %d is not the next", t.Name, len(t.Partitions), r.Number)
	}
	if err := r.State.check(); err != nil {
		return fmt.Errorf("partition %d of topic %q: %w", r.Number, t.Name, err)
	}
	t.Partitions = append(t.Partitions, r.State)
	if !topic.IsInternal(t.Name) {
		f.partitions++
	}
	return nil
}

func (r *PartitionChanged) fold(f *folding) error {
	t, err := f.topic(r.Topic)
	if err != nil {
		return err
	}
	if r.Number < 0 || int(r.Number) >= len(t.Partitions) {
		return fmt.Errorf("topic %q has %d partitions, there is no number %d", t.Name, len(t.Partitions), r.Number)
	}
	p := &t.Partitions[r.Number]
	switch err := r.State.check(); {
	case err != nil:
		return fmt.Errorf("partition %d of topic %q: %w", r.Number, t.Name, err)
	case r.State.PartitionEpoch != p.PartitionEpoch+1:
		return fmt.Errorf("partition %d of topic %q has partition epoch %d, %d is not the next",
			r.Number, t.Name, p.PartitionEpoch, r.State.PartitionEpoch)
	case r.State.LeaderEpoch < p.LeaderEpoch:
		return fmt.Errorf("partition %d of topic %q has leader epoch %d, %d goes back",
			r.Number, t.Name, p.LeaderEpoch, r.State.LeaderEpoch)
	case r.State.LeaderEpoch == p.LeaderEpoch && r.State.Leader != p.Leader:
		return fmt.Errorf("partition %d of topic %q moves from leader %d to %d without a new leader epoch",
			r.Number, t.Name, p.Leader, r.State.Leader)
	}
	*p = r.State
	return nil
}

// check tells what no partition may look like.
func (p *Partition) check() error {
	switch {
	case len(p.Replicas) == 0:
		return fmt.Errorf("it has no replicas")
	case p.LeaderEpoch < 0 || p.PartitionEpoch < 0:
		return fmt.Errorf("leader epoch %d and partition epoch %d must not be negative", p.LeaderEpoch, p.PartitionEpoch)
	case p.Leader != NoBroker && !slices.Contains(p.ISR, p.Leader):
		return fmt.Errorf("leader %d is not in sync (%d)", p.Leader, p.ISR)
	case len(p.Dirs) != 0 && len(p.Dirs) != len(p.Replicas):
		return fmt.Errorf("it names %d directories for %d replicas", len(p.Dirs), len(p.Replicas))
	}
	for _, id := range p.ISR {
		if !slices.Contains(p.Replicas, id) {
			return fmt.Errorf("broker %d is in sync but no replica (%d)", id, p.Replicas)
		}
	}
	for n, id := range p.Replicas {
		if id < 0 {
			return fmt.Errorf("replica %d is no broker", id)
		}
		if slices.Contains(p.Replicas[:n], id) {
			return fmt.Errorf("replica %d is named twice", id)
		}
	}
	return nil
}

func (r *ConfigSet) fold(f *folding) error {
	if r.Name == "" {
		return fmt.Errorf("a setting of %v has no name", r.Resource)
	}
	if r.Resource.Kind == TopicResource {
		if _, ok := f.names.look(nameKey(r.Resource.Name)); !ok {
			return fmt.Errorf("there is no %v to set %q on", r.Resource, r.Name)
		}
	}
	f.settings(r.Resource).values[r.Name] = r.Value
	return nil
}

func (r *ConfigRemoved) fold(f *folding) error {
	if s, ok := f.configs.look(r.Resource); !ok || !has(s.values, r.Name) {
		return fmt.Errorf("%v has no setting %q to remove", r.Resource, r.Name)
	}
	s := f.settings(r.Resource)
	delete(s.values, r.Name)
	if len(s.values) == 0 {
		f.configs.remove(r.Resource)
	}
	return nil
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

func (r *BrokerRegistered) fold(f *folding) error {
	b := r.Broker
	if b.ID < 0 {
		return fmt.Errorf("broker ID %d is negative", b.ID)
	}
	if b.Epoch == EpochFromIndex {
		if f.index > math.MaxInt64 {
			return fmt.Errorf("index %d is no broker epoch", f.index)
		}
		b.Epoch = int64(f.index)
	}
	if old, ok := f.brokers.look(b.ID); ok && old.Epoch >= b.Epoch {
		return fmt.Errorf("broker %d is registered with epoch %d, %d is not newer", b.ID, old.Epoch, b.Epoch)
	}
	f.brokers.set(b.ID, &b)
	return nil
}

func (r *BrokerFenced) fold(f *folding) error { return f.fence(r.ID, r.Epoch, true) }

func (r *BrokerUnfenced) fold(f *folding) error { return f.fence(r.ID, r.Epoch, false) }

func (r *BrokerLeaving) fold(f *folding) error {
	b, err := f.broker(r.ID, r.Epoch)
	if err != nil {
		return err
	}
	next := *b
	next.Leaving = true
	f.brokers.set(r.ID, &next)
	return nil
}

func (r *BrokerUnregistered) fold(f *folding) error {
	if _, err := f.broker(r.ID, r.Epoch); err != nil {
		return err
	}
	f.brokers.remove(r.ID)
	return nil
}

func (r *LeadershipRenewed) fold(f *folding) error {
	if _, ok := f.brokers.look(r.ID); !ok {
		return fmt.Errorf("broker %d is not registered", r.ID)
	}
	for n := range f.names.list {
		for i := range f.names.list[n].entries {
			t := f.names.list[n].entries[i].val
			if !slices.ContainsFunc(t.Partitions, func(p Partition) bool { return p.Leader == r.ID }) {
				continue
			}
			if !f.own[t] { // in place: a look-up of each topic would cost the most
				t = f.copy(t)
				f.names.touch(n).entries[i].val = t
				f.ids.set(idKey(t.ID), t)
			}
			if err := t.renew(r.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// renew begins a new leader epoch on every partition that a broker leads.
// Requires: the topic may be changed.
func (t *Topic) renew(leader BrokerID) error {
	for n := range t.Partitions {
		p := &t.Partitions[n]
		if p.Leader != leader {
			continue
		}
		if p.LeaderEpoch == math.MaxInt32 || p.PartitionEpoch == math.MaxInt32 {
			return fmt.Errorf("partition %d of topic %q has no epoch left", n, t.Name)
		}
		p.LeaderEpoch++
		p.PartitionEpoch++
	}
	return nil
}

func (r *ProducerBlock) fold(f *folding) error {
	if r.First != f.producers {
		return fmt.Errorf("the next producer ID is %d, not %d", f.producers, r.First)
	}
	if r.Count <= 0 || r.First > math.MaxInt64-r.Count {
		return fmt.Errorf("a block of %d producer IDs from %d on is not possible", r.Count, r.First)
	}
	f.producers = r.First + r.Count
	return nil
}

func (r *FeatureSet) fold(f *folding) error {
	if r.Name == "" || r.Level < 0 {
		return fmt.Errorf("feature %q cannot have level %d", r.Name, r.Level)
	}
	next := make(map[string]int16, len(f.features)+1)
	maps.Copy(next, f.features)
	if r.Level == 0 {
		delete(next, r.Name)
	} else {
		next[r.Name] = r.Level
	}
	f.features = next
	return nil
}
