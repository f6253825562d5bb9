package broker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
)

// markers takes the markers of the transactions that this node coordinates to where the
// partitions are led: here, by the function that the API has for those of other brokers.
type markers struct {
	node  metadata.BrokerID
	peers *peer.Client
	local atomic.Pointer[api.API] // nil until the doors open: the API needs the coordinator first
}

var _ txn.Markers = (*markers)(nil)

var errNoRoad = errors.New("the broker that leads the partition cannot be reached")

// Write is txn.Markers.
func (m *markers) Write(ctx context.Context, to metadata.BrokerID, marker record.Marker, version int8, parts []topic.Partition) []error {
	out := make([]error, len(parts))
	if to != m.node && to != metadata.NoBroker {
		return m.peers.WriteMarkers(ctx, to, marker, version, parts)
	}
	local := m.local.Load()
	if to != m.node || local == nil {
		for i := range out {
			out[i] = errNoRoad
		}
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
	for i := range out {
		out[i] = errNoRoad
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
