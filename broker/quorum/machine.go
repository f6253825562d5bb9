package quorum

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// machine folds committed entries into the image; it implements
// raft.BatchingFSM. Only raft's one applying goroutine calls those methods.
type machine struct {
	quorum *Quorum
	image  *metadata.Image // the newest, perhaps not published yet
	halted error           // set when an entry cannot be read; nothing is applied after it
	folded atomic.Uint64   // index of the last entry in newest

	showing  sync.Mutex // one publication at a time, in order
	newest   *metadata.Image
	caughtUp bool
}

var _ raft.BatchingFSM = (*machine)(nil)

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: it folds each entry by itself and
// publishes once. An answer is nil or an error.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	old := m.image
	answers := make([]any, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if err := m.fold(l); err != nil {
			answers[i] = err
		}
	}
	m.show(old)
	m.folded.Store(logs[len(logs)-1].Index)
	m.quorum.meter.Load().committed(logs[len(logs)-1].Index)
	return answers
}

// show publishes what became of old.
func (m *machine) show(old *metadata.Image) {
	m.showing.Lock()
	defer m.showing.Unlock()
	m.newest = m.image
	if m.caughtUp && m.newest != old {
		m.quorum.publish(old, m.newest)
	}
}

// catchUp publishes the first image. Why not earlier: while the log is replayed
// the images are of the past; a room that acted on one would, say, make a log
// directory for a topic that is long deleted.
func (m *machine) catchUp() {
	m.showing.Lock()
	defer m.showing.Unlock()
	if !m.caughtUp {
		m.caughtUp = true
		m.quorum.publish(metadata.Empty(), m.newest)
		close(m.quorum.caughtUp)
	}
}

func (m *machine) fold(l *raft.Log) error {
	if m.halted != nil {
		return m.halted
	}
	records, err := metadata.DecodeBatch(l.Data)
	if err != nil {
		// Why halt: a node that skips an entry has another cluster than the rest.
		m.quorum.fail(fmt.Errorf("cannot read entry %d of the metadata log: %w", l.Index, err))
		m.halted = m.quorum.failedErr()
		return m.halted
	}
	next, err := m.image.Fold(l.Index, records)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err) // the same on every node
	}
	m.image = next
	return nil
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if m.halted != nil {
		return nil, m.halted
	}
	return frozen{m.image}, nil
}

// Restore implements raft.FSM: a leader sent its snapshot.
func (m *machine) Restore(body io.ReadCloser) error {
	img, err := metadata.ReadSnapshot(body)
	if err != nil {
		return err
	}
	old := m.image
	m.image = img
	m.show(old)
	return nil
}

// frozen is an image on its way into a snapshot.
type frozen struct{ image *metadata.Image }

// Persist implements raft.FSMSnapshot.
func (f frozen) Persist(k raft.SnapshotSink) error {
	if err := f.image.WriteSnapshot(k); err != nil {
		return fmt.Errorf("%w (cancelled: %v)", err, k.Cancel())
	}
	return k.Close()
}

// Release implements raft.FSMSnapshot.
func (frozen) Release() {}
