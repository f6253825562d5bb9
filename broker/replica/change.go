package replica

import (
	"maps"
	"slices"
	"strconv"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// following is what Apply knows of the image that it applied last. Apply's alone.
type following struct {
	image    *metadata.Image // nil: none was applied
	wanted   map[topic.Partition]wish
	resolved map[string]resolved // settings by topic
	failed   map[topic.Partition]bool
}

// changed takes the step to another image into what is wanted, and gives the partitions that
// it touches, and those that failed before. ok is false if everything has to be looked at.
//
// Why: in a large cluster something changes all the time, and each broker hears of all of it.
// What a step costs must grow with the step, not with the cluster.
func (s *Set) changed(old, img *metadata.Image) (touched map[topic.Partition]bool, ok bool) {
	if old == nil || s.now.image != old {
		return nil, false
	}
	d := metadata.Diff(old, img)
	// Why all of them for a broker: each leadership counts its followers by their registrations.
	if len(d.Brokers) > 0 || slices.ContainsFunc(d.Configs, s.concernsAll) {
		return nil, false
	}
	touched = maps.Clone(s.now.failed)
	if touched == nil {
		touched = make(map[topic.Partition]bool)
	}
	for _, t := range d.Removed {
		delete(s.now.resolved, t.Name)
		for n := range t.Partitions {
			name := topic.Partition{Topic: t.Name, Partition: int32(n)}
			delete(s.now.wanted, name)
			touched[name] = true
		}
	}
	for _, t := range d.Added {
		s.want(img, t, everyNumber(t), touched)
	}
	for _, c := range d.Changed {
		s.want(img, c.New, c.Partitions, touched)
	}
	for _, r := range d.Configs {
		if t := img.Topic(r.Name); r.Kind == resourceTopic && t != nil {
			delete(s.now.resolved, t.Name)
			s.want(img, t, everyNumber(t), touched)
		}
	}
	return touched, true
}

// concernsAll tells of settings that those of every topic here stand upon.
func (s *Set) concernsAll(r metadata.Resource) bool {
	return r.Kind == resourceBroker && (r.Name == "" || r.Name == strconv.Itoa(int(s.o.Node)))
}

func everyNumber(t *metadata.Topic) []int32 {
	all := make([]int32, len(t.Partitions))
	for n := range all {
		all[n] = int32(n)
	}
	return all
}

// want takes partitions of a topic into what is wanted, as an image has them.
func (s *Set) want(img *metadata.Image, t *metadata.Topic, numbers []int32, touched map[topic.Partition]bool) {
	r := s.now.resolved[t.Name]
	if r.topic == nil || r.topic.ID != t.ID {
		r = resolved{}
	}
	r.topic = t
	for _, n := range numbers {
		name := topic.Partition{Topic: t.Name, Partition: n}
		touched[name] = true
		part := t.Partitions[n]
		if !slices.Contains(part.Replicas, s.o.Node) {
			delete(s.now.wanted, name)
			continue
		}
		if r.set == nil {
			r.set = readSettings(s.o.Settings(img, t.Name))
		}
		s.now.wanted[name] = wish{id: t.ID, state: part, set: r.set}
	}
	if r.set != nil {
		s.now.resolved[t.Name] = r
	}
}

// some gives the wishes for the partitions that are touched, and tells whether any partition
// that is there is not wanted any more.
func (s *Set) some(touched map[topic.Partition]bool) (wishes map[topic.Partition]wish, gone bool) {
	entries := *s.partitions.Load()
	wishes = make(map[topic.Partition]wish, len(touched))
	for name := range touched {
		w, wanted := s.now.wanted[name]
		if wanted {
			wishes[name] = w
		}
		e := entries[name]
		gone = gone || e != nil && (!wanted || e.id != w.id)
	}
	return wishes, gone
}

// role is what a fetcher goes by.
type role struct {
	partition *Partition
	leader    metadata.BrokerID
	epoch     record.Epoch
}

// roles gives those of partitions as they are.
func (s *Set) roles(touched map[topic.Partition]bool) map[topic.Partition]role {
	entries := *s.partitions.Load()
	all := make(map[topic.Partition]role, len(touched))
	for name := range touched {
		if e := entries[name]; e != nil && e.partition != nil {
			leader, epoch := e.partition.Leader()
			all[name] = role{e.partition, leader, epoch}
		}
	}
	return all
}
