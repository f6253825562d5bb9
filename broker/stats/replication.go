package stats

import (
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
)

// replication counts what brokers do for each other; client traffic is not in it.
type replication struct {
	shrinks, expands *vm.Counter
	in, out          *vm.Counter
	limIn, limOut    *vm.Counter // of that what counts for a limit
	now              atomic.Pointer[Replicated]
}

// Replicated is how the partitions stand that a broker leads.
type Replicated struct {
	Led       int
	Under     int   // those with fewer replicas in sync than assigned
	UnderMin  int   // those with fewer than min.insync.replicas: acks=all is refused
	MaxBehind int64 // records that the slowest replica of any of them lacks
}

func newReplication(set *vm.Set) *replication {
	r := &replication{
		shrinks: set.NewCounter("belfry_isr_shrinks_total"),
		expands: set.NewCounter("belfry_isr_expands_total"),
		in:      set.NewCounter("belfry_replication_in_bytes_total"),
		out:     set.NewCounter("belfry_replication_out_bytes_total"),
		limIn:   set.NewCounter("belfry_replication_limited_in_bytes_total"),
		limOut:  set.NewCounter("belfry_replication_limited_out_bytes_total"),
	}
	r.now.Store(&Replicated{})
	for name, value := range map[string]func(*Replicated) float64{
		"belfry_led_partitions":                  func(n *Replicated) float64 { return float64(n.Led) },
		"belfry_led_under_replicated_partitions": func(n *Replicated) float64 { return float64(n.Under) },
		"belfry_led_under_min_isr_partitions":    func(n *Replicated) float64 { return float64(n.UnderMin) },
		"belfry_replica_max_lag_messages":        func(n *Replicated) float64 { return float64(n.MaxBehind) },
	} {
		set.NewGauge(name, func() float64 { return value(r.now.Load()) })
	}
	return r
}

// Replicated notes how the partitions stand that this broker leads.
func (b *Broker) Replicated(now Replicated) {
	if b != nil {
		b.replication.now.Store(&now)
	}
}

// ReplicationReading is what a broker did as a replica of others and for its own replicas.
type ReplicationReading struct {
	Shrinks, Expands  uint64 // of in-sync sets of partitions that this broker leads
	BytesIn, BytesOut uint64 // of records fetched from leaders, and by followers
	Now               Replicated
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

// LimitedIn notes bytes of records that were fetched from a leader and count for the follower's limit.
func (b *Broker) LimitedIn(bytes int) {
	if b != nil {
		b.replication.limIn.Add(max(0, bytes))
	}
}

// LimitedOut notes bytes of records that a follower was given and that count for the leader's limit.
func (b *Broker) LimitedOut(bytes int) {
	if b != nil {
		b.replication.limOut.Add(max(0, bytes))
	}
}

func (r *replication) read() ReplicationReading {
	return ReplicationReading{
		Shrinks: r.shrinks.Get(), Expands: r.expands.Get(), BytesIn: r.in.Get(), BytesOut: r.out.Get(), Now: *r.now.Load(),
	}
}
