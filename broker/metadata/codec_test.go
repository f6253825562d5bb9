package metadata

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/topic"
)

// dump is how bytes stand in testdata.
func dump(b []byte) string { return strings.TrimSpace(hex.Dump(b)) + "\n" }

// everyRecord is one record of each type with every field set.
func everyRecord() []Record {
	p := Partition{
		Leader: 2, LeaderEpoch: 7, PartitionEpoch: 9,
		Replicas: []BrokerID{2, 1, 3}, ISR: []BrokerID{2, 1}, ELR: []BrokerID{3},
		Adding: []BrokerID{3}, Removing: []BrokerID{1}, Dirs: []topic.ID{idOf(4), idOf(5), idOf(6)},
	}
	changed := p
	changed.Leader, changed.LeaderEpoch, changed.PartitionEpoch = NoBroker, 8, 10
	changed.ISR = nil
	return []Record{
		&ClusterNamed{ID: "cluster", Created: 1_700_000_000_000},
		&FeatureSet{Name: "group.version", Level: 1},
		&BrokerRegistered{Broker{ID: 2, Epoch: EpochFromIndex, Incarnation: idOf(8), Rack: "az1", Fenced: true,
			Endpoints: []Endpoint{{"PLAINTEXT", "127.0.0.1", 9092, 0}, {"SASL_SSL", "b.example", 9093, 3}}}},
		&BrokerUnfenced{ID: 2, Epoch: 41},
		&BrokerFenced{ID: 2, Epoch: 41},
		&BrokerUnregistered{ID: 2, Epoch: 41},
		&BrokerLeaving{ID: 2, Epoch: 41},
		&BrokerRegistered{Broker{ID: 3, Epoch: 42, Incarnation: idOf(9), Leaving: true}},
		&TopicCreated{Name: "orders", ID: idOf(1), Created: 1_700_000_000_001},
		&PartitionCreated{Topic: idOf(1), Number: 0, State: p},
		&PartitionChanged{Topic: idOf(1), Number: 0, State: changed},
		&ConfigSet{Resource: Resource{TopicResource, "orders"}, Name: "retention.ms", Value: "1000"},
		&ConfigRemoved{Resource: Resource{GroupResource, "g"}, Name: "consumer.session.timeout.ms"},
		&ProducerBlock{First: 1000, Count: 1000},
		&TopicRemoved{ID: idOf(1)},
		&LeadershipRenewed{ID: 2},
		&QuotaSet{Entity: QuotaEntity{User: QuotaName{QuotaNamed, "alice"}, Client: QuotaName{Of: QuotaDefault}}, Name: "producer_byte_rate", Value: 1024.5},
		&QuotaRemoved{Entity: QuotaEntity{IP: QuotaName{QuotaNamed, "10.0.0.1"}}, Name: "connection_creation_rate"},
	}
}

func TestBatchGolden(t *testing.T) {
	records := everyRecord()
	seen := make(map[kind]bool)
	for _, r := range records {
		seen[r.kind()] = true
	}
	for k := kind(1); newRecord(k) != nil; k++ {
		if !seen[k] {
			t.Errorf("record type %d is not in the golden file", k)
		}
	}
	b := AppendBatch([]byte("before"), records)[len("before"):]
	golden.Match(t, "testdata/batch.hex", dump(b))
	got, err := DecodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, records) {
		t.Errorf("decoded %+v", got)
	}
	if empty, err := DecodeBatch(AppendBatch(nil, nil)); err != nil || len(empty) != 0 {
		t.Errorf("empty batch: %v, %v", empty, err)
	}
}

