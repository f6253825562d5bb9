package record_test

import (
	"bytes"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
)

// TestMarkersAreKafkas compares with what Kafka 2.7.2 writes, byte for byte.
func TestMarkersAreKafkas(t *testing.T) {
	for name, commit := range map[string]bool{"commit": true, "abort": false} {
		want := golden(t, "java-marker-"+name+".bin")
		m := record.Marker{ProducerID: 5, ProducerEpoch: 3, CoordinatorEpoch: 7, Commit: commit}
		got := m.Batch(1_700_000_000_000)
		record.SetBase(got, 0, -1)
		if !bytes.Equal(got, want) {
			t.Errorf("%s marker is\n%x, Kafka's is\n%x", name, got, want)
		}
		again, ok, err := record.ReadMarker(want)
		if err != nil || !ok || again != m {
			t.Errorf("%s marker reads as %+v, %v, %v", name, again, ok, err)
		}
		if _, err := record.Check(want, record.Limits{}); err == nil {
			t.Errorf("%s marker gets through the door", name)
		}
	}
}

// control builds a control batch with any key and value.
func control(t testing.TB, key, value []byte) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch = 5, 3
	b.Header.Attributes = record.TransactionalBit | record.ControlBit
	b.Add(record.Record{Timestamp: 1, Key: key, Value: value})
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadMarker(t *testing.T) {
	value := []byte{0, 0, 0, 0, 0, 9}
	tests := []struct {
		name       string
		key, value []byte
		ok, bad    bool
	}{
		{"commit", []byte{0, 0, 0, 1}, value, true, false},
		{"newer versions", []byte{0, 9, 0, 1, 7, 7}, []byte{0, 9, 0, 0, 0, 9, 7}, true, false},
		{"leader change", []byte{0, 0, 0, 2}, []byte{0, 0}, false, false},
		{"unknown kind", []byte{0, 0, 0xff, 0xff}, nil, false, false},
		{"no key", nil, value, false, true},
		{"short key", []byte{0, 0, 0}, value, false, true},
		{"negative version", []byte{0x80, 0, 0, 1}, value, false, true},
		{"short value", []byte{0, 0, 0, 1}, value[:5], false, true},
		{"no value", []byte{0, 0, 0, 0}, nil, false, true},
	}
	for _, tt := range tests {
		m, ok, err := record.ReadMarker(control(t, tt.key, tt.value))
		if ok != tt.ok || (err != nil) != tt.bad || ok && m.CoordinatorEpoch != 9 {
			t.Errorf("%s: %+v, %v, %v", tt.name, m, ok, err)
		}
	}
	if _, _, err := record.ReadMarker(build(t, record.None, goldenRecords(2))); err == nil {
		t.Error("records are taken for a marker")
	}
}

func FuzzReadMarker(f *testing.F) {
	f.Add(record.Marker{ProducerID: 5, ProducerEpoch: 3, CoordinatorEpoch: 7, Commit: true}.Batch(1))
	f.Add(control(f, []byte{0, 0, 0, 2}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok, err := record.ReadMarker(b)
		if !ok || err != nil {
			return
		}
		again, ok, err := record.ReadMarker(m.Batch(1))
		if !ok || err != nil || again != m {
			t.Errorf("%+v is written and read as %+v, %v, %v", m, again, ok, err)
		}
	})
}
