package broker

import (
	"strconv"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// settings are the broker's own of now: what is set at run time over the file.
type settings struct {
	node metadata.BrokerID
	file *config.Values
	now  atomic.Pointer[config.Values]
}

func newSettings(node metadata.BrokerID, file *config.Values) *settings {
	s := &settings{node: node, file: file}
	s.now.Store(config.NodeValues(file, nil, nil))
	return s
}

// of gives the dynamic layers of an image.
func (s *settings) of(img *metadata.Image) (all, own map[string]string) {
	return img.Config(metadata.Resource{Kind: metadata.BrokerResource}),
		img.Config(metadata.Resource{Kind: metadata.BrokerResource, Name: strconv.Itoa(int(s.node))})
}

// apply makes the image's settings the ones of now.
func (s *settings) apply(img *metadata.Image) {
	all, own := s.of(img)
	s.now.Store(config.NodeValues(s.file, all, own))
}

// values gives the broker's effective settings.
func (s *settings) values() *config.Values { return s.now.Load() }

// topic gives a topic's effective settings.
func (s *settings) topic(img *metadata.Image, name string) *config.Values {
	all, own := s.of(img)
	replicas := 0
	if t := img.Topic(name); t != nil && len(t.Partitions) > 0 {
		replicas = len(t.Partitions[0].Replicas)
	}
	return config.TopicValues(s.file, all, own, img.Config(metadata.Resource{Kind: metadata.TopicResource, Name: name}), replicas)
}

// replicationRates gives how fast this broker replicates limited partitions, in bytes a second.
func (s *settings) replicationRates() (leader, follower int64) {
	v := s.values()
	return v.Int("leader.replication.throttled.rate"), v.Int("follower.replication.throttled.rate")
}
