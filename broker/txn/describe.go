package txn

import (
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Description is one transactional ID as tools show it (KIP-664).
type Description struct {
	ID       string
	State    State
	Timeout  time.Duration
	Started  int64 // ms; -1: no transaction is open or being ended
	Producer int64
	Epoch    int16
	Parts    []topic.Partition // of the transaction, sorted; while markers are written those that have none yet
}

func (t *transaction) describe() Description {
	d := Description{
		ID: t.id, State: t.state, Timeout: time.Duration(t.timeout) * time.Millisecond, Started: t.started,
		Producer: t.producer, Epoch: t.epoch, Parts: t.parts,
	}
	if t.unmarked != nil {
		d.Parts = slices.DeleteFunc(slices.Clone(t.parts), func(p topic.Partition) bool { return !t.unmarked[p] })
	}
	return d
}

// Describe shows one transactional ID, or tells by a Kafka code why it cannot.
func (c *Coordinator) Describe(id string) (d Description, why int16) {
	known := false
	why = c.do(id, func(s *shard) {
		if t := s.ids[id]; t != nil && t.producer >= 0 {
			d, known = t.describe(), true
		}
	})
	if why == none && !known {
		why = notFound
	}
	return d, why
}

// List shows all transactional IDs that this broker coordinates; loading says that there may
// be more in a moment. now is the time to measure their age by, ms.
func (c *Coordinator) List() (ds []Description, now int64, loading bool) {
	for _, h := range c.hosts.All() {
		status := h.Do(func(s *shard) {
			for _, t := range s.ids {
				if t.producer >= 0 {
					ds = append(ds, t.describe())
				}
			}
		})
		loading = loading || status == journal.Loading
	}
	return ds, c.o.Now().UnixMilli(), loading
}
