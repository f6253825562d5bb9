package quorum

import (
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// snapshotBytes is how much is written to the log from one snapshot to the next
// at most. Why besides Options.SnapshotEvery: an entry has up to maxBatch bytes,
// and 4096 of those would be 4 GiB to keep and to read at a start.
const snapshotBytes = 16 << 20

// bulk counts what is written to the log and tells when it is much.
type bulk struct {
	bytes atomic.Int64
	much  chan struct{} // has one token when it is
}

func newBulk() *bulk { return &bulk{much: make(chan struct{}, 1)} }

func (b *bulk) add(n int) {
	if b.bytes.Add(int64(n)) < snapshotBytes {
		return
	}
	b.snapshot()
}

// snapshot asks for a snapshot.
func (b *bulk) snapshot() {
	b.bytes.Store(0)
	select {
	case b.much <- struct{}{}:
	default: // a snapshot is about to be made already
	}
}

// shrink makes a snapshot and keeps no more log behind it than store insists on.
func (q *Quorum) shrink(r *raft.Raft) error {
	usual := r.ReloadableConfig()
	brief := usual
	brief.TrailingLogs = 1 // 0 would look like the removal of the whole log
	if err := r.ReloadConfig(brief); err != nil {
		return fmt.Errorf("cannot shorten the metadata log: %w", err)
	}
	err := q.Snapshot()
	if backErr := r.ReloadConfig(usual); err == nil && backErr != nil {
		err = fmt.Errorf("cannot restore how much of the metadata log is kept: %w", backErr)
	}
	return err
}
