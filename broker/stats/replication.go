package stats

import (
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
)

// replication counts what brokers do for each other; client traffic is not in it.
type replication struct {
	shrinks, expands *vm.Counter
	in, out          *vm.Counter
	lag              atomic.Int64
}

func (r *replication) init(set *vm.Set) {
	*r = replication{
		shrinks: set.NewCounter("belfry_isr_shrinks_total"),
		expands: set.NewCounter("belfry_isr_expands_total"),
		in:      set.NewCounter("belfry_replication_in_bytes_total"),
		out:     set.NewCounter("belfry_replication_out_bytes_total"),
	}
}

// ReplicationReading is what a broker did as a replica of others and for its own replicas.
type ReplicationReading struct {
	Shrinks, Expands  uint64 // of in-sync sets of partitions that this broker leads
	BytesIn, BytesOut uint64 // of records fetched from leaders, and by followers
	Lag               int64  // messages that the furthest follower of a partition that this broker leads is behind
}

// ISRShrunk notes that the in-sync set of a partition that this broker leads lost a member.
func (b *Broker) ISRShrunk() {
	if b != nil {
		b.replication.shrinks.Inc()
	}
}

// ISRExpanded notes that the in-sync set of a partition that this broker leads got a member.
func (b *Broker) ISRExpanded() {
	if b != nil {
		b.replication.expands.Inc()
	}
}

// ReplicationIn notes bytes of records that were fetched from a leader and appended.
func (b *Broker) ReplicationIn(bytes int) {
	if b != nil {
		b.replication.in.Add(max(0, bytes))
	}
}

// ReplicationOut notes bytes of records that a follower was given.
func (b *Broker) ReplicationOut(bytes int) {
	if b != nil {
		b.replication.out.Add(max(0, bytes))
	}
}

// ReplicationLag notes how many messages the furthest follower of the partitions that this
// broker leads is behind.
//
// It is in Read only: the agent puts it into its snapshot and exports it from there.
func (b *Broker) ReplicationLag(messages int64) {
	if b != nil {
		b.replication.lag.Store(max(0, messages))
	}
}

func (r *replication) read() ReplicationReading {
	return ReplicationReading{
		Shrinks: r.shrinks.Get(), Expands: r.expands.Get(), BytesIn: r.in.Get(), BytesOut: r.out.Get(),
		Lag: r.lag.Load(),
	}
}
