package metadata

import "github.com/belfry-mq/belfry/broker/topic"

// Record is one thing that happened to the cluster: one of the types of this
// file. Slices and strings of a record belong to the images made from it.
type Record interface {
	kind() kind
	fold(*folding) error
	encode(*encoder)
	decode(*decoder)
}

// kind is a record type's number on disk; numbers are never used again.
type kind uint64

const (
	kindClusterNamed       kind = 1
	kindTopicCreated       kind = 2
	kindTopicRemoved       kind = 3
	kindPartitionCreated   kind = 4
	kindPartitionChanged   kind = 5
	kindConfigSet          kind = 6
	kindConfigRemoved      kind = 7
	kindBrokerRegistered   kind = 8
	kindBrokerFenced       kind = 9
	kindBrokerUnfenced     kind = 10
	kindBrokerUnregistered kind = 11
	kindProducerBlock      kind = 12
	kindFeatureSet         kind = 13
	kindLeadershipRenewed  kind = 14
	kindQuotaSet           kind = 15
	kindQuotaRemoved       kind = 16
	kindBrokerLeaving      kind = 17
)

// ClusterNamed gives the cluster its identity. It happens once.
type ClusterNamed struct {
	ID      string
	Created int64 // ms since 1970
}

// TopicCreated makes a topic without partitions; PartitionCreated records follow in the same batch.
type TopicCreated struct {
	Name    string
	ID      topic.ID
	Created int64 // ms since 1970
}

// TopicRemoved removes a topic with its partitions and settings.
type TopicRemoved struct{ ID topic.ID }

// PartitionCreated adds the topic's next partition: Number is the count before it.
type PartitionCreated struct {
	Topic  topic.ID
	Number int32
	State  Partition
}

// PartitionChanged replaces a partition's whole state. State.PartitionEpoch is
// the one before plus 1, otherwise the batch was decided on an old image and is
// refused (R11).
type PartitionChanged struct {
	Topic  topic.ID
	Number int32
	State  Partition
}

// ConfigSet sets one dynamic setting.
type ConfigSet struct {
	Resource Resource
	Name     string
	Value    string
}

// ConfigRemoved takes one dynamic setting back.
type ConfigRemoved struct {
	Resource Resource
	Name     string
}

// EpochFromIndex as a BrokerRegistered's epoch stands for the index of the
// batch that carries it (R10).
const EpochFromIndex int64 = -1

// BrokerRegistered registers a broker, in place of an earlier registration if there was one.
type BrokerRegistered struct{ Broker Broker }

// BrokerFenced takes a broker out of service. Epoch is its registration's.
type BrokerFenced struct {
	ID    BrokerID
	Epoch int64
}

// BrokerUnfenced puts a broker into service. Epoch is its registration's.
type BrokerUnfenced struct {
	ID    BrokerID
	Epoch int64
}

// BrokerLeaving notes that a broker wishes to stop; that lasts until it is unfenced or
// registered again. Epoch is its registration's.
type BrokerLeaving struct {
	ID    BrokerID
	Epoch int64
}

// BrokerUnregistered forgets a broker. Epoch is its registration's.
type BrokerUnregistered struct {
	ID    BrokerID
	Epoch int64
}

// ProducerBlock gives the producer IDs [First, First+Count) away for good. First
// is the image's NextProducerID.
type ProducerBlock struct {
	First, Count int64
}

// FeatureSet finalizes a feature's level; 0 removes it.
type FeatureSet struct {
	Name  string
	Level int16
}

// LeadershipRenewed begins a new leader epoch on every partition that a broker
// leads. Why one record: a broker that starts again would otherwise need one for
// each of its partitions.
type LeadershipRenewed struct{ ID BrokerID }

func (*ClusterNamed) kind() kind       { return kindClusterNamed }
func (*TopicCreated) kind() kind       { return kindTopicCreated }
func (*TopicRemoved) kind() kind       { return kindTopicRemoved }
func (*PartitionCreated) kind() kind   { return kindPartitionCreated }
func (*PartitionChanged) kind() kind   { return kindPartitionChanged }
func (*ConfigSet) kind() kind          { return kindConfigSet }
func (*ConfigRemoved) kind() kind      { return kindConfigRemoved }
func (*BrokerRegistered) kind() kind   { return kindBrokerRegistered }
func (*BrokerFenced) kind() kind       { return kindBrokerFenced }
func (*BrokerUnfenced) kind() kind     { return kindBrokerUnfenced }
func (*BrokerLeaving) kind() kind      { return kindBrokerLeaving }
func (*BrokerUnregistered) kind() kind { return kindBrokerUnregistered }
func (*ProducerBlock) kind() kind      { return kindProducerBlock }
func (*FeatureSet) kind() kind         { return kindFeatureSet }
func (*LeadershipRenewed) kind() kind  { return kindLeadershipRenewed }

// newRecord gives an empty record of a kind, nil for an unknown one.
func newRecord(k kind) Record {
	switch k {
	case kindClusterNamed:
		return new(ClusterNamed)
	case kindTopicCreated:
		return new(TopicCreated)
	case kindTopicRemoved:
		return new(TopicRemoved)
	case kindPartitionCreated:
		return new(PartitionCreated)
	case kindPartitionChanged:
		return new(PartitionChanged)
	case kindConfigSet:
		return new(ConfigSet)
	case kindConfigRemoved:
		return new(ConfigRemoved)
	case kindBrokerRegistered:
		return new(BrokerRegistered)
	case kindBrokerFenced:
		return new(BrokerFenced)
	case kindBrokerUnfenced:
		return new(BrokerUnfenced)
	case kindBrokerUnregistered:
		return new(BrokerUnregistered)
	case kindProducerBlock:
		return new(ProducerBlock)
	case kindFeatureSet:
		return new(FeatureSet)
	case kindLeadershipRenewed:
		return new(LeadershipRenewed)
	case kindBrokerLeaving:
		return new(BrokerLeaving)
	case kindQuotaSet:
		return new(QuotaSet)
	case kindQuotaRemoved:
		return new(QuotaRemoved)
	}
	return nil
}
