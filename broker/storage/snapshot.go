package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/belfry-mq/belfry/broker/record"
)

// Shape of a producer snapshot. Source: Kafka's ProducerStateManager, version 1:
// version int16, CRC32C uint32 of all that follows, count int32, then the entries.
const (
	snapshotVersion = 1
	snapshotHead    = 10
	snapshotEntry   = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

// Shape of what we put behind Kafka's entries, which Kafka's reader does not look at:
// a magic, the length of the whole part, then for each entry in the same order the
// number of older batches and these, oldest first.
const (
	snapshotMore  = 0x42664d31 // "BfM1"
	snapshotBatch = 4 + 4 + 8 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSnapshot = errors.New("producer snapshot is damaged")

// encode gives the state as the content of a .snapshot file.
func (s *producers) encode() []byte {
	be := binary.BigEndian
	all := s.sorted()
	b := make([]byte, snapshotHead, snapshotHead+len(all)*(snapshotEntry+1)+8)
	be.PutUint16(b, snapshotVersion)
	be.PutUint32(b[6:], uint32(len(all)))
	for _, p := range all {
		var last sequenced
		last.lastSeq, last.last, last.timestamp = -1, p.last, p.timestamp
		if p.n > 0 {
			last = p.batches[p.n-1]
		}
		b = be.AppendUint64(b, uint64(p.id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint32(b, uint32(last.lastSeq))
		b = be.AppendUint64(b, uint64(p.last))
		b = be.AppendUint32(b, uint32(last.delta))
		b = be.AppendUint64(b, uint64(p.timestamp))
		b = be.AppendUint32(b, uint32(p.coord))
		b = be.AppendUint64(b, uint64(p.txn))
	}
	start := len(b)
	b = be.AppendUint32(b, snapshotMore)
	b = be.AppendUint32(b, 0)
	for _, p := range all {
		b = append(b, byte(p.n))
		for _, o := range p.batches[:p.n] {
			b = be.AppendUint32(b, uint32(o.lastSeq))
			b = be.AppendUint32(b, uint32(o.delta))
			b = be.AppendUint64(b, uint64(o.last))
			b = be.AppendUint64(b, uint64(o.timestamp))
		}
	}
	be.PutUint32(b[start+4:], uint32(len(b)-start))
	be.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli))
	return b
}

// decodeProducers reads a .snapshot file. now is when the producers count as seen.
func decodeProducers(b []byte, now int64) (producers, error) {
	be := binary.BigEndian
	s := newProducers()
	if len(b) < snapshotHead || be.Uint16(b) != snapshotVersion || be.Uint32(b[2:]) != crc32.Checksum(b[6:], castagnoli) {
		return s, errSnapshot
	}
	n := int64(be.Uint32(b[6:]))
	if n*snapshotEntry > int64(len(b)-snapshotHead) {
		return s, errSnapshot
	}
	entries, more := b[snapshotHead:snapshotHead+n*snapshotEntry], b[snapshotHead+n*snapshotEntry:]
	if len(more) < 8 || be.Uint32(more) != snapshotMore || int64(be.Uint32(more[4:])) != int64(len(more)) {
		more = nil // written by Kafka: only the last batch of each is known
	} else {
		more = more[8:]
	}
	own := more != nil
	for ; len(entries) > 0; entries = entries[snapshotEntry:] {
		p := &producer{
			id: int64(be.Uint64(entries)), epoch: int16(be.Uint16(entries[8:])), last: record.Offset(be.Uint64(entries[14:])),
			timestamp: int64(be.Uint64(entries[26:])), coord: int32(be.Uint32(entries[34:])), txn: record.Offset(be.Uint64(entries[38:])), seen: now,
		}
		if own {
			if len(more) < 1 || more[0] > keptBatches || len(more) < 1+int(more[0])*snapshotBatch {
				return s, errSnapshot
			}
			k := int(more[0])
			for more = more[1:]; k > 0; k-- {
				p.push(sequenced{int32(be.Uint32(more)), int32(be.Uint32(more[4:])), record.Offset(be.Uint64(more[8:])), int64(be.Uint64(more[16:]))})
				more = more[snapshotBatch:]
			}
		} else if seq := int32(be.Uint32(entries[10:])); seq >= 0 {
			p.push(sequenced{seq, int32(be.Uint32(entries[22:])), p.last, p.timestamp})
		}
		if s.known[p.id] != nil {
			return s, fmt.Errorf("producer %d twice: %w", p.id, errSnapshot)
		}
		s.known[p.id] = p
	}
	return s, nil
}
