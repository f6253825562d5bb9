package peer

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Lanes of transactions. Why two: a marker's answer waits for the in-sync replicas, a
// question to a coordinator for nothing of the kind.
const (
	laneMarkers = "markers"
	laneTxn     = "txn"
)

// coded is a refusal with a Kafka code.
type coded struct {
	by   metadata.BrokerID
	code int16
}

func (e *coded) Error() string {
	return fmt.Sprintf("broker %d says %v", e.by, kerr.ErrorForCode(e.code))
}

// Kafka gives the code.
func (e *coded) Kafka() int16 { return e.code }

func codedError(by metadata.BrokerID, code int16) error {
	if code == 0 {
		return nil
	}
	return &coded{by, code}
}

// byTopic sorts partitions by their topics, which stand in the order of their first one.
func byTopic(parts []topic.Partition) (topics []string, numbers map[string][]int32) {
	numbers = make(map[string][]int32)
	for _, p := range parts {
		if numbers[p.Topic] == nil {
			topics = append(topics, p.Topic)
		}
		numbers[p.Topic] = append(numbers[p.Topic], p.Partition)
	}
	return topics, numbers
}

// WriteMarker has a broker write a transaction's marker into partitions that it leads, and
// gives what it says of each: nil, or an error with a method Kafka() int16 for the code.
// version is the transaction.version that the producer works by.
//
// Errors: as Do, for all of them.
func (c *Client) WriteMarker(ctx context.Context, to metadata.BrokerID, m record.Marker, version int8, parts []topic.Partition) (map[topic.Partition]error, error) {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	rm := kmsg.NewWriteTxnMarkersRequestMarker()
	rm.ProducerID, rm.ProducerEpoch, rm.Committed, rm.CoordinatorEpoch, rm.TransactionVersion = m.ProducerID, m.ProducerEpoch, m.Commit, m.CoordinatorEpoch, version
	topics, numbers := byTopic(parts)
	for _, name := range topics {
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic, t.Partitions = name, numbers[name]
		rm.Topics = append(rm.Topics, t)
	}
	req.Markers = append(req.Markers, rm)
	got, err := c.Do(ctx, to, laneMarkers, req)
	if err != nil {
		return nil, err
	}
	out := make(map[topic.Partition]error, len(parts))
	for _, rm := range got.(*kmsg.WriteTxnMarkersResponse).Markers {
		for _, t := range rm.Topics {
			for _, p := range t.Partitions {
				out[topic.Partition{Topic: t.Topic, Partition: p.Partition}] = codedError(to, p.ErrorCode)
			}
		}
	}
	return out, nil
}

// AddPartitions asks a transaction's coordinator to take partitions into it, or only
// whether they are in it (KIP-890), and gives what it says of each: nil, or an error with
// a method Kafka() int16 for the code.
//
// Errors: as Do, and the coordinator's code for all of them.
func (c *Client) AddPartitions(ctx context.Context, to metadata.BrokerID, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	t := kmsg.NewAddPartitionsToTxnRequestTransaction()
	t.TransactionalID, t.ProducerID, t.ProducerEpoch, t.VerifyOnly = id, producer, epoch, verifyOnly
	topics, numbers := byTopic(parts)
	for _, name := range topics {
		rt := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		rt.Topic, rt.Partitions = name, numbers[name]
		t.Topics = append(t.Topics, rt)
	}
	req.Transactions = append(req.Transactions, t)
	got, err := c.Do(ctx, to, laneTxn, req)
	if err != nil {
		return nil, err
	}
	resp := got.(*kmsg.AddPartitionsToTxnResponse)
	if resp.ErrorCode != 0 {
		return nil, codedError(to, resp.ErrorCode)
	}
	out := make(map[topic.Partition]error, len(parts))
	for _, rt := range resp.Transactions {
		for _, t := range rt.Topics {
			for _, p := range t.Partitions {
				out[topic.Partition{Topic: t.Topic, Partition: p.Partition}] = codedError(to, p.ErrorCode)
			}
		}
	}
	return out, nil
}
