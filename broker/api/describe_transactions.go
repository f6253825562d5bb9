package api

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// What tools ask about transactions (KIP-664).

// maxPattern is the longest pattern of transactional IDs, in bytes.
const maxPattern = 4096

// describeTransactions answers DescribeTransactions 0.
func (a *API) describeTransactions(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeTransactionsRequest)
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	var code first
	for _, id := range unique(req.TransactionalIDs, same[string]) {
		d, why := a.transactions.Describe(id)
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.ErrorCode = id, why
		s.ProducerID, s.ProducerEpoch = -1, -1
		if why == 0 {
			s.State, s.TimeoutMillis, s.StartTimestamp = d.State.String(), int32(d.Timeout.Milliseconds()), d.Started
			s.ProducerID, s.ProducerEpoch = d.Producer, d.Epoch
		}
		for _, p := range d.Parts {
			if n := len(s.Topics); n == 0 || s.Topics[n-1].Topic != p.Topic {
				t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
				t.Topic = p.Topic
				s.Topics = append(s.Topics, t)
			}
			t := &s.Topics[len(s.Topics)-1]
			t.Partitions = append(t.Partitions, p.Partition)
		}
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
	var states []txn.State
	for _, name := range unique(req.StateFilters, same[string]) {
		if s, ok := txn.StateNamed(name); ok {
			states = append(states, s)
		} else {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	var pattern *regexp.Regexp
	if p := req.TransactionalIDPattern; p != nil && *p != "" {
		var err error
		if pattern, err = regexp.Compile(`^(?:` + *p + `)$`); err != nil || len(*p) > maxPattern {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			r.Answer(wire.Message(resp, resp.ErrorCode))
			return
		}
	}
	ds, now, loading := a.transactions.List()
	if loading {
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	slices.SortFunc(ds, func(x, y txn.Description) int { return cmp.Compare(x.ID, y.ID) })
	for _, d := range ds {
		switch running := d.State == txn.Ongoing || d.State == txn.PrepareCommit || d.State == txn.PrepareAbort; {
		case len(req.StateFilters) > 0 && !slices.Contains(states, d.State),
			len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, d.Producer),
			req.DurationFilterMillis >= 0 && r.Version >= 1 && (!running || now-d.Started <= req.DurationFilterMillis),
			pattern != nil && !pattern.MatchString(d.ID):
			continue
		}
		s := kmsg.NewListTransactionsResponseTransactionState()
		s.TransactionalID, s.ProducerID, s.TransactionState = d.ID, d.Producer, d.State.String()
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
