package quorum

import (
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// Status is how the metadata log stands, as far as this node knows.
type Status struct {
	Leader metadata.BrokerID // NoBroker: nobody leads
	Epoch  uint64            // raft's term
	// Committed and End are the entries after the last committed and the last written
	// one: what Kafka calls high watermark and log end offset.
	Committed, End uint64
	Voters         []Voter
}

// Status tells how the metadata log stands; ok is false while it does not run.
func (q *Quorum) Status() (s Status, ok bool) {
	q.mu.Lock()
	r := q.mu.raft
	q.mu.Unlock()
	if r == nil {
		return Status{}, false
	}
	s = Status{Leader: metadata.NoBroker, Epoch: r.CurrentTerm(), Committed: r.CommitIndex() + 1, End: r.LastIndex() + 1}
	if _, id := r.LeaderWithID(); id != "" {
		s.Leader = nodeOf(id)
	}
	members := r.GetConfiguration()
	if members.Error() != nil {
		return Status{}, false
	}
	for _, v := range members.Configuration().Servers {
		s.Voters = append(s.Voters, Voter{nodeOf(v.ID), string(v.Address)})
	}
	return s, true
}

// nodeOf reads what serverID writes.
func nodeOf(id raft.ServerID) metadata.BrokerID {
	n, err := strconv.ParseInt(string(id), 10, 32)
	if err != nil {
		return metadata.NoBroker
	}
	return metadata.BrokerID(n)
}
