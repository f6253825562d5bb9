package stats

import (
	"reflect"
	"testing"
)

func TestTrafficTravels(t *testing.T) {
	b := New()
	b.Topic("orders").BytesIn.Add(700)
	b.Topic("orders").BytesOut.Add(300)
	b.Topic("ä").BytesIn.Add(1)
	sent := b.Traffic()
	if sent.Age <= 0 || len(sent.Topics) != 2 {
		t.Fatalf("traffic is %+v", sent)
	}
	wire := sent.Append(nil)
	got, err := ReadTraffic(wire)
	if err != nil || !reflect.DeepEqual(got, sent) {
		t.Fatalf("got %+v, %v, sent %+v", got, err, sent)
	}
	for n := range wire {
		if _, err := ReadTraffic(wire[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken for the whole", n, len(wire))
		}
	}
	if _, err := ReadTraffic(append([]byte{1}, wire[1:]...)); err == nil {
		t.Error("a form of the future was taken for ours")
	}
}

func FuzzReadTraffic(f *testing.F) {
	b := New()
	b.Topic("orders").BytesIn.Add(700)
	f.Add(b.Traffic().Append(nil))
	f.Add([]byte{0, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReadTraffic(data)
		if err != nil {
			return
		}
		again, err := ReadTraffic(got.Append(nil))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v came back as %+v, %v", got, again, err)
		}
	})
}
