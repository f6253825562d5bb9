package broker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
)

// markers writes the markers of the transactions that this node coordinates into partitions
// that it leads, by the function that the API has for those of other brokers.
type markers struct {
	local atomic.Pointer[api.API] // nil until the doors open: the API needs the coordinator first
}

var _ txn.Markers = (*markers)(nil)

var errNotYet = errors.New("the marker is not written yet")

// Write is txn.Markers.
func (m *markers) Write(ctx context.Context, marker record.Marker, version int8, parts []topic.Partition) []error {
	out := make([]error, len(parts))
	for i := range out {
		out[i] = errNotYet
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
