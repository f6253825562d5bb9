// Package metadata is the cluster as pure data.
package metadata

import (
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// BrokerID names a broker; -1 means none.
type BrokerID int32

// NoBroker stands where no broker is.
const NoBroker BrokerID = -1

// Image is the whole cluster's state after one committed record; immutable.
type Image struct{}

// Index is the raft index the image stands at.
func (i *Image) Index() uint64 { panic("BUG: unbuilt") }

// ClusterID is the instance ID.
func (i *Image) ClusterID() string { panic("BUG: unbuilt") }

// Topic gives a topic by name, nil if there is none. ByID likewise.
func (i *Image) Topic(name string) *Topic     { panic("BUG: unbuilt") }
func (i *Image) TopicByID(id topic.ID) *Topic { panic("BUG: unbuilt") }

// Topics gives all topics in name order. The slice is shared: read only.
func (i *Image) Topics() []*Topic { panic("BUG: unbuilt") }

// Partitions counts partitions over all topics (replicas not counted; internal topics not counted).
func (i *Image) Partitions() int { panic("BUG: unbuilt") }

// Brokers gives all registered brokers in ID order.
func (i *Image) Brokers() []*Broker         { panic("BUG: unbuilt") }
func (i *Image) Broker(id BrokerID) *Broker { panic("BUG: unbuilt") }

// Config gives the dynamic settings of one resource (only those set). Read only; nil if none.
func (i *Image) Config(r Resource) map[string]string { panic("BUG: unbuilt") }

// Features gives finalized feature levels.
func (i *Image) Features() map[string]int16 { panic("BUG: unbuilt") }

// Resource names what a dynamic setting belongs to. Kinds are Kafka's: 2 topic, 4 broker ("" = every broker), 8 broker logger, 16 client metrics, 32 group.
type Resource struct {
	Kind int8
	Name string
}

// Topic is one topic; immutable.
type Topic struct {
	Name       string
	ID         topic.ID
	Partitions []Partition // index = partition number
	Created    int64       // ms
}

// Partition is one partition's place and leadership.
type Partition struct {
	Leader           BrokerID
	LeaderEpoch      record.Epoch
	PartitionEpoch   int32
	Replicas         []BrokerID // first = preferred leader
	ISR              []BrokerID
	ELR              []BrokerID
	Adding, Removing []BrokerID
	Dirs             []topic.ID // directory UUID per replica, zero = not said
}

// Broker is one registered broker.
type Broker struct {
	ID          BrokerID
	Epoch       int64 // raft index of its registration
	Incarnation topic.ID
	Rack        string
	Fenced      bool
	Endpoints   []Endpoint
}

// Endpoint is where clients of one listener reach the broker.
type Endpoint struct {
	Listener string // "PLAINTEXT"
	Host     string
	Port     int32
	Security int16 // Kafka's security protocol number: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}
