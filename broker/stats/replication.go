package stats

import vm "github.com/VictoriaMetrics/metrics"

// replication counts what brokers do for each other; client traffic is not in it.
type replication struct {
	shrinks, expands *vm.Counter
	in, out          *vm.Counter
}

func newReplication(set *vm.Set) replication {
	return replication{
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

func (r *replication) read() ReplicationReading {
	return ReplicationReading{
		Shrinks: r.shrinks.Get(), Expands: r.expands.Get(), BytesIn: r.in.Get(), BytesOut: r.out.Get(),
	}
}
