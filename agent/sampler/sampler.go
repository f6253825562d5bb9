// Package sampler is the one heartbeat.
package sampler

import (
	"context"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Receiver gets each snapshot, one after the other in a fixed order; must return quickly.
type Receiver interface {
	Receive(ctx context.Context, s *metric.Snapshot)
}
