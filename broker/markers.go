package broker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
)

// markers takes the markers of the transactions that this node coordinates to where the
// partitions are led: here, by the function that the API has for those of other brokers;
// to other brokers over the wire.
type markers struct {
	node  metadata.BrokerID
	peers *peer.Client
	local atomic.Pointer[api.API] // nil until the doors open: the API needs the coordinator first
}

var (
	_ txn.Markers      = (*markers)(nil)
	_ api.Transactions = transactions{}
)

var errNoRoad = errors.New("the broker that leads the partition cannot be reached")

// Write is txn.Markers.
func (m *markers) Write(ctx context.Context, to metadata.BrokerID, marker record.Marker, version int8, parts []topic.Partition) []error {
	if to == m.node {
		return m.here(ctx, marker, version, parts)
	}
	out := make([]error, len(parts))
	of, err := m.peers.WriteMarker(ctx, to, marker, version, parts)
	for i, p := range parts {
		switch got, told := of[p]; {
		case err != nil:
			out[i] = err
		case !told:
			out[i] = errNoRoad
		case codeOf(got) == kerr.InvalidProducerEpoch.Code:
			out[i] = storage.ErrInvalidProducerEpoch
		default:
			out[i] = got
		}
	}
	return out
}

func (m *markers) here(ctx context.Context, marker record.Marker, version int8, parts []topic.Partition) []error {
	out := make([]error, len(parts))
	for i := range out {
		out[i] = errNoRoad
	}
	local := m.local.Load()
	if local == nil {
		return out
	}
	type result struct {
		at  int
		err error
	}
	done := make(chan result, len(parts))
	for i, p := range parts {
		local.WriteMarker(p, marker, version, func(err error) { done <- result{i, err} })
	}
	for range parts {
		select {
		case r := <-done:
			out[r.at] = r.err
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// transactions is what the API asks about transactions: the coordinator here, and for the
// partitions that this broker leads the one of the transaction, wherever it is.
type transactions struct {
	*txn.Coordinator
	node  metadata.BrokerID
	peers *peer.Client
}

// AddPartitions implements api.Transactions.
func (t transactions) AddPartitions(ctx context.Context, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	if at := t.Where(id); at != t.node && at != metadata.NoBroker {
		return t.peers.AddPartitions(ctx, at, id, producer, epoch, parts, verifyOnly)
	}
	return t.Coordinator.AddPartitions(ctx, id, producer, epoch, parts, verifyOnly)
}
