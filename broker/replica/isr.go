package replica

import (
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// isr is the in-sync replicas as one leader knows them.
//
// Why two sets: a change is proposed to the controller and may be committed there before
// this leader hears of it. A high watermark computed over the union is right in both
// cases (R4); the count against min.insync.replicas takes only what is committed.
type isr struct {
	committed []metadata.BrokerID
	proposed  []metadata.BrokerID // nil: no change is under way
}

// maximal gives every member that is in sync now or after the change under way.
func (s isr) maximal() []metadata.BrokerID {
	if s.proposed == nil {
		return s.committed
	}
	all := slices.Clone(s.committed)
	for _, id := range s.proposed {
		if !contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// enough tells whether the committed set carries an acks=all produce.
func (s isr) enough(minInSync int) bool { return len(s.committed) >= minInSync }

// minInSync caps min.insync.replicas by the number of replicas, so that a topic of one
// replica works in an instance whose default is two.
// Source: KIP-966, effective min ISR.
func minInSync(setting, replicas int) int { return max(1, min(setting, replicas)) }

func contains(ids []metadata.BrokerID, id metadata.BrokerID) bool { return slices.Contains(ids, id) }
