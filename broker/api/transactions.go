package api

import (
	"regexp/syntax"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// What tools ask about transactions (KIP-664). There are none here: that is the answer.

// transactionStates are the states that a filter may name.
// Source: Kafka, TransactionState.
var transactionStates = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "PrepareEpochFence", "Dead"}

// maxPattern is the longest pattern of transactional IDs, in bytes.
const maxPattern = 4096

// describeTransactions answers DescribeTransactions 0.
func (a *API) describeTransactions(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeTransactionsRequest)
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	var code first
	for _, id := range unique(req.TransactionalIDs, same[string]) {
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.ErrorCode = id, kerr.TransactionalIDNotFound.Code
		if id == "" {
			s.ErrorCode = kerr.InvalidRequest.Code
		}
		s.ProducerID, s.ProducerEpoch = -1, -1
		code.see(s.ErrorCode)
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// listTransactions answers ListTransactions 0–2 (filter by duration KIP-994, by
// pattern KIP-1152).
func (a *API) listTransactions(r *wire.Request) {
	req := r.Body.(*kmsg.ListTransactionsRequest)
	resp := kmsg.NewPtrListTransactionsResponse()
	for _, s := range unique(req.StateFilters, same[string]) {
		if !slices.Contains(transactionStates[:], s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	if p := req.TransactionalIDPattern; p != nil {
		// Why only parsed: there is nothing to match, and a short pattern may compile to megabytes.
		if _, err := syntax.Parse(*p, syntax.Perl); err != nil || len(*p) > maxPattern {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
		}
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