func goldenImage(t testing.TB) *Image {
	img, err := Empty().Fold(300, []Record{
		&ClusterNamed{ID: "cluster", Created: 5},
		&FeatureSet{Name: "metadata.version", Level: 1},
		&BrokerRegistered{Broker{ID: 1, Epoch: EpochFromIndex, Rack: "r", Endpoints: []Endpoint{{"PLAINTEXT", "h", 1, 0}}}},
		&TopicCreated{Name: "b", ID: idOf(1), Created: 6},
		&PartitionCreated{Topic: idOf(1), State: oneReplica(1)},
		&TopicCreated{Name: "a", ID: idOf(2), Created: 7},
		&ConfigSet{Resource{TopicResource, "b"}, "y", "2"},
		&ConfigSet{Resource{TopicResource, "b"}, "x", "1"},
		&ConfigSet{Resource{BrokerResource, ""}, "z", ""},
		&ProducerBlock{0, 1000},
		&QuotaSet{QuotaEntity{User: QuotaName{QuotaNamed, "u"}}, "b", 2},
		&QuotaSet{QuotaEntity{User: QuotaName{QuotaNamed, "u"}}, "a", 1},
		&QuotaSet{QuotaEntity{Client: QuotaName{Of: QuotaDefault}}, "c", 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestSnapshotGolden(t *testing.T) {
	img := goldenImage(t)
	b := bytesOf(t, img)
	golden.Match(t, "testdata/snapshot.hex", dump(b))
	again, err := ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	same(t, img, again)
	if again.Broker(1).Epoch != 300 || again.ClusterID() != "cluster" || again.Created() != 5 {
		t.Errorf("read back: %+v", again.Broker(1))
	}
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	batch, snapshot := AppendBatch(nil, everyRecord()), bytesOf(t, goldenImage(t))
	for i := range batch {
		bad := bytes.Clone(batch)
		bad[i] ^= 0x10
		if _, err := DecodeBatch(bad); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("batch byte %d: %v", i, err)
		}
		if _, err := DecodeBatch(batch[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("batch cut at %d: %v", i, err)
		}
	}
	for i := range snapshot {
		bad := bytes.Clone(snapshot)
		bad[i] ^= 0x10
		if _, err := ReadSnapshot(bytes.NewReader(bad)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("snapshot byte %d: %v", i, err)
		}
		if _, err := ReadSnapshot(bytes.NewReader(snapshot[:i])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("snapshot cut at %d: %v", i, err)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(bytes.Clone(snapshot), 0))); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("snapshot with a byte more: %v", err)
	}
}

// seal puts the right CRC behind b.
func seal(b ...byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func TestUnknownIsNotCorrupt(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		text string
	}{
		"batch version":  {seal(batchMagic, 9, 0), "batch version 9, this program reads 1: use the newer program"},
		"record type":    {seal(batchMagic, 1, 1, 99, 0, 0), "record type 99: use the newer program"},
		"record version": {seal(batchMagic, 1, 1, 3, 4, 0), "version 4 of record type 3, this program reads 0"},
	} {
		_, err := DecodeBatch(c.b)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := bytesOf(t, Empty())
	b[len(snapshotMagic)] = 2
	_, err := ReadSnapshot(bytes.NewReader(seal(b[:len(b)-crcSize]...)))
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "snapshot version 2") {
		t.Errorf("snapshot version: %v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(AppendBatch(nil, everyRecord()))
	f.Add(AppendBatch(nil, nil))
	f.Add(seal(batchMagic, 1, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Why sealed: a random CRC would hide everything behind it.
		records, err := DecodeBatch(seal(b...))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknown) {
				t.Fatalf("neither corrupt nor unknown: %v", err)
			}
			return
		}
		again, err := DecodeBatch(AppendBatch(nil, records))
		if err != nil || !reflect.DeepEqual(records, again) {
			t.Fatalf("%+v became %+v, %v", records, again, err)
		}
		if img, err := Empty().Fold(1, records); err == nil {
			again, err := ReadSnapshot(bytes.NewReader(bytesOf(t, img)))
			if err != nil {
				t.Fatal(err)
			}
			same(t, img, again)
		}
	})
}
