package peer

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Lanes of transactions. Why two: what a produce waits for must not wait for markers,
// which wait for other brokers.
const (
	laneMarkers = "markers"
	laneVerify  = "verify"
)

// errUntold says that an answer leaves something out.
var errUntold = errors.New("the broker's answer leaves the partition out")

// CodeError is a Kafka error code that another broker answered.
type CodeError struct{ Code int16 }

// Error gives the code's name and meaning.
func (e *CodeError) Error() string {
	return fmt.Sprint("another broker says ", kerr.ErrorForCode(e.Code))
}

// Kafka gives the code.
func (e *CodeError) Kafka() int16 { return e.Code }

func coded(code int16) error {
	if code == 0 {
		return nil
	}
	return &CodeError{code}
}

// byTopic sorts partitions by topic, in the order in which topics are first named.
func byTopic(parts []topic.Partition) (names []string, numbers map[string][]int32) {
	numbers = make(map[string][]int32)
	for _, p := range parts {
		if numbers[p.Topic] == nil {
			names = append(names, p.Topic)
		}
		numbers[p.Topic] = append(numbers[p.Topic], p.Partition)
	}
	return names, numbers
}

// WriteMarkers has a broker write the marker of a transaction's end to partitions that it
// leads. Version is the transaction.version that the end stands for. It gives what became
// of each, by position: as Do; storage.ErrInvalidProducerEpoch; *CodeError.
func (c *Client) WriteMarkers(ctx context.Context, to metadata.BrokerID, m record.Marker, version int8, parts []topic.Partition) []error {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	rm := kmsg.NewWriteTxnMarkersRequestMarker()
	rm.ProducerID, rm.ProducerEpoch, rm.CoordinatorEpoch, rm.Committed, rm.TransactionVersion = m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Commit, version
	names, numbers := byTopic(parts)
	for _, name := range names {
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic, t.Partitions = name, numbers[name]
		rm.Topics = append(rm.Topics, t)
	}
	req.Markers = append(req.Markers, rm)
	out := make([]error, len(parts))
	got, err := c.Do(ctx, to, laneMarkers, req)
	told := make(map[topic.Partition]error, len(parts))
	if err == nil {
		for _, rm := range got.(*kmsg.WriteTxnMarkersResponse).Markers {
			for _, t := range rm.Topics {
				for _, p := range t.Partitions {
					told[topic.Partition{Topic: t.Topic, Partition: p.Partition}] = markerError(p.ErrorCode)
				}
			}
		}
	}
	for i, p := range parts {
		why, ok := told[p]
		switch {
		case err != nil:
			out[i] = err
		case !ok:
			out[i] = errUntold
		default:
			out[i] = why
		}
	}
	return out
}

func markerError(code int16) error {
	if code == kerr.InvalidProducerEpoch.Code {
		return storage.ErrInvalidProducerEpoch
	}
	return coded(code)
}

// AddPartitions asks the coordinator of a transactional ID, on another broker, to take
// partitions into the producer's transaction, or with verifyOnly whether they are in it
// (KIP-890), and gives what became of each.
//
// Errors: as Do; *CodeError for all.
func (c *Client) AddPartitions(ctx context.Context, to metadata.BrokerID, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	t := kmsg.NewAddPartitionsToTxnRequestTransaction()
	t.TransactionalID, t.ProducerID, t.ProducerEpoch, t.VerifyOnly = id, producer, epoch, verifyOnly
	names, numbers := byTopic(parts)
	for _, name := range names {
		rt := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		rt.Topic, rt.Partitions = name, numbers[name]
		t.Topics = append(t.Topics, rt)
	}
	req.Transactions = append(req.Transactions, t)
	got, err := c.Do(ctx, to, laneVerify, req)
	if err != nil {
		return nil, err
	}
	resp := got.(*kmsg.AddPartitionsToTxnResponse)
	if resp.ErrorCode != 0 {
		return nil, coded(resp.ErrorCode)
	}
	out := make(map[topic.Partition]error, len(parts))
	for _, rt := range resp.Transactions {
		for _, ot := range rt.Topics {
			for _, op := range ot.Partitions {
				out[topic.Partition{Topic: ot.Topic, Partition: op.Partition}] = coded(op.ErrorCode)
			}
		}
	}
	return out, nil
}
