package quorum

import (
	"github.com/hashicorp/raft"
)

// The library tells a member how far the log is committed with the entries after, or
// with a timer: on a quiet cluster the others would see each change 50 to 100 ms late,
// and a partition's new leader would begin as much later. So the leader says it at
// once, with the message that the library sends when its timer fires.
//
// Invariant: a member is told an index only if all of the leader's log up to there is
// known to be in its log, and this node is still the leader that found that out.

// committed notes that the log is committed up to index, and tells the others if this
// node leads.
func (m *meter) committed(index uint64) {
	m.commit.Store(index)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.mu.peers {
		p.wake()
	}
}

// wake has a member told what it does not know.
func (p *progress) wake() {
	select {
	case p.news <- struct{}{}:
	default: // it is about to be told
	}
}

// push tells one member until the transport is closed.
func (m *meter) push(id raft.ServerID, p *progress) {
	for {
		select {
		case <-m.closing:
			return
		case <-p.news:
		}
		if at, req := m.notice(p); req != nil {
			// An error is no matter: the timer will tell it again.
			_ = m.AppendEntries(id, at, req, new(raft.AppendEntriesResponse))
		}
	}
}

// notice gives what to tell a member; nil for nothing.
func (m *meter) notice(p *progress) (at raft.ServerAddress, req *raft.AppendEntriesRequest) {
	commit := m.commit.Load()
	r := m.raft.Load()
	// Why in this order: who leads a term after an index was committed has it in its log.
	if r == nil || r.State() != raft.Leader {
		return "", nil
	}
	term := r.CurrentTerm()
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.term != term || p.match < commit || p.told >= commit || p.match == 0 {
		return "", nil
	}
	p.told = commit // Why before the answer: what fails once is the timer's
	return p.at, &raft.AppendEntriesRequest{
		RPCHeader: p.header, Term: term, Leader: p.leader,
		PrevLogEntry: p.match, PrevLogTerm: p.matchTerm, LeaderCommitIndex: commit,
	}
}

// learn keeps what an answered message says of a member.
func (p *progress) learn(at raft.ServerAddress, req *raft.AppendEntriesRequest, success bool) {
	if p.term != req.Term {
		p.term, p.match, p.matchTerm, p.told = req.Term, 0, 0, 0
	}
	p.at, p.header, p.leader = at, req.RPCHeader, req.Leader
	if !success {
		return
	}
	p.told = max(p.told, req.LeaderCommitIndex)
	last, term := req.PrevLogEntry, req.PrevLogTerm
	if n := len(req.Entries); n > 0 {
		last, term = req.Entries[n-1].Index, req.Entries[n-1].Term
	}
	if last > p.match {
		p.match, p.matchTerm = last, term
	}
}
