package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// patience is how long Propose waits for an election that is under way, and for
// raft to take a batch, if ctx sets no earlier end.
const patience = 10 * time.Second

// Propose has a batch of records committed and gives its index. It returns after
// the batch was folded into the image and every subscriber has seen that.
//
// Blocks: while nobody leads, and for the disk. Errors: ErrRefused, ErrDiskFull,
// ErrTooLarge, NotLeaderError: nothing happened. ErrFailed, ErrClosed,
// ErrNoLeader, ctx's: it is not known whether the batch survives.
func (q *Quorum) Propose(ctx context.Context, records []metadata.Record) (index uint64, err error) {
	if len(records) == 0 {
		panic("BUG: Propose without records")
	}
	batch := metadata.AppendBatch(nil, records)
	if len(batch) > maxBatch {
		return 0, fmt.Errorf("%w: %d records take %d bytes, %d are allowed; split the request",
			ErrTooLarge, len(records), len(batch), maxBatch)
	}
	if err := q.waitForLeader(ctx); err != nil {
		return 0, err
	}
	if err := q.files.admit(len(batch)); err != nil {
		return 0, fmt.Errorf("%w: %w; free some space and try again", ErrDiskFull, err)
	}
	return q.apply(ctx, batch)
}

// waitForLeader waits until this node leads, or knows that another one does.
func (q *Quorum) waitForLeader(ctx context.Context) error {
	if leads, _ := q.Leading(); leads {
		return q.failedErr()
	}
	if other := q.Leader(); other != metadata.NoBroker && other != q.o.Node {
		return &NotLeaderError{other}
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := q.WaitLeading(short)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%w for %v", ErrNoLeader, patience)
	}
	return err
}

// apply hands a batch to raft and waits for its fate.
func (q *Quorum) apply(ctx context.Context, batch []byte) (uint64, error) {
	q.mu.Lock()
	r := q.mu.raft
	if r == nil {
		q.mu.Unlock()
		return 0, ErrClosed
	}
	q.calls.Add(1) // Invariant: before Run takes raft away and waits
	q.mu.Unlock()

	future := make(chan raft.ApplyFuture, 1)
	said := make(chan error, 1)
	go func() {
		defer q.calls.Done()
		f := r.Apply(batch, patience)
		future <- f
		said <- q.answer(f)
	}()
	select {
	case err := <-said:
		if err != nil {
			return 0, q.explain(err)
		}
		f := <-future
		if err, ok := f.Response().(error); ok {
			return 0, err
		}
		return f.Index(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("cannot wait for a metadata change: %w", ctx.Err())
	case <-q.failed:
		return 0, q.failedErr()
	}
}

// explain turns raft's refusals into ours.
func (q *Quorum) explain(err error) error {
	if failure := q.failedErr(); failure != nil {
		return failure
	}
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrNotLeader):
		if other := q.Leader(); other != metadata.NoBroker && other != q.o.Node {
			return &NotLeaderError{other}
		}
	}
	return fmt.Errorf("%w: %w", ErrNoLeader, err)
}

// Snapshot writes the image to disk and shortens the log, without waiting for
// the usual number of entries.
func (q *Quorum) Snapshot() error {
	q.mu.Lock()
	r := q.mu.raft
	if r != nil {
		q.calls.Add(1)
		defer q.calls.Done()
	}
	q.mu.Unlock()
	if r == nil {
		return ErrClosed
	}
	if err := r.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("cannot write a metadata snapshot in %q: %w", q.o.Dir, err)
	}
	return nil
}
