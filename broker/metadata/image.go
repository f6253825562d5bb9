package metadata

import (
	"bytes"
	"cmp"
	"strings"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/topic"
)

type nameKey string

func (a nameKey) compare(b nameKey) int { return strings.Compare(string(a), string(b)) }

type idKey topic.ID

func (a idKey) compare(b idKey) int { return bytes.Compare(a[:], b[:]) }

func (id BrokerID) compare(other BrokerID) int { return cmp.Compare(id, other) }

func (r Resource) compare(other Resource) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), strings.Compare(r.Name, other.Name))
}

// settings are the dynamic settings of one resource. Why a pointer to them is
// kept: two generations are compared by it.
type settings struct{ values map[string]string }

// Image is the whole cluster's state after one committed batch; immutable. The
// zero Image is the empty cluster.
type Image struct {
	index      uint64
	clusterID  string
	created    int64
	names      pages[nameKey, *Topic]
	ids        pages[idKey, *Topic]
	brokers    pages[BrokerID, *Broker]
	configs    pages[Resource, *settings]
	quotas     pages[QuotaEntity, *quotas]
	features   map[string]int16
	producers  int64 // first producer ID that no block holds
	partitions int

	// Written at most once each, when somebody first asks.
	topicList  atomic.Pointer[[]*Topic]
	brokerList atomic.Pointer[[]*Broker]
}

// Empty gives the image of a cluster in which nothing happened.
func Empty() *Image { return &Image{} }

// Index is the raft index the image stands at; 0 for the empty image.
func (i *Image) Index() uint64 { return i.index }

// ClusterID is the instance ID; empty until the cluster is named.
func (i *Image) ClusterID() string { return i.clusterID }

// Created is when the cluster was named.
//
// Units: ms since 1970; 0 until then.
func (i *Image) Created() int64 { return i.created }

// Topic gives a topic by name, nil if there is none.
func (i *Image) Topic(name string) *Topic {
	t, _ := i.names.look(nameKey(name))
	return t
}

// TopicByID gives a topic by ID, nil if there is none.
func (i *Image) TopicByID(id topic.ID) *Topic {
	t, _ := i.ids.look(idKey(id))
	return t
}

// Topics gives all topics in name order. The slice is shared: read only.
func (i *Image) Topics() []*Topic {
	if l := i.topicList.Load(); l != nil {
		return *l
	}
	l := i.names.values()
	i.topicList.Store(&l)
	return l
}

// TopicCount counts topics, internal ones included.
func (i *Image) TopicCount() int { return i.names.count }

// Partitions counts partitions over all topics (replicas not counted; internal topics not counted).
func (i *Image) Partitions() int { return i.partitions }

// Brokers gives all registered brokers, fenced ones included, in ID order. The
// slice is shared: read only.
func (i *Image) Brokers() []*Broker {
	if l := i.brokerList.Load(); l != nil {
		return *l
	}
	l := i.brokers.values()
	i.brokerList.Store(&l)
	return l
}

// Broker gives a registered broker, nil if there is none.
func (i *Image) Broker(id BrokerID) *Broker {
	b, _ := i.brokers.look(id)
	return b
}

// Config gives the dynamic settings of one resource (only those set). Read only; nil if none.
func (i *Image) Config(r Resource) map[string]string {
	s, ok := i.configs.look(r)
	if !ok {
		return nil
	}
	return s.values
}

// Configured gives the resources of one kind that have dynamic settings, in name order.
func (i *Image) Configured(kind int8) []Resource {
	var rs []Resource
	n, at, _ := i.configs.find(Resource{Kind: kind})
	for ; n < len(i.configs.list); n, at = n+1, 0 {
		for _, e := range i.configs.list[n].entries[at:] {
			if e.key.Kind > kind {
				return rs
			}
			rs = append(rs, e.key)
		}
	}
	return rs
}

// Features gives finalized feature levels. Read only.
func (i *Image) Features() map[string]int16 { return i.features }

// NextProducerID is the first producer ID that no block holds.
func (i *Image) NextProducerID() int64 { return i.producers }
