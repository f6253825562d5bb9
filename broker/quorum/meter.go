package quorum

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// meter is the transport that raft sees: it passes everything on to the real one and
// notes what the library does not tell – how far each member is, how far the leader
// is – and can fall silent.
type meter struct {
	inner  raft.Transport
	now    func() time.Time
	logger *slog.Logger
	end    func() uint64 // last index of this node's log

	rpcs    chan raft.RPC
	closing chan struct{}
	passing sync.WaitGroup

	// silent makes every message of a leader fail, so that the others elect another one (R16).
	silent atomic.Bool
	// told is the highest index that a leader said to be committed.
	told atomic.Uint64
	// commit is the index up to which this node has applied the log.
	commit atomic.Uint64
	raft   atomic.Pointer[raft.Raft]

	mu struct {
		sync.Mutex
		closed bool
		peers  map[raft.ServerID]*progress
	}
}

// progress is how far another member is, as its leader knows.
type progress struct {
	match    uint64    // index up to which its log is known to be the leader's
	term     uint64    // of the leader who knows that
	heard    time.Time // its last answer
	caughtUp time.Time // when it had all that the leader had
	lost     bool      // it did not answer for lostAfter

	// What it takes to tell it more, see push.
	matchTerm, told uint64
	header          raft.RPCHeader
	leader          []byte
	at              raft.ServerAddress
	news            chan struct{} // capacity 1
}

var (
	_ raft.Transport   = (*meter)(nil)
	_ raft.WithPreVote = (*meter)(nil)
	_ raft.WithClose   = (*meter)(nil)
)

// lostAfter is how long a member does not answer until that is worth a line in the log.
const lostAfter = time.Second

// errSilent is what raft hears of the others while this node is silent.
var errSilent = errors.New("this node's disk is stalled: it lets another one lead")

func newMeter(inner raft.Transport, o *Options, end func() uint64) *meter {
	m := &meter{inner: inner, now: o.Now, logger: o.Logger, end: end, rpcs: make(chan raft.RPC), closing: make(chan struct{})}
	m.mu.peers = map[raft.ServerID]*progress{}
	m.passing.Go(m.pass)
	return m
}

// pass hands on what comes in.
func (m *meter) pass() {
	for {
		select {
		case rpc := <-m.inner.Consumer():
			if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && a.LeaderCommitIndex > m.told.Load() {
				m.told.Store(a.LeaderCommitIndex)
			}
			select {
			case m.rpcs <- rpc:
			case <-m.closing:
				return
			}
		case <-m.closing:
			return
		}
	}
}

// standForElection has this node stand at once. Requires: it is the only voter. Why:
// it would wait for the heartbeat of a leader that cannot be there.
func (m *meter) standForElection() {
	said := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, RespChan: said}
	select {
	case m.rpcs <- rpc:
	case <-m.closing:
	}
}

// Close implements raft.WithClose.
func (m *meter) Close() error {
	m.mu.Lock()
	if m.mu.closed {
		m.mu.Unlock()
		return nil
	}
	m.mu.closed = true
	close(m.closing)
	m.mu.Unlock()
	var err error
	if t, ok := m.inner.(raft.WithClose); ok {
		err = t.Close()
	}
	m.passing.Wait()
	return err
}

// progress gives how far a member is; zero if nothing is known of it.
func (m *meter) progress(id raft.ServerID) progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.mu.peers[id]; p != nil {
		return *p
	}
	return progress{}
}

// isLost tells that a node does not answer.
func (m *meter) isLost(node metadata.BrokerID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.mu.peers {
		if nodeOf(id) == node && p.lost {
			return true
		}
	}
	return false
}

// note keeps what a message to a member led to. f is called with its progress when it answered.
func (m *meter) note(id raft.ServerID, err error, f func(*progress)) {
	m.mu.Lock()
	p := m.mu.peers[id]
	if p == nil {
		p = &progress{news: make(chan struct{}, 1)}
		m.mu.peers[id] = p
		if !m.mu.closed {
			m.passing.Go(func() { m.push(id, p) })
		}
	}
	// Why not at once: a member that answers heartbeats is there, however slow its disk is.
	lost := err != nil && m.now().Sub(p.heard) >= lostAfter
	changed := p.lost != lost
	p.lost = lost
	if err == nil {
		p.heard = m.now()
		f(p)
	}
	m.mu.Unlock()
	switch {
	case !changed || m.closed():
	case lost:
		m.logger.Warn("cannot reach a member of the cluster", "member", string(id), "err", err)
	default:
		m.logger.Info("a member of the cluster answers", "member", string(id))
	}
}

