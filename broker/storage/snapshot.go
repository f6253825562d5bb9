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
// number of remembered batches and these, oldest first; since the second version also the transactions that
// have a marker which may not be committed.
const (
	snapshotMore1 = 0x42664d31 // "BfM1": no transactions, coordinator epochs mean nothing
	snapshotMore  = 0x42664d32 // "BfM2"
	snapshotBatch = 4 + 4 + 8 + 8
	snapshotEnded = 8 + 8 + 8 + 1 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSnapshot = errors.New("producer snapshot is damaged")

// encode gives the state, with the transactions that are ended but not decided, as the
// content of a .snapshot file.
func (s *producers) encode(ended []endedTxn) []byte {
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
	b = be.AppendUint32(b, uint32(len(ended)))
	for _, e := range ended {
		b = be.AppendUint64(b, uint64(e.id))
		b = be.AppendUint64(b, uint64(e.first))
		b = be.AppendUint64(b, uint64(e.last))
		if e.aborted {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = be.AppendUint64(b, uint64(e.stable))
	}
	be.PutUint32(b[start+4:], uint32(len(b)-start))
	be.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli))
	return b
}

// decodeProducers reads a .snapshot file. now is when the producers count as seen.
func decodeProducers(b []byte, now int64) (producers, []endedTxn, error) {
	be := binary.BigEndian
	s := newProducers()
	if len(b) < snapshotHead || be.Uint16(b) != snapshotVersion || be.Uint32(b[2:]) != crc32.Checksum(b[6:], castagnoli) {
		return s, nil, errSnapshot
	}
	n := int64(be.Uint32(b[6:]))
	if n*snapshotEntry > int64(len(b)-snapshotHead) {
		return s, nil, errSnapshot
	}
	entries, more := b[snapshotHead:snapshotHead+n*snapshotEntry], b[snapshotHead+n*snapshotEntry:]
	more, own := ownPart(more)
	var err error
	for ; len(entries) > 0; entries = entries[snapshotEntry:] {
		p := &producer{
			id: int64(be.Uint64(entries)), epoch: int16(be.Uint16(entries[8:])), last: record.Offset(be.Uint64(entries[14:])),
			timestamp: int64(be.Uint64(entries[26:])), coord: int32(be.Uint32(entries[34:])), txn: record.Offset(be.Uint64(entries[38:])), seen: now,
		}
		p.txn = max(p.txn, -1)
		if own == snapshotMore1 {
			p.coord = -1
		}
		if own != 0 {
			if more, err = p.batchesFrom(more); err != nil {
				return s, nil, err
			}
		} else if seq := int32(be.Uint32(entries[10:])); seq >= 0 {
			p.push(sequenced{seq, int32(be.Uint32(entries[22:])), p.last, p.timestamp})
		}
		if s.known[p.id] != nil {
			return s, nil, fmt.Errorf("producer %d twice: %w", p.id, errSnapshot)
		}
		s.known[p.id] = p
	}
	s.reopen()
	if own != snapshotMore {
		return s, nil, nil
	}
	ended, err := decodeEnded(more)
	return s, ended, err
}

// ownPart tells which of our parts follows Kafka's entries, 0 none, and gives what is in it.
func ownPart(b []byte) (rest []byte, magic uint32) {
	be := binary.BigEndian
	if len(b) < 8 || int64(be.Uint32(b[4:])) != int64(len(b)) {
		return nil, 0 // written by Kafka: only the last batch of each is known
	}
	if magic = be.Uint32(b); magic != snapshotMore && magic != snapshotMore1 {
		return nil, 0
	}
	return b[8:], magic
}

// batchesFrom reads the producer's remembered batches and gives what follows them.
func (p *producer) batchesFrom(b []byte) ([]byte, error) {
	be := binary.BigEndian
	if len(b) < 1 || b[0] > keptBatches || len(b) < 1+int(b[0])*snapshotBatch {
		return nil, errSnapshot
	}
	k := int(b[0])
	for b = b[1:]; k > 0; k-- {
		p.push(sequenced{int32(be.Uint32(b)), int32(be.Uint32(b[4:])), record.Offset(be.Uint64(b[8:])), int64(be.Uint64(b[16:]))})
		b = b[snapshotBatch:]
	}
	return b, nil
}

func decodeEnded(b []byte) ([]endedTxn, error) {
	be := binary.BigEndian
	if len(b) < 4 || int64(be.Uint32(b))*snapshotEnded != int64(len(b)-4) {
		return nil, errSnapshot
	}
	var out []endedTxn
	for b = b[4:]; len(b) > 0; b = b[snapshotEnded:] {
		if b[24] > 1 {
			return nil, errSnapshot
		}
		out = append(out, endedTxn{
			id: int64(be.Uint64(b)), first: record.Offset(be.Uint64(b[8:])), last: record.Offset(be.Uint64(b[16:])),
			aborted: b[24] == 1, stable: record.Offset(be.Uint64(b[25:])),
		})
	}
	return out, nil
}
