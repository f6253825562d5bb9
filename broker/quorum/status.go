package quorum

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Status is how the metadata log stands, as far as this node knows.
type Status struct {
	Leader metadata.BrokerID // NoBroker: nobody leads
	Epoch  uint64            // raft's term
	// Committed and End are the entries after the last committed and the last written
	// one: what Kafka calls high watermark and log end offset.
	Committed, End uint64
	Voters         []Member
	Observers      []Member // members that follow the log and do not vote

	leaderAddress raft.ServerAddress
	addresses     map[raft.ServerID]raft.ServerAddress
}

// Member is one node that has the metadata log.
type Member struct {
	Node      metadata.BrokerID
	Directory topic.ID // which incarnation of the node; zero for one that was made alone
	Address   string   // of its controller listener, HOST:PORT; "" if it has none
	// Of the leader's own knowledge; on other nodes zero but for this node's End.
	End      uint64    // the entry after the last one that it is known to have; 0: not known
	Heard    time.Time // when it last answered
	CaughtUp time.Time // when it last had all that the leader had
}

// Status tells how the metadata log stands; ok is false while it does not run.
func (q *Quorum) Status() (s Status, ok bool) {
	q.mu.Lock()
	r := q.mu.raft
	q.mu.Unlock()
	if r == nil {
		return Status{}, false
	}
	s = Status{Leader: metadata.NoBroker, Epoch: r.CurrentTerm(), Committed: r.CommitIndex() + 1, End: r.LastIndex() + 1,
		addresses: map[raft.ServerID]raft.ServerAddress{}}
	var id raft.ServerID
	if s.leaderAddress, id = r.LeaderWithID(); id != "" {
		s.Leader = nodeOf(id)
	}
	members := r.GetConfiguration()
	if members.Error() != nil {
		return Status{}, false
	}
	for _, v := range members.Configuration().Servers {
		s.addresses[v.ID] = v.Address
		m := q.memberOf(v, &s)
		if v.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, m)
		} else {
			s.Observers = append(s.Observers, m)
		}
	}
	return s, true
}

// memberOf tells what is known of a member.
func (q *Quorum) memberOf(v raft.Server, s *Status) Member {
	_, at := splitAddress(v.Address)
	m := Member{Node: nodeOf(v.ID), Directory: directory(v.ID), Address: at}
	if v.ID == q.self() {
		m.End = s.End
		if s.Leader == q.o.Node {
			m.Heard = q.o.Now() // the leader is as far as itself
			m.CaughtUp = m.Heard
		}
		return m
	}
	if p := q.meter.Load().progress(v.ID); s.Leader == q.o.Node && p.term == s.Epoch {
		m.Heard, m.CaughtUp = p.heard, p.caughtUp
		if p.match > 0 {
			m.End = p.match + 1
		}
	}
	return m
}

// Term counts elections: no two nodes lead in the same one.
func (q *Quorum) Term() uint64 {
	q.mu.Lock()
	r := q.mu.raft
	q.mu.Unlock()
	if r == nil {
		return 0
	}
	return r.CurrentTerm()
}
