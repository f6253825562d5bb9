package api

import (
	"context"
	"errors"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
)

// refusal is an error of this room that already knows its Kafka code and its text.
type refusal struct {
	code *kerr.Error
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code *kerr.Error, text string) error { return &refusal{code, text} }

// codes is what other rooms' errors are called in Kafka's words; the first that matches wins.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	{replica.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{replica.ErrNotLeader, kerr.NotLeaderForPartition},
	{replica.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{replica.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{replica.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{replica.ErrNotEnoughAfterAppend, kerr.NotEnoughReplicasAfterAppend},
	{replica.ErrOffsetNotAvailable, kerr.OffsetNotAvailable},
	{replica.ErrNotReplica, kerr.ReplicaNotAvailable},
	{replica.ErrStaleBroker, kerr.StaleBrokerEpoch},
	{replica.ErrTimeout, kerr.RequestTimedOut},
	{storage.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{storage.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{storage.ErrInvalidTxnState, kerr.InvalidTxnState},
	{storage.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{storage.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{storage.ErrFull, kerr.KafkaStorageError},
	{storage.ErrOffline, kerr.KafkaStorageError},
	{storage.ErrNoDirectory, kerr.LogDirNotFound},
	{storage.ErrNoLog, kerr.ReplicaNotAvailable},
	// A closed log belongs to a topic that was deleted or a node that stops: asking again helps.
	{storage.ErrClosed, kerr.NotLeaderForPartition},
	{storage.ErrStaleEpoch, kerr.NotLeaderForPartition}, // somebody newer led it already
	// The process is out of descriptors or memory: that passes, and what clients do not
	// try again after an unknown error would be lost to them.
	{syscall.EMFILE, kerr.KafkaStorageError},
	{syscall.ENFILE, kerr.KafkaStorageError},
	{syscall.ENOMEM, kerr.KafkaStorageError},
	{record.ErrCorrupt, kerr.CorruptMessage},
	{record.ErrInvalid, kerr.InvalidRecord},
	{record.ErrTooLarge, kerr.MessageTooLarge},
	{record.ErrFormat, kerr.UnsupportedForMessageFormat},
	{record.ErrCodec, kerr.UnsupportedCompressionType},
	{record.ErrTimestamp, kerr.InvalidTimestamp},
	{quorum.ErrDiskFull, kerr.KafkaStorageError},
	{quorum.ErrFailed, kerr.KafkaStorageError},
	// Asking again, perhaps elsewhere, helps.
	{quorum.ErrClosed, kerr.NotController},
	{quorum.ErrNoLeader, kerr.NotController},
	{quorum.ErrTooLarge, kerr.InvalidRequest},
	{quorum.ErrVoterThere, kerr.DuplicateVoter},
	{quorum.ErrVoterNotFound, kerr.VoterNotFound},
	{quorum.ErrVoterBehind, kerr.RequestTimedOut},
	{quorum.ErrMajority, kerr.InvalidRequest},
	// A change that another one overtook: decided anew it may well be good.
	{quorum.ErrRefused, kerr.NotController},
	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

// codeOf gives the Kafka error code of any error; 0 for nil. What is not known is
// trouble, for which UNKNOWN_SERVER_ERROR stands.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	var mine *refusal
	if errors.As(err, &mine) {
		return mine.code.Code
	}
	var theirs *controller.Refusal
	if errors.As(err, &theirs) {
		return theirs.Code
	}
	var coded interface{ Kafka() int16 }
	if errors.As(err, &coded) {
		return coded.Kafka()
	}
	var elsewhere *quorum.NotLeaderError
	if errors.As(err, &elsewhere) {
		return kerr.NotController.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code.Code
		}
	}
	return kerr.UnknownServerError.Code
}

// trouble tells whether an error is the node's own fault and so worth a line in its log.
func trouble(err error) bool {
	return codeOf(err) == kerr.UnknownServerError.Code ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// answer gives code and text of an error for a response, and logs it if it is trouble.
func (a *API) answer(what string, err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	if trouble(err) {
		a.log.Error("request failed", "api", what, "err", err)
	}
	return codeOf(err), text(err.Error())
}

// first keeps the first error code of a response for the statistics.
type first int16

func (f *first) see(code int16) {
	if *f == 0 {
		*f = first(code)
	}
}
