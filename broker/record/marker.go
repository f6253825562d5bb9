package record

import "fmt"

// Marker ends the transaction of a producer in one partition. It lies in the log as the
// only record of a control batch.
// Source: KIP-98, "Control Messages".
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32 // leader epoch of the coordinator's partition, so that a deposed one is found out
	Commit           bool  // false: abort
}

// Versions, types and sizes of a marker's key (version int16, type int16) and value
// (version int16, coordinator epoch int32).
const (
	markerVersion = 0
	markerAbort   = 0
	markerCommit  = 1
	markerKey     = 4
	markerValue   = 6
)

// Batch gives the marker as a control batch at offset 0, written at ms.
func (m Marker) Batch(ms int64) []byte {
	kind := uint16(markerAbort)
	if m.Commit {
		kind = markerCommit
	}
	key := be.AppendUint16(be.AppendUint16(nil, markerVersion), kind)
	value := be.AppendUint32(be.AppendUint16(nil, markerVersion), uint32(m.CoordinatorEpoch))
	b := NewBuilder(None)
	b.Header.ProducerID, b.Header.ProducerEpoch = m.ProducerID, m.ProducerEpoch
	b.Header.Attributes = TransactionalBit | ControlBit
	b.Add(Record{Timestamp: ms, Key: key, Value: value})
	out, err := b.Build()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return out
}

// ReadMarker reads the marker in a whole control batch. ok is false if there is none: the cleaner emptied the batch,
// or its record is of a kind that ends no transaction. A newer version of key or value is read as far as it is known.
// Errors: as Each; ErrInvalid for a key or value that is too short.
func ReadMarker(batch []byte) (m Marker, ok bool, err error) {
	h, err := ReadHeader(batch)
	if err != nil {
		return m, false, err
	}
	if !h.Control() {
		return m, false, fmt.Errorf("cannot read marker at offset %d: no control batch: %w", h.Base, ErrInvalid)
	}
	m.ProducerID, m.ProducerEpoch = h.ProducerID, h.ProducerEpoch
	err = Each(batch, func(r Record) error {
		if len(r.Key) < markerKey || int16(be.Uint16(r.Key)) < 0 {
			return fmt.Errorf("cannot read control record at offset %d: key of %d bytes: %w", r.Offset, len(r.Key), ErrInvalid)
		}
		kind := be.Uint16(r.Key[2:])
		if kind != markerAbort && kind != markerCommit {
			return ErrStop
		}
		if len(r.Value) < markerValue || int16(be.Uint16(r.Value)) < 0 {
			return fmt.Errorf("cannot read marker at offset %d: value of %d bytes: %w", r.Offset, len(r.Value), ErrInvalid)
		}
		m.Commit, m.CoordinatorEpoch, ok = kind == markerCommit, int32(be.Uint32(r.Value[2:])), true
		return ErrStop
	})
	return m, ok && err == nil, err
}
