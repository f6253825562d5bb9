// Package group coordinates consumer groups: who is a member, who consumes what, how far.
//
// Each partition of __consumer_offsets that this broker leads carries its own share of the
// groups: a state machine without clock, goroutine or disk (shard and the files it is
// spread over), and a doer around it (Coordinator, journal.Host) that brings requests, time and the
// journal.
//
// Two protocols share offsets and IDs. In the classic one (join, rebalance, sync, heartbeat)
// the members agree among themselves, and what they agree on is none of the coordinator's
// business, but for the topics that a consumer subscribes to. In the new one (KIP-848:
// consumer, draft, turn, assign) the coordinator assigns. A group goes from one to the other
// while it lives (migrate, consumer_classic).
//
// Offsets that come in a transaction count when its marker is replayed (txn).
//
// Invariants: offsets, and groups of the new protocol, change by committed records only, by
// the same code while loading and while running, so that what is served equals a replay of
// the log (R31); a partition is given to its new owner after the old one let go of it; an answer that
// promises something comes after the high watermark passed its record; no member of an
// older generation commits or assigns (R32).
//
// Road in: Coordinator's methods, one for each API; Apply for the metadata. Road out: the
// journal of each partition; reply funcs.
//
// Records are Kafka's own (OffsetCommitKey, GroupMetadataKey and their values), so that its
// tools read them.
package group

import "github.com/twmb/franz-go/pkg/kerr"

// Client is who asks.
type Client struct {
	ID   string // client ID, "" if none
	Host string // "/127.0.0.1", as Kafka shows it
}

// state is where a group stands.
type state int8

const (
	empty               state = iota // no members; perhaps offsets
	preparingRebalance               // members are asked to join again
	completingRebalance              // everybody joined; the leader's assignment is awaited
	stable                           // everybody has an assignment
	dead                             // being deleted
)

// String gives the state as Kafka's tools show it.
func (s state) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// code is a Kafka error code; 0 is none.
type code = int16

// The refusals that groups answer with, by the names of the protocol.
var (
	none                    code = 0
	notCoordinator               = kerr.NotCoordinator.Code
	loadInProgress               = kerr.CoordinatorLoadInProgress.Code
	notAvailable                 = kerr.CoordinatorNotAvailable.Code
	timedOut                     = kerr.RequestTimedOut.Code
	invalidGroupID               = kerr.InvalidGroupID.Code
	invalidSessionTimeout        = kerr.InvalidSessionTimeout.Code
	inconsistentProtocol         = kerr.InconsistentGroupProtocol.Code
	unknownMember                = kerr.UnknownMemberID.Code
	memberIDRequired             = kerr.MemberIDRequired.Code
	fencedInstance               = kerr.FencedInstanceID.Code
	illegalGeneration            = kerr.IllegalGeneration.Code
	rebalanceInProgress          = kerr.RebalanceInProgress.Code
	groupFull                    = kerr.GroupMaxSizeReached.Code
	groupNotFound                = kerr.GroupIDNotFound.Code
	invalidRequest               = kerr.InvalidRequest.Code
	unsupportedVersion           = kerr.UnsupportedVersion.Code
	fencedEpoch                  = kerr.FencedMemberEpoch.Code
	staleEpoch                   = kerr.StaleMemberEpoch.Code
	unreleasedInstance           = kerr.UnreleasedInstanceID.Code
	unsupportedAssignor          = kerr.UnsupportedAssignor.Code
	invalidRegex                 = kerr.InvalidRegularExpression.Code
	nonEmptyGroup                = kerr.NonEmptyGroup.Code
	subscribedToTopic            = kerr.GroupSubscribedToTopic.Code
	unknownPartition             = kerr.UnknownTopicOrPartition.Code
	offsetMetadataTooLarge       = kerr.OffsetMetadataTooLarge.Code
	unknownServerError           = kerr.UnknownServerError.Code
	invalidCommitOffsetSize      = kerr.InvalidCommitOffsetSize.Code
	unstableOffset               = kerr.UnstableOffsetCommit.Code
	invalidProducerEpoch         = kerr.InvalidProducerEpoch.Code
)
