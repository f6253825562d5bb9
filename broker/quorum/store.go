package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// store is raft's log and stable store. The library takes some disk errors as
// answers and panics on others; the process must survive both. So the first
// error is kept, told to the Quorum, and a call that would make the library
// panic waits until the Quorum closes.
//
// Invariant: after the first error nothing is written any more (R19).
type store struct {
	wal   *wal.WAL
	state *state
	snaps *snapshots
	fail  func(error) // tells the Quorum; called once
	bulk  *bulk

	// closing is closed when raft may no longer reach anybody: an answer given
	// after that has no effect outside this process's last moments.
	closing chan struct{}

	last  atomic.Uint64             // index of the last entry that was written
	began atomic.Pointer[time.Time] // when the write under way began; nil: none is
	hung  atomic.Bool               // a write that was given up has not ended

	mu struct {
		sync.Mutex
		err     error
		hangs   bool   // a write that was given up has not ended
		release func() // closes the files when it has
	}
	voteTerm []byte // of the vote that is about to be given; raft's one goroutine only

	giving sync.Once
	given  chan struct{} // closed when a write that hangs is waited for no more
}

func newStore(log *wal.WAL, st *state, snaps *snapshots, fail func(error)) *store {
	return &store{wal: log, state: st, snaps: snaps, fail: fail, bulk: newBulk(),
		closing: make(chan struct{}), given: make(chan struct{})}
}

// end gives the index of the last entry in the log that this process wrote.
func (s *store) end() uint64 { return s.last.Load() }

// writing gives how long the write under way takes; 0 if none is.
func (s *store) writing() time.Duration {
	began := s.began.Load()
	if began == nil {
		return 0
	}
	return max(1, time.Since(*began))
}

// endHang notes that the write that was given up has ended.
func (s *store) endHang() {
	s.mu.Lock()
	s.mu.hangs = false
	release := s.mu.release
	s.mu.Unlock()
	if release != nil {
		release()
	}
}

// hangs tells that a write that was given up has not ended; release is called when it has.
func (s *store) hangs(release func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.release = release
	return s.mu.hangs
}

// give gives a write up that does not end: the log has failed.
func (s *store) give(err error) {
	s.keep(err)
	s.giving.Do(func() { close(s.given) })
}

var (
	_ raft.LogStore          = (*store)(nil)
	_ raft.StableStore       = (*store)(nil)
	_ raft.MonotonicLogStore = (*store)(nil)
)

// failed gives the first error.
func (s *store) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// keep keeps the first error and tells it.
func (s *store) keep(err error) error {
	s.mu.Lock()
	first := s.mu.err == nil
	if first {
		s.mu.err = err
	}
	s.mu.Unlock()
	if first {
		s.fail(err)
	}
	return err
}

// IsMonotonic implements raft.MonotonicLogStore.
func (s *store) IsMonotonic() bool { return s.wal.IsMonotonic() }

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) { return s.wal.LastIndex() }

// GetLog implements raft.LogStore. An entry that is not there is an answer; one
// that cannot be read is trouble.
func (s *store) GetLog(index uint64, log *raft.Log) error {
	err := s.wal.GetLog(index, log)
	if err == nil {
		return nil
	}
	if errors.Is(err, wal.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	s.keep(fmt.Errorf("cannot read entry %d of the metadata log in %q: %w", index, s.state.path, err))
	<-s.closing
	*log = raft.Log{Index: index, Type: raft.LogNoop}
	return nil
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. Why in groups: one append must fit the
// slack behind a segment's limit.
func (s *store) StoreLogs(logs []*raft.Log) error {
	for len(logs) > 0 {
		n, size := 1, len(logs[0].Data)
		for n < len(logs) && size+len(logs[n].Data) <= maxBatch {
			size += len(logs[n].Data)
			n++
		}
		if err := s.storeGroup(logs[:n]); err != nil {
			return err
		}
		logs = logs[n:]
	}
	return nil
}

func (s *store) storeGroup(logs []*raft.Log) error {
	if err := s.failed(); err != nil {
		return err
	}
	now := time.Now()
	s.began.Store(&now)
	defer s.began.Store(nil)
	// Why aside: raft must hear of it when a disk that hangs is given up.
	said := make(chan error, 1)
	go func() {
		err := s.wal.StoreLogs(logs)
		if err == nil {
			err = s.state.setMark(logs[len(logs)-1].Index)
		}
		said <- err
	}()
	var err error
	select {
	case err = <-said:
	case <-s.given:
		s.mu.Lock()
		s.mu.hangs = true
		s.mu.Unlock()
		go func() {
			<-said
			s.endHang()
		}()
		return s.failed()
	}
	if err != nil {
		return s.keep(fmt.Errorf("cannot append to the metadata log in %q: %w", s.state.path, err))
	}
	s.last.Store(logs[len(logs)-1].Index)
	for _, l := range logs {
		s.bulk.add(len(l.Data))
	}
	return nil
}

// DeleteRange implements raft.LogStore. Invariants: the mark goes back before the
// log does; a log that is cut in front still reaches back to the older snapshot.
func (s *store) DeleteRange(first, last uint64) error {
	if err := s.failed(); err != nil {
		return err
	}
	end, err := s.wal.LastIndex()
	switch {
	case err != nil:
	case last < end: // in front
		last, err = s.snaps.within(last)
	case s.state.marked() >= first:
		err = s.state.setMark(first - 1)
	}
	if err == nil && first <= last {
		err = s.wal.DeleteRange(first, last)
	}
	if err != nil {
		return s.keep(fmt.Errorf("cannot shorten the metadata log in %q: %w", s.state.path, err))
	}
	return nil
}

// Keys under which raft keeps its vote.
// Source: hashicorp/raft, persistVote: the term, then at once for whom.
const (
	voteTermKey = "LastVoteTerm"
	voteForKey  = "LastVoteCand"
)

// Set implements raft.StableStore. Why both parts of a vote at once: with a crash in
// between, raft would take the vote of an earlier term for one of this term, and give
// it again to a candidate whose log it never looked at.
func (s *store) Set(key, value []byte) error {
	if string(key) != voteForKey {
		return s.hold(func() error { return s.state.SetStable(key, value) })
	}
	return s.hold(func() error {
		return s.state.setStable(map[string][]byte{voteTermKey: s.voteTerm, voteForKey: value})
	})
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, value uint64) error {
	b := binary.LittleEndian.AppendUint64(nil, value)
	if string(key) == voteTermKey {
		s.voteTerm = b
		return nil
	}
	return s.hold(func() error { return s.state.SetStable(key, b) })
}

// hold makes a change of term or vote. Why it waits after an error: the library
// panics, and an answer would let it vote with a term it can forget.
func (s *store) hold(change func() error) error {
	err := s.failed()
	if err == nil {
		if err = change(); err == nil {
			return nil
		}
		s.keep(err)
	}
	<-s.closing
	return nil
}

// Get implements raft.StableStore.
func (s *store) Get(key []byte) ([]byte, error) { return s.wal.Get(key) }

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) { return s.wal.GetUint64(key) }
