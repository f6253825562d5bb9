package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
)

// transactions are those that this node coordinates, and the road to the coordinators on
// other brokers for what the leader of a partition has to ask (KIP-890).
type transactions struct {
	*txn.Coordinator
	node  metadata.BrokerID
	image func() *metadata.Image
	peers *peer.Client
}

var _ api.Transactions = (*transactions)(nil)

// AddPartitions implements api.Transactions.
func (t *transactions) AddPartitions(ctx context.Context, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	to := t.coordinator(id)
	if to == t.node || to == metadata.NoBroker {
		return t.Coordinator.AddPartitions(ctx, id, producer, epoch, parts, verifyOnly)
	}
	of, err := t.peers.AddPartitions(ctx, to, id, producer, epoch, parts, verifyOnly)
	var known interface{ Kafka() int16 }
	if err != nil && !errors.As(err, &known) && ctx.Err() == nil {
		return nil, errors.Join(&peer.CodeError{Code: kerr.CoordinatorNotAvailable.Code}, err) // asking again helps
	}
	return of, err
}

// coordinator gives who coordinates a transactional ID; NoBroker if nobody is known.
func (t *transactions) coordinator(id string) metadata.BrokerID {
	state := t.image().Topic(topic.TransactionState)
	if state == nil || len(state.Partitions) == 0 {
		return metadata.NoBroker
	}
	return state.Partitions[journal.PartitionOf(id, len(state.Partitions))].Leader
}
