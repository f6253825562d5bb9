package stats

import (
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"github.com/belfry-mq/belfry/broker/topic"
)

// Flush notes one flush of a log to disk: how long it took and whether it failed.
func (b *Broker) Flush(d time.Duration, err error) {
	if b == nil {
		return
	}
	if err != nil {
		b.sums.flushErrors.Inc()
		return
	}
	d = max(d, 0)
	b.sums.flushes.Add(1)
	b.sums.flushNanos.Add(int64(d))
	b.flush.Observe(d.Seconds())
}

// DeletedBytes notes message data deleted, by reason: "retention", "capacity", "topic".
func (b *Broker) DeletedBytes(reason string, n int64) {
	if b == nil || n <= 0 {
		return
	}
	named(b, b.mu.deleted, reason, func() *vm.Counter {
		return b.set.NewCounter(series("belfry_deleted_bytes_total", labelReason, reason))
	}).AddInt64(n)
}

// Corruption notes damaged data that was found, and where ("segment", "index", …).
// The place is a kind of thing, not a path: it becomes a label.
//
// It is in Read only: the agent puts it into its snapshot, so that rules can
// watch it, and exports it from there.
func (b *Broker) Corruption(where string) {
	if b == nil {
		return
	}
	named(b, b.mu.damaged, where, func() *vm.Counter { return new(vm.Counter) }).Inc()
}

// DirOnline notes whether a data directory works.
func (b *Broker) DirOnline(dir string, online bool) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.dirs[dir] = online
}

// DirFailed notes why a data directory was taken offline: a few words, which become a label.
func (b *Broker) DirFailed(dir, why string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.why[dir] = why
}

// SpoiledReplica is one whose data is damaged, and that is not whole and in sync again.
type SpoiledReplica struct {
	Topic     string
	Partition int32
	Dir       string // "": not known
	Why       string // a few words, which become a label
}

// ReplicaDamaged notes that a replica's data is damaged: why, in a few words that become a label.
func (b *Broker) ReplicaDamaged(p topic.Partition, dir, why string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.spoiled[p] = SpoiledReplica{Topic: p.Topic, Partition: p.Partition, Dir: dir, Why: why}
}

// ReplicaWhole notes that a damaged replica is whole and in sync again, or gone.
func (b *Broker) ReplicaWhole(p topic.Partition) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.spoiled, p)
}

// ReplicaRefetched notes that the files of a damaged replica were set aside, and it begins anew.
func (b *Broker) ReplicaRefetched() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.refetched++
}

// named gives one counter of a few, made on first use. The map is one of b.mu.
func named(b *Broker, m map[string]*vm.Counter, key string, make func() *vm.Counter) *vm.Counter {
	b.mu.RLock()
	c := m[key]
	b.mu.RUnlock()
	if c != nil {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := m[key]; c != nil {
		return c
	}
	c = make()
	m[key] = c
	return c
}
