// Package txn coordinates transactions: which producer may write under a transactional ID,
// which partitions its transaction touches, how it ends.
//
// Each partition of __transaction_state that this broker leads carries its own share of the
// transactional IDs: a state machine without clock, goroutine or disk (shard, transaction and
// the files they are spread over), and a doer around it (Coordinator) that brings requests
// and sends markers; the journal brings the log and the time.
//
// Invariants: a transaction changes by committed records only, by the same code while
// loading and while running; it has one transition on its way at a time; an answer that
// promises something comes after the high watermark passed its record (R28); the decision to
// commit or abort is in the log before the first marker is sent, and markers are sent, again
// after a restart, until every partition has its own; no epoch is given to two producers.
//
// Road in: Coordinator's methods, Apply for the metadata. Road out: the journal of each
// partition; Markers; reply funcs.
//
// Records are Kafka's own (TransactionLogKey, TransactionLogValue 0 and 1), so that its tools
// read them. What is done for KIP-98, 360, 447, 664 and 890 follows Kafka 4; where a client
// would hear CONCURRENT_TRANSACTIONS at once it is first waited a moment.
package txn

import "github.com/twmb/franz-go/pkg/kerr"

// State is where a transactional ID stands; the numbers are those of the log.
type State int8

// The states.
const (
	Empty         State = 0 // no transaction yet
	Ongoing       State = 1
	PrepareCommit State = 2 // decided, markers are being written
	PrepareAbort  State = 3
	// CompleteCommit and CompleteAbort say that every partition has its marker.
	CompleteCommit State = 4
	CompleteAbort  State = 5
	Dead           State = 6 // being forgotten; never stored
	// PrepareEpochFence is a Kafka state that is never stored: the epoch is raised by the same
	// record that decides the abort.
	PrepareEpochFence State = 7
)

// names are the states as Kafka's tools show them.
var names = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}

// String gives the state as Kafka's tools show it.
func (s State) String() string { return names[s] }

// StateNamed finds a state by its name.
func StateNamed(name string) (State, bool) {
	for s, n := range names {
		if n == name {
			return State(s), true
		}
	}
	return 0, false
}

// MaxID is the longest transactional ID in bytes. Source: the log's key has an int16 for it.
const MaxID = 1<<15 - 1

// code is a Kafka error code; 0 is none.
type code = int16

// The refusals that transactions answer with, by the names of the protocol.
var (
	none               code = 0
	notCoordinator          = kerr.NotCoordinator.Code
	loadInProgress          = kerr.CoordinatorLoadInProgress.Code
	notAvailable            = kerr.CoordinatorNotAvailable.Code
	invalidRequest          = kerr.InvalidRequest.Code
	invalidTimeout          = kerr.InvalidTransactionTimeout.Code
	invalidMapping          = kerr.InvalidProducerIDMapping.Code
	producerFenced          = kerr.ProducerFenced.Code
	invalidState            = kerr.InvalidTxnState.Code
	concurrent              = kerr.ConcurrentTransactions.Code
	abortable               = kerr.TransactionAbortable.Code
	notFound                = kerr.TransactionalIDNotFound.Code
	unknownServerError      = kerr.UnknownServerError.Code
)

// Refusal is a Kafka error code as an error.
type Refusal struct{ Code int16 }

// Error gives the code's name and meaning.
func (r *Refusal) Error() string { return kerr.ErrorForCode(r.Code).Error() }

// Kafka gives the code.
func (r *Refusal) Kafka() int16 { return r.Code }

// refusal gives the error of a code; nil for none.
func refusal(c code) error {
	if c == none {
		return nil
	}
	return &Refusal{c}
}
