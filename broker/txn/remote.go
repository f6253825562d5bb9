package txn

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Peers asks other brokers. Safe for concurrent use.
type Peers interface {
	// Do sends a request, of the newest version that both sides know up to its own, and gives
	// the answer.
	Do(ctx context.Context, to metadata.BrokerID, lane string, req kmsg.Request) (kmsg.Response, error)
}

// Lanes of requests to other brokers. Why two: markers wait for disks, which those who only
// ask should not.
const (
	markerLane = "transaction markers"
	addLane    = "transactions"
)

// Versions of the requests between brokers.
const (
	markersVersion = 2 // KIP-1228: with transaction.version
	addVersion     = 5 // 4 and 5 are between brokers (KIP-890)
)

// remoteMarkers writes a marker into partitions that another broker leads, one error for
// each, as Markers.Write.
func (c *Coordinator) remoteMarkers(ctx context.Context, to metadata.BrokerID, m record.Marker, version int8, parts []topic.Partition) []error {
	one := kmsg.NewWriteTxnMarkersRequestMarker()
	one.ProducerID, one.ProducerEpoch, one.Committed = m.ProducerID, m.ProducerEpoch, m.Commit
	one.CoordinatorEpoch, one.TransactionVersion = m.CoordinatorEpoch, version
	for i, p := range parts { // sorted
		if i == 0 || parts[i-1].Topic != p.Topic {
			t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
			t.Topic = p.Topic
			one.Topics = append(one.Topics, t)
		}
		t := &one.Topics[len(one.Topics)-1]
		t.Partitions = append(t.Partitions, p.Partition)
	}
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version, req.Markers = markersVersion, append(req.Markers, one)
	resp, err := c.o.Peers.Do(ctx, to, markerLane, req)
	of := make(map[topic.Partition]code)
	if err == nil {
		for _, m := range resp.(*kmsg.WriteTxnMarkersResponse).Markers {
			for _, t := range m.Topics {
				for _, p := range t.Partitions {
					of[topic.Partition{Topic: t.Topic, Partition: p.Partition}] = p.ErrorCode
				}
			}
		}
	}
	out := make([]error, len(parts))
	for i, p := range parts {
		switch told, ok := of[p]; {
		case err != nil:
			out[i] = fmt.Errorf("cannot write a transaction marker on broker %d: %w", to, err)
		case !ok:
			out[i] = &Refusal{unknownServerError}
		case told == kerr.InvalidProducerEpoch.Code:
			out[i] = storage.ErrInvalidProducerEpoch
		default:
			out[i] = refusal(told)
		}
	}
	return out
}

// elsewhere gives the other broker that coordinates a transactional ID; NoBroker if this one
// does, or nobody is known to.
func (c *Coordinator) elsewhere(id string) metadata.BrokerID {
	if c.o.Peers == nil || c.hosts.Partitions() == 0 || c.hosts.Of(id) != nil {
		return metadata.NoBroker
	}
	p := partition(c.image.Load(), c.partition(id))
	if p == nil || p.Leader == c.o.Node {
		return metadata.NoBroker
	}
	return p.Leader
}

// askPeer is AddPartitions of an ID that another broker coordinates.
func (c *Coordinator) askPeer(ctx context.Context, to metadata.BrokerID, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	one := kmsg.NewAddPartitionsToTxnRequestTransaction()
	one.TransactionalID, one.ProducerID, one.ProducerEpoch, one.VerifyOnly = id, producer, epoch, verifyOnly
	at := make(map[string]int)
	for _, p := range parts {
		i, ok := at[p.Topic]
		if !ok {
			i = len(one.Topics)
			at[p.Topic] = i
			t := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
			t.Topic = p.Topic
			one.Topics = append(one.Topics, t)
		}
		one.Topics[i].Partitions = append(one.Topics[i].Partitions, p.Partition)
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.Transactions = addVersion, append(req.Transactions, one)
	resp, err := c.o.Peers.Do(ctx, to, addLane, req)
	if err != nil {
		c.o.Logger.Debug("cannot ask a transaction's coordinator", "broker", int(to), "err", err)
		return nil, &Refusal{notAvailable}
	}
	added := resp.(*kmsg.AddPartitionsToTxnResponse)
	if added.ErrorCode != none {
		return nil, &Refusal{added.ErrorCode}
	}
	out := make(map[topic.Partition]error, len(parts))
	for _, t := range added.Transactions {
		for _, rt := range t.Topics {
			for _, p := range rt.Partitions {
				out[topic.Partition{Topic: rt.Topic, Partition: p.Partition}] = refusal(p.ErrorCode)
			}
		}
	}
	return out, nil
}
