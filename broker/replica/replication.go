package replica

import (
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/stats"
)

// Replication says how this broker follows others, and when it gives up on those who follow it.
type Replication struct {
	LagTime             time.Duration // replica.lag.time.max.ms
	FetchWait           time.Duration // replica.fetch.wait.max.ms
	FetchMinBytes       int           // replica.fetch.min.bytes
	FetchMaxBytes       int           // replica.fetch.response.max.bytes
	FetchPartitionBytes int           // replica.fetch.max.bytes
	BackOff             time.Duration // replica.fetch.backoff.ms: the longest one after failures
	SocketTimeout       time.Duration // replica.socket.timeout.ms
	Fetchers            int           // num.replica.fetchers: requests to one leader at a time
}

// ReplicationOf reads a node's settings.
func ReplicationOf(v *config.Values) Replication {
	return Replication{
		LagTime:             v.Duration("replica.lag.time.max.ms"),
		FetchWait:           v.Duration("replica.fetch.wait.max.ms"),
		FetchMinBytes:       int(v.Int("replica.fetch.min.bytes")),
		FetchMaxBytes:       int(v.Int("replica.fetch.response.max.bytes")),
		FetchPartitionBytes: int(v.Int("replica.fetch.max.bytes")),
		BackOff:             v.Duration("replica.fetch.backoff.ms"),
		SocketTimeout:       v.Duration("replica.socket.timeout.ms"),
		Fetchers:            int(v.Int("num.replica.fetchers")),
	}
}

// complete gives every field that is not set its default.
func (r Replication) complete() Replication {
	if r == (Replication{}) {
		return ReplicationOf(config.Defaults())
	}
	return r
}

// numbers is what replication writes down; *stats.Broker does, also a nil one.
type numbers interface {
	ISRShrunk()
	ISRExpanded()
	ReplicationIn(bytes int)
	ReplicationOut(bytes int)
	LimitedIn(bytes int)
	LimitedOut(bytes int)
	Replicated(now stats.Replicated)
}

// statePeriod is how often the numbers of the partitions that are led are taken.
const statePeriod = time.Second

// state counts how the partitions stand that this broker leads.
func (s *Set) state() (now stats.Replicated) {
	for _, p := range s.All() {
		end := p.log.End()
		p.mu.Lock()
		if l := p.mu.lead; l != nil {
			now.Led++
			if len(l.isr.committed) < len(l.replicas) {
				now.Under++
			}
			if !l.enough() {
				now.UnderMin++
			}
			now.MaxBehind = max(now.MaxBehind, int64(l.behind(end)))
		}
		p.mu.Unlock()
	}
	return now
}
