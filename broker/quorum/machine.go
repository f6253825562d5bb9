package quorum

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// machine folds committed entries into the image; it implements
// raft.BatchingFSM. Only raft's one applying goroutine calls it.
type machine struct {
	quorum *Quorum
	image  *metadata.Image // the newest, perhaps not published yet
	halted error           // set when an entry cannot be read; nothing is applied after it
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
	if m.image != old {
		m.quorum.publish(old, m.image)
	}
	return answers
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
	m.quorum.publish(old, img)
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
