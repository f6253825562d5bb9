package metadata

import "maps"

// Delta is what changed between two images. Lists are in name or ID order.
type Delta struct {
	Added   []*Topic
	Removed []*Topic
	Changed []TopicChange
	// Configs are the resources whose dynamic settings changed, removed ones included.
	Configs []Resource
	Brokers []BrokerChange
	// Quotas tells that client quotas changed.
	Quotas bool
	// Features tells that feature levels changed.
	Features bool
}

// TopicChange is a topic that is in both images under the same ID.
type TopicChange struct {
	Old, New *Topic
	// Partitions are the numbers that are new or differ.
	Partitions []int32
}

// BrokerChange is a broker that came (Old nil), went (New nil) or changed.
type BrokerChange struct{ Old, New *Broker }

// Empty tells that nothing changed.
func (d *Delta) Empty() bool {
	return len(d.Added)+len(d.Removed)+len(d.Changed)+len(d.Configs)+len(d.Brokers) == 0 && !d.Features && !d.Quotas
}

// Diff tells what changed from one image to a later one. A topic that was
// removed and made again under its name is in Removed and in Added (R11). It
// costs as much as changed, if new was folded from old.
func Diff(old, new *Image) *Delta {
	d := &Delta{Features: !maps.Equal(old.features, new.features)}
	differences(&old.names, &new.names, func(_ nameKey, a, b *Topic, hasOld, hasNew bool) {
		if hasOld && hasNew && a.ID == b.ID {
			if ps := changedPartitions(a, b); len(ps) > 0 {
				d.Changed = append(d.Changed, TopicChange{Old: a, New: b, Partitions: ps})
			}
			return
		}
		if hasOld {
			d.Removed = append(d.Removed, a)
		}
		if hasNew {
			d.Added = append(d.Added, b)
		}
	})
	differences(&old.configs, &new.configs, func(r Resource, a, b *settings, hasOld, hasNew bool) {
		if !hasOld || !hasNew || !maps.Equal(a.values, b.values) {
			d.Configs = append(d.Configs, r)
		}
	})
	differences(&old.quotas, &new.quotas, func(_ QuotaEntity, a, b *quotas, hasOld, hasNew bool) {
		if !hasOld || !hasNew || !maps.Equal(a.values, b.values) {
			d.Quotas = true
		}
	})
	differences(&old.brokers, &new.brokers, func(_ BrokerID, a, b *Broker, hasOld, hasNew bool) {
		if hasOld && hasNew && a.Epoch == b.Epoch && a.Fenced == b.Fenced && a.Leaving == b.Leaving {
			return // the same registration, read from a snapshot
		}
		d.Brokers = append(d.Brokers, BrokerChange{Old: a, New: b})
	})
	return d
}

// changedPartitions gives the numbers that are new or differ. The partition
// epoch tells: it grows with every change.
func changedPartitions(a, b *Topic) (numbers []int32) {
	for n := range b.Partitions {
		if n >= len(a.Partitions) || a.Partitions[n].PartitionEpoch != b.Partitions[n].PartitionEpoch {
			numbers = append(numbers, int32(n))
		}
	}
	return numbers
}