func (m *meter) closed() bool {
	select {
	case <-m.closing:
		return true
	default:
		return false
	}
}

// AppendEntries implements raft.Transport. One that fails is tried again when the member
// answers heartbeats. Why not left to the library: it doubles its pause with every
// failure, and a member that was away for half a minute would wait for ten seconds more.
func (m *meter) AppendEntries(id raft.ServerID, at raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	heartbeat := req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0 && len(req.Entries) == 0
	for end := m.now().Add(returnLimit); ; {
		err := m.append(id, at, req, resp)
		if err == nil || heartbeat || errors.Is(err, errSilent) || !m.awaitReturn(id, req.Term, end) {
			return err
		}
	}
}

// returnLimit is how long one message waits for its member to come back, and returnPause
// how often that is looked at.
const (
	returnLimit = 20 * time.Second
	returnPause = 20 * time.Millisecond
)

// awaitReturn waits until a member has answered something; false: it is not worth to
// send it what was to be sent.
func (m *meter) awaitReturn(id raft.ServerID, term uint64, end time.Time) bool {
	failed := m.now()
	for m.now().Before(end) {
		select {
		case <-m.closing:
			return false
		case <-time.After(returnPause):
		}
		if r := m.raft.Load(); r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
			return false
		}
		if m.progress(id).heard.After(failed) {
			return true
		}
	}
	return false
}

func (m *meter) append(id raft.ServerID, at raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if m.silent.Load() {
		return errSilent
	}
	end := m.end() // Why before: what is appended meanwhile the member cannot have
	err := m.inner.AppendEntries(id, at, req, resp)
	m.note(id, err, func(p *progress) {
		p.learn(at, req, resp.Success)
		if p.told < m.commit.Load() {
			p.wake()
		}
		if p.match >= end {
			p.caughtUp = p.heard
		}
	})
	return err
}

// InstallSnapshot implements raft.Transport.
func (m *meter) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if m.silent.Load() {
		return errSilent
	}
	err := m.inner.InstallSnapshot(id, at, req, resp, data)
	if err == nil && resp.Success {
		m.logger.Info("sent a member the metadata snapshot", "member", string(id), "index", req.LastLogIndex, "bytes", req.Size)
	}
	m.note(id, err, func(p *progress) {
		if resp.Success {
			p.term, p.match, p.matchTerm, p.told = req.Term, req.LastLogIndex, req.LastLogTerm, 0
		}
	})
	return err
}

// RequestVote implements raft.Transport.
func (m *meter) RequestVote(id raft.ServerID, at raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := m.inner.RequestVote(id, at, req, resp)
	m.note(id, err, func(*progress) {})
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (m *meter) RequestPreVote(id raft.ServerID, at raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	t, ok := m.inner.(raft.WithPreVote)
	if !ok {
		return fmt.Errorf("cannot ask member %q before an election: the transport has no such message", id)
	}
	err := t.RequestPreVote(id, at, req, resp)
	m.note(id, err, func(*progress) {})
	return err
}

// TimeoutNow implements raft.Transport.
func (m *meter) TimeoutNow(id raft.ServerID, at raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return m.inner.TimeoutNow(id, at, req, resp)
}

// AppendEntriesPipeline implements raft.Transport. Why none: metadata comes in few
// and small batches; one message after the other says how far each member is.
func (m *meter) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// The rest implements raft.Transport.

func (m *meter) Consumer() <-chan raft.RPC            { return m.rpcs }
func (m *meter) LocalAddr() raft.ServerAddress        { return m.inner.LocalAddr() }
func (m *meter) SetHeartbeatHandler(f func(raft.RPC)) { m.inner.SetHeartbeatHandler(f) }

func (m *meter) EncodePeer(id raft.ServerID, at raft.ServerAddress) []byte {
	return m.inner.EncodePeer(id, at)
}

func (m *meter) DecodePeer(b []byte) raft.ServerAddress { return m.inner.DecodePeer(b) }
