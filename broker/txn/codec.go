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
	var k kmsg.TxnMetadataKey // one string: nothing that could be long without being there
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

// readValue reads a TransactionLogValue. Why by hand: the library's decoder makes an array as
// long as it is said to be, and counts tags that are not there.
func readValue(b []byte) (*value, error) {
	d := &decoder{b: b}
	version := int16(d.uint(2))
	if !d.bad && (version < 0 || version > valueVersion) {
		return nil, fmt.Errorf("version %d is not known, the latest is %d", version, valueVersion)
	}
	d.flexible = version >= 1
	v := &value{previous: -1, next: -1}
	v.producer, v.epoch, v.timeout = int64(d.uint(8)), int16(d.uint(2)), int32(d.uint(4))
	v.state = State(d.uint(1))
	if !d.bad && (v.state < 0 || v.state > CompleteAbort) {
		return nil, fmt.Errorf("state %d is never stored", v.state)
	}
	for range d.length() {
		name := string(d.bytes(d.stringLength()))
		for range d.length() {
			v.parts = append(v.parts, topic.Partition{Topic: name, Partition: int32(d.uint(4))})
		}
		d.tags(func(_ uint64, d *decoder) { d.b = nil }) // a later version's
	}
	v.updated, v.started = int64(d.uint(8)), int64(d.uint(8))
	d.tags(func(tag uint64, d *decoder) {
		switch tag {
		case 0:
			v.previous = int64(d.uint(8))
		case 1:
			v.next = int64(d.uint(8))
		case 2:
			v.version = int16(d.uint(2))
		default:
			d.b = nil // a later version's
		}
	})
	if d.bad {
		return nil, errors.New("value is cut off or malformed")
	}
	slices.SortFunc(v.parts, byName)
	v.parts = slices.Compact(v.parts)
	return v, nil
}

// decoder reads big-endian fields; after the first failure it is bad and gives nothing.
type decoder struct {
	b        []byte
	flexible bool // compact lengths, tagged fields
	bad      bool
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

// uint reads an integer of so many bytes.
func (d *decoder) uint(bytes int) (n uint64) {
	for _, c := range d.bytes(bytes) {
		n = n<<8 | uint64(c)
	}
	return n
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// length reads the length of an array; null is 0. What is longer than the bytes that are left
// is malformed: each element has one at least.
func (d *decoder) length() int {
	n := int64(0)
	if d.flexible {
		n = int64(min(d.uvarint(), 1<<32)) - 1
	} else {
		n = int64(int32(d.uint(4)))
	}
	if n > int64(len(d.b)) {
		d.bad, d.b = true, nil
	}
	if d.bad {
		return 0
	}
	return int(max(0, n))
}

func (d *decoder) stringLength() int {
	if d.flexible {
		return d.length()
	}
	return int(int16(d.uint(2)))
}

// tags reads the tagged fields; f takes one, which it has to read to its end.
func (d *decoder) tags(f func(tag uint64, field *decoder)) {
	if !d.flexible {
		return
	}
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		tag := d.uvarint()
		field := &decoder{b: d.bytes(int(min(d.uvarint(), 1<<32)))}
		f(tag, field)
		d.bad = d.bad || field.bad || len(field.b) > 0
	}
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
