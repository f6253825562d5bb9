package metadata

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// snapshotMagic is how a snapshot begins.
const snapshotMagic = "BELFRYMD"

// snapshotHead is magic, version (2), index (8), records (8).
const snapshotHead = len(snapshotMagic) + 2 + 8 + 8

// Snapshot gives the records that fold the empty image into this one, in an
// order in which they fit. They are the same for images that are the same.
func (i *Image) Snapshot() []Record {
	records := make([]Record, 0, i.snapshotLen())
	i.eachRecord(func(r Record) error {
		records = append(records, r)
		return nil
	})
	return records
}

func (i *Image) snapshotLen() (n int) {
	i.eachRecord(func(Record) error { n++; return nil })
	return n
}

// eachRecord makes the records of Snapshot one by one and stops at the first error.
func (i *Image) eachRecord(f func(Record) error) error {
	var err error
	emit := func(r Record) {
		if err == nil {
			err = f(r)
		}
	}
	if i.clusterID != "" {
		emit(&ClusterNamed{ID: i.clusterID, Created: i.created})
	}
	for _, name := range slices.Sorted(maps.Keys(i.features)) {
		emit(&FeatureSet{Name: name, Level: i.features[name]})
	}
	for _, b := range i.Brokers() {
		emit(&BrokerRegistered{Broker: *b})
	}
	for _, t := range i.Topics() {
		emit(&TopicCreated{Name: t.Name, ID: t.ID, Created: t.Created})
		for n := range t.Partitions {
			emit(&PartitionCreated{Topic: t.ID, Number: int32(n), State: t.Partitions[n]})
		}
	}
	for _, pg := range i.configs.list {
		for _, e := range pg.entries {
			for _, name := range slices.Sorted(maps.Keys(e.val.values)) {
				emit(&ConfigSet{Resource: e.key, Name: name, Value: e.val.values[name]})
			}
		}
	}
	i.quotaRecords(emit)
	if i.producers > 0 {
		emit(&ProducerBlock{First: 0, Count: i.producers})
	}
	return err
}

// WriteSnapshot writes the whole image as FORMAT.md says: header, records, CRC.
func (i *Image) WriteSnapshot(w io.Writer) error {
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	head := binary.LittleEndian.AppendUint16([]byte(snapshotMagic), snapshotVersion)
	head = binary.LittleEndian.AppendUint64(head, i.index)
	head = binary.LittleEndian.AppendUint64(head, uint64(i.snapshotLen()))
	_, err := out.Write(head)
	if err == nil {
		var b []byte
		var scratch encoder
		err = i.eachRecord(func(r Record) error {
			b = appendRecord(b[:0], &scratch, r)
			_, err := out.Write(b)
			return err
		})
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		_, err = w.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	}
	if err != nil {
		return fmt.Errorf("cannot write a metadata snapshot at index %d: %w", i.index, err)
	}
	return nil
}

// ReadSnapshot reads what WriteSnapshot wrote, up to the end of r. It gives an
// image only if header, count, CRC and end agree and every record fits (R25).
//
// Errors: ErrCorrupt, ErrUnknown, the reader's.
func ReadSnapshot(r io.Reader) (*Image, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read a metadata snapshot: %w", err)
	}
	if len(b) < snapshotHead+crcSize {
		return nil, fmt.Errorf("%w: a snapshot of %d bytes is shorter than its frame", ErrCorrupt, len(b))
	}
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: a snapshot starts with %q, not %q", ErrCorrupt, b[:len(snapshotMagic)], snapshotMagic)
	}
	body, sum := b[:len(b)-crcSize], binary.LittleEndian.Uint32(b[len(b)-crcSize:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: a snapshot has CRC 0x%08x, its %d bytes give 0x%08x", ErrCorrupt, sum, len(b), got)
	}
	head := body[len(snapshotMagic):]
	if v := binary.LittleEndian.Uint16(head); v != snapshotVersion {
		return nil, fmt.Errorf("%w: snapshot version %d, this program reads %d: use the newer program that wrote it",
			ErrUnknown, v, snapshotVersion)
	}
	index, count := binary.LittleEndian.Uint64(head[2:]), binary.LittleEndian.Uint64(head[10:])
	d := decoder{b: body[snapshotHead:]}
	if count > uint64(len(d.b)/minRecord) {
		return nil, fmt.Errorf("%w: a snapshot announces %d records in %d bytes", ErrCorrupt, count, len(b))
	}
	records, err := d.records(int(count))
	if err != nil {
		return nil, err
	}
	if err := d.end("snapshot"); err != nil {
		return nil, err
	}
	img, err := Empty().Fold(index, records)
	if err != nil {
		return nil, fmt.Errorf("%w: a snapshot does not fold: %w", ErrCorrupt, err)
	}
	return img, nil
}
