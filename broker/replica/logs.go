package replica

import (
	"math"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// held names one log on disk.
type held struct {
	name topic.Partition
	id   topic.ID
}

// storeLogs shows the store as a set needs it.
type storeLogs struct{ store *storage.Store }

func (s storeLogs) has(p topic.Partition, id topic.ID) bool {
	log := s.store.Log(p)
	return log != nil && log.TopicID() == id
}

func (s storeLogs) create(p topic.Partition, id topic.ID, c storage.LogConfig) (localLog, error) {
	log, err := s.store.Create(p, id, c)
	if err != nil {
		return nil, err
	}
	return log, nil
}

func (s storeLogs) remove(p topic.Partition, id topic.ID) error { return s.store.Delete(p, id) }

func (s storeLogs) setAside(p topic.Partition, id topic.ID) (string, error) {
	return s.store.SetAside(p, id)
}

func (s storeLogs) asides(p topic.Partition, id topic.ID, since time.Time) (int, time.Time) {
	return s.store.Asides(p, id, since)
}

func (s storeLogs) logs() []held {
	logs := s.store.Logs()
	out := make([]held, 0, len(logs))
	for _, l := range logs {
		out = append(out, held{name: l.Partition(), id: l.TopicID()})
	}
	return out
}

func (s storeLogs) failedDirs() []string { return s.store.FailedDirs() }

// LogConfig gives a topic's settings in the words of the log.
func LogConfig(v *config.Values, internal bool) storage.LogConfig {
	policies := v.List("cleanup.policy")
	return storage.LogConfig{
		SegmentBytes:    v.Int("segment.bytes"),
		SegmentAge:      v.Duration("segment.ms"),
		SegmentJitter:   v.Duration("segment.jitter.ms"),
		IndexBytes:      int(v.Int("segment.index.bytes")),
		IndexInterval:   int(v.Int("index.interval.bytes")),
		RetentionBytes:  v.Int("retention.bytes"),
		RetentionAge:    v.Duration("retention.ms"),
		DeleteDelay:     v.Duration("file.delete.delay.ms"),
		Compact:         slices.Contains(policies, "compact"),
		Delete:          slices.Contains(policies, "delete"),
		MinCleanable:    v.Float("min.cleanable.dirty.ratio"),
		MinLag:          v.Duration("min.compaction.lag.ms"),
		MaxLag:          unlessEndless(v.Duration("max.compaction.lag.ms")),
		DeleteRetention: v.Duration("delete.retention.ms"),
		FlushMessages:   unlessEndless(v.Int("flush.messages")),
		FlushEvery:      unlessEndless(v.Duration("flush.ms")),
		Preallocate:     v.Bool("preallocate"),
		Internal:        internal,
	}
}

// unlessEndless turns Kafka's way to say "never", the largest number, into ours.
func unlessEndless[N ~int64](n N) N {
	if n == math.MaxInt64 {
		return 0
	}
	return n
}
