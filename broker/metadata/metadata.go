// Package metadata is the cluster as pure data: which topics, partitions,
// settings and brokers there are, and nothing that acts on them.
//
// A Record says one thing that happened. Records come in batches; a batch is
// committed as a whole by the room above (quorum) and folded into the Image
// before it, which gives the next Image. An Image never changes: readers hold
// one as long as they like, without a lock, and compare two with Diff. Images
// share all structure that a batch did not touch, so folding costs as much as
// the batch is long, not as much as the cluster is large.
//
// Invariants: folding is a pure function of image, index and records; a batch
// that does not fit is refused as a whole and leaves no trace; folding the
// records of Snapshot into the empty image gives the same image again.
//
// It is not: the order of batches (quorum), the decision which records to write
// (controller), or what a broker does about a change (replica, group, ...).
//
// The road in: DecodeBatch → Image.Fold. The road out: Image's look-ups, Diff,
// WriteSnapshot. FORMAT.md describes the bytes.
package metadata

import (
	"strconv"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// BrokerID names a broker; -1 means none.
type BrokerID int32

// NoBroker stands where no broker is.
const NoBroker BrokerID = -1

// Kinds of Resource.
// Source: Kafka protocol, ConfigResource.Type.
const (
	TopicResource         int8 = 2
	BrokerResource        int8 = 4 // the empty name is the default of every broker
	BrokerLoggerResource  int8 = 8
	ClientMetricsResource int8 = 16
	GroupResource         int8 = 32
)

// Names of features that clients and rooms look for in Image.Features.
// Source: KIP-584, KIP-778, KIP-848, KIP-853, KIP-890.
const (
	FeatureMetadataVersion    = "metadata.version"
	FeatureKRaftVersion       = "kraft.version"
	FeatureGroupVersion       = "group.version"       // 1: the consumer protocol of KIP-848 may be used
	FeatureTransactionVersion = "transaction.version" // 2: KIP-890, part 2
)

// Resource names what a dynamic setting belongs to. Kinds are Kafka's.
type Resource struct {
	Kind int8
	Name string
}

// String gives the resource as errors print it: `topic "a"`.
func (r Resource) String() string {
	kind := "resource kind " + strconv.Itoa(int(r.Kind))
	switch r.Kind {
	case TopicResource:
		kind = "topic"
	case BrokerResource:
		if r.Name == "" {
			return "every broker"
		}
		kind = "broker"
	case BrokerLoggerResource:
		kind = "broker logger"
	case ClientMetricsResource:
		kind = "client metrics"
	case GroupResource:
		kind = "group"
	}
	return kind + " " + strconv.Quote(r.Name)
}

// Topic is one topic; immutable.
type Topic struct {
	Name       string
	ID         topic.ID
	Partitions []Partition // index = partition number
	Created    int64       // ms since 1970
}

// Partition is one partition's place and leadership.
type Partition struct {
	Leader           BrokerID
	LeaderEpoch      record.Epoch
	PartitionEpoch   int32      // +1 with every change of this struct
	Replicas         []BrokerID // first = preferred leader
	ISR              []BrokerID
	ELR              []BrokerID // eligible leader replicas (KIP-966)
	Adding, Removing []BrokerID // a running reassignment's
	Dirs             []topic.ID // directory UUID per replica, zero = not said; empty = none said
}

// Broker is one registered broker; immutable.
type Broker struct {
	ID          BrokerID
	Epoch       int64 // raft index of its registration
	Incarnation topic.ID
	Rack        string
	Fenced      bool // out of service
	Leaving     bool // it wishes to stop: it still serves, but leads nothing new (R14)
	Endpoints   []Endpoint
	// Settings are those of its file that must be the same on every node, by name; none
	// where it did not tell.
	Settings []Setting
}

// Setting is the value of one setting in a node's file.
type Setting struct{ Name, Value string }

// Active tells that the broker may lead and be in sync. Nil is not.
func (b *Broker) Active() bool { return b != nil && !b.Fenced && !b.Leaving }

// Endpoint is where clients of one listener reach the broker.
type Endpoint struct {
	Listener string // "PLAINTEXT"
	Host     string
	Port     int32
	Security int16 // Kafka's security protocol number: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}
