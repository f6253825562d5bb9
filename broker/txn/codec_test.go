package txn

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Records are Kafka's, byte by byte; its dump tool shows the same of them.
func TestRecordBytes(t *testing.T) {
	v := &value{
		producer: 0x0102, epoch: 7, previous: 0x0102, next: 0x0a0b, timeout: 60_000, state: PrepareCommit, updated: 1000, started: 900, version: 2,
		parts: []topic.Partition{{Topic: "a", Partition: 0}, {Topic: "a", Partition: 3}, {Topic: "b", Partition: 1}},
	}
	for _, c := range []struct {
		name        string
		level       int16
		value       *value
		state       State
		parts       []topic.Partition
		next        int64
		version     int16
		wantedValue string
	}{
		{"version 0", 0, v, PrepareCommit, v.parts, v.next, 2,
			"0000" + "0000000000000102" + "0007" + "0000ea60" + "02" +
				"00000002" + "000161" + "00000002" + "00000000" + "00000003" + "000162" + "00000001" + "00000001" +
				"00000000000003e8" + "0000000000000384"},
		{"version 1", 2, v, PrepareCommit, v.parts, v.next, 2,
			"0001" + "0000000000000102" + "0007" + "0000ea60" + "02" +
				"03" + "0261" + "03" + "00000000" + "00000003" + "00" + "0262" + "02" + "00000001" + "00" +
				"00000000000003e8" + "0000000000000384" +
				"03" + "0008" + "0000000000000102" + "0108" + "0000000000000a0b" + "0202" + "0002"},
		{"empty", 1, v, Empty, nil, -1, 0,
			"0001" + "0000000000000102" + "0007" + "0000ea60" + "00" + "00" +
				"00000000000003e8" + "0000000000000384" + "01" + "0008" + "0000000000000102"},
		{"complete", 1, v, CompleteAbort, nil, -1, 0,
			"0001" + "0000000000000102" + "0007" + "0000ea60" + "05" + "01" +
				"00000000000003e8" + "0000000000000384" + "01" + "0008" + "0000000000000102"},
	} {
		s := newShard()
		s.level = func() int16 { return c.level }
		one := *c.value
		one.state, one.parts, one.next, one.version = c.state, c.parts, c.next, c.version
		r := s.record("tx", &one)
		if got := hex.EncodeToString(r.Key); got != "0000"+"0002"+"7478" {
			t.Errorf("%s: key %s", c.name, got)
		}
		if got := hex.EncodeToString(r.Value); got != c.wantedValue {
			t.Errorf("%s: value\n%s\nwant\n%s", c.name, got, c.wantedValue)
		}
		if err := s.Replay(record.Header{}, r); err != nil {
			t.Fatal(err)
		}
		if c.level == 0 { // it has no place for these
			one.previous, one.next, one.version = -1, -1, 0
		}
		if got := s.ids["tx"].value; !reflect.DeepEqual(got, one) {
			t.Errorf("%s: read back as %+v, was %+v", c.name, got, one)
		}
	}
}

// A later version is refused, rather than read wrongly; a later kind of key is passed over.
func TestLaterVersions(t *testing.T) {
	s := newShard()
	s.level = func() int16 { return 2 }
	good := s.record("tx", &value{producer: 1, previous: -1, next: -1, started: -1})
	later := record.Record{Key: good.Key, Value: append([]byte{0, 2}, good.Value[2:]...)}
	if err := s.Replay(record.Header{}, later); err == nil {
		t.Error("a value of a later version is taken")
	}
	if err := s.Replay(record.Header{}, record.Record{Key: []byte{0, 1, 9}, Value: []byte{1}}); err != nil {
		t.Errorf("a key of a later version gives %v", err)
	}
	dead := bytes.Clone(good.Value)
	dead[2+8+2+4] = byte(Dead)
	if err := s.Replay(record.Header{}, record.Record{Key: good.Key, Value: dead}); err == nil {
		t.Error("a state that is never stored is taken")
	}
	if len(s.ids) != 0 {
		t.Errorf("%d transactions are there", len(s.ids))
	}
}

// FuzzReplay: no record makes the shard panic, and what it takes it would write again.
func FuzzReplay(f *testing.F) {
	s := newShard()
	for level := range int16(3) {
		s.level = func() int16 { return level }
		r := s.record("tx", &value{producer: 5, epoch: 1, previous: 4, next: 6, state: Ongoing, version: level, parts: []topic.Partition{{Topic: "t", Partition: 1}}})
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, val []byte) {
		s := newShard()
		s.level = func() int16 { return 2 }
		if len(val) > 1<<16 || s.Replay(record.Header{}, record.Record{Key: key, Value: bytes.Clone(val)}) != nil {
			return
		}
		for id, tx := range s.ids {
			again := newShard()
			if err := again.Replay(record.Header{}, s.record(id, &tx.value)); err != nil {
				t.Fatalf("what was taken is refused: %v", err)
			}
			got, want := again.ids[id].value, tx.value
			if len(got.parts) == 0 && len(want.parts) == 0 {
				got.parts, want.parts = nil, nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v is read again as %+v", want, got)
			}
		}
	})
}
