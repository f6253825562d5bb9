package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Versions of the records.
// Source: Kafka, TransactionLogKey and TransactionLogValue.
const (
	keyVersion   = 0
	valueVersion = 1 // the latest that is known; with tagged fields, from transaction.version 1 on
)

func key(id string) []byte {
	k := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	return k.AppendTo(nil)
}

// record is what is stored of a transactional ID.
func (s *shard) record(id string, v *value) record.Record {
	kv := kmsg.NewTxnMetadataValue()
	kv.Version = min(s.level(), valueVersion)
	kv.ProducerID, kv.ProducerEpoch, kv.TimeoutMillis, kv.State = v.producer, v.epoch, v.timeout, kmsg.TransactionState(v.state)
	kv.LastUpdateTimestamp, kv.StartTimestamp = v.updated, v.started
	kv.PreviousProducerID, kv.NextProducerID, kv.ClientTransactionVersion = v.previous, v.next, v.version
	if v.state != Empty {
		kv.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, p := range v.parts {
		if n := len(kv.Topics); n == 0 || kv.Topics[n-1].Topic != p.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = p.Topic
			kv.Topics = append(kv.Topics, t)
		}
		t := &kv.Topics[len(kv.Topics)-1]
		t.Partitions = append(t.Partitions, p.Partition)
	}
	return record.Record{Key: key(id), Value: kv.AppendTo(nil)}
}

// Replay takes one committed record in, while loading and while running.
func (s *shard) Replay(_ record.Header, r record.Record) error {
	if len(r.Key) < 2 {
		return errors.New("record without a key")
	}
	if version := int16(binary.BigEndian.Uint16(r.Key)); version != keyVersion {
		return nil // a later version's kind of record
	}
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("cannot read the key of a transaction: %w", err)
	}
	if r.Value == nil {
		delete(s.ids, k.TransactionalID)
		return nil
	}
	v, err := readValue(r.Value)
	if err != nil {
		return fmt.Errorf("cannot read transaction %q: %w", k.TransactionalID, err)
	}
	t := s.ids[k.TransactionalID]
	if t == nil {
		t = &transaction{id: k.TransactionalID, last: -1}
		s.ids[t.id] = t
	}
	t.value = *v
	return nil
}

// ReplayMarker takes nothing in: nothing is written here in transactions.
func (s *shard) ReplayMarker(record.Marker) error { return nil }

func readValue(b []byte) (*value, error) {
	if len(b) < 2 {
		return nil, errors.New("value is cut off")
	}
	if v := int16(binary.BigEndian.Uint16(b)); v < 0 || v > valueVersion {
		return nil, fmt.Errorf("version %d is not known, the latest is %d", v, valueVersion)
	}
	kv := kmsg.NewTxnMetadataValue()
	if err := kv.ReadFrom(b); err != nil {
		return nil, err
	}
	if kv.State < 0 || State(kv.State) > CompleteAbort {
		return nil, fmt.Errorf("state %d is never stored", kv.State)
	}
	v := &value{
		producer: kv.ProducerID, epoch: kv.ProducerEpoch, previous: kv.PreviousProducerID, next: kv.NextProducerID,
		timeout: kv.TimeoutMillis, state: State(kv.State), updated: kv.LastUpdateTimestamp, started: kv.StartTimestamp,
		version: kv.ClientTransactionVersion,
	}
	for _, t := range kv.Topics {
		for _, n := range t.Partitions {
			v.parts = append(v.parts, topic.Partition{Topic: t.Topic, Partition: n})
		}
	}
	slices.SortFunc(v.parts, byName)
	v.parts = slices.Compact(v.parts)
	return v, nil
}

// codeOf tells a client why a record may not be there.
func codeOf(err error) code {
	switch {
	case err == nil:
		return none
	case errors.Is(err, journal.ErrTooLarge):
		return unknownServerError
	case errors.Is(err, replica.ErrTimeout), errors.Is(err, replica.ErrNotEnoughReplicas),
		errors.Is(err, replica.ErrNotEnoughAfterAppend), errors.Is(err, storage.ErrFull), errors.Is(err, journal.ErrBusy):
		return notAvailable
	}
	return notCoordinator
}
