// Package replica is this broker's copy of each partition: who leads it, how far it is
// replicated, and who waits for that.
//
// It stands between the client's side (api, journal), which appends, reads and waits, and
// storage, which knows one log and nothing of leaders. What it is not: it decides no
// election.
//
// A leader counts how far each follower's fetches show it to be (highwater.go, pure) and
// asks the controller for another in-sync set when one catches up or falls behind
// (alter.go). It tells Observers of every move, so that who serves followers looks only at
// what has moved (watch.go). A follower has one fetcher for each leader (fetcher.go), cuts
// where the logs part and appends what comes as it is (follow.go). Both sides hold back what
// a limit leaves no room for, of replicas that are not in sync (limit.go, fetchlimit.go).
//
// Invariants: the high watermark that clients see never goes back (R5); it is the smallest
// log end of the maximal ISR, and it stands still while the committed ISR is smaller than
// min.insync.replicas (R4); what a client was told is acknowledged lies below it; the last stable
// offset never passes a transaction whose marker lies above the high watermark (R6); a
// follower's log up to the offset that it fetches from is the leader's, and as durable as
// the topic asks for. simulation_test.go plays whole clusters through faults against them.
//
// Road in: the broker publishes a metadata image to Set.Apply; requests find a Partition
// by Set.Partition. Road out: storage's log under each Partition; callbacks of Acked and
// Watch; Peers and ISR to the other brokers.
//
// Locks, in the order in which they are taken: a partition's role, a partition's mu, the
// deadlines', a fetcher's or the alterer's mutex or a log's own. Callbacks, and observers, run without mu and what comes after it, but
// perhaps inside an append or a change of leadership: they may read, not append.
package replica

import "errors"

// Refusals; compare with errors.Is.
var (
	ErrUnknownPartition     = errors.New("this broker does not hold the partition")
	ErrNotLeader            = errors.New("this broker does not lead the partition")
	ErrFencedEpoch          = errors.New("the leader epoch is older than the partition's")
	ErrUnknownEpoch         = errors.New("the leader epoch is newer than the partition's")
	ErrNotEnoughReplicas    = errors.New("fewer in-sync replicas than min.insync.replicas")
	ErrNotEnoughAfterAppend = errors.New("fewer in-sync replicas than min.insync.replicas after the append")
	ErrOffsetNotAvailable   = errors.New("the high watermark has not reached this leader's epoch")
	ErrTimeout              = errors.New("request timed out")
	ErrNotReplica           = errors.New("the broker holds no replica of the partition")
	ErrStaleBroker          = errors.New("the broker has registered again since")
)
