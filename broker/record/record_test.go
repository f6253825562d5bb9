package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
)

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

// someRecords gives n records with every shape of key, value and headers.
func someRecords(n int) []record.Record {
	r := rand.New(rand.NewPCG(1, 2))
	recs := make([]record.Record, n)
	for i := range recs {
		rec := record.Record{Offset: record.Offset(i), Timestamp: 1_700_000_000_000 + int64(r.IntN(5000))}
		if i%3 != 0 {
			rec.Key = fmt.Appendf([]byte{}, "key-%d", i)
		}
		if i%5 != 0 {
			rec.Value = []byte(strings.Repeat("value ", r.IntN(300)))
		}
		for j := range i % 3 {
			rec.Headers = append(rec.Headers, record.Pair{Key: fmt.Appendf(nil, "h%d", j), Value: []byte("v")})
		}
		if i%7 == 0 {
			rec.Headers = append(rec.Headers, record.Pair{Key: []byte("null")})
		}
		recs[i] = rec
	}
	return recs
}

func build(t testing.TB, c record.Codec, recs []record.Record) []byte {
	t.Helper()
	b := record.NewBuilder(c)
	for _, r := range recs {
		b.Add(r)
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func each(t testing.TB, batch []byte) []record.Record {
	t.Helper()
	var got []record.Record
	err := record.Each(batch, func(r record.Record) error {
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		hs := r.Headers
		r.Headers = nil
		for _, h := range hs {
			r.Headers = append(r.Headers, record.Pair{Key: bytes.Clone(h.Key), Value: bytes.Clone(h.Value)})
		}
		got = append(got, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t testing.TB, got, want []record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) { // tells null from empty
			t.Fatalf("record %d:\n got %.2000v\nwant %.2000v", i, got[i], want[i])
		}
	}
}

func TestBuildCheckEach(t *testing.T) {
	for _, c := range codecs {
		for _, n := range []int{1, 2, 500} {
			recs := someRecords(n)
			batch := build(t, c, recs)
			info, err := record.Check(batch, record.Limits{})
			if err != nil {
				t.Fatalf("%s, %d records: %v", c, n, err)
			}
			if info.Batches != 1 || info.Records != n || !info.NullKey || info.First.ProducerID != -1 || info.First.Codec() != c {
				t.Errorf("%s, %d records: %+v", c, n, info)
			}
			same(t, each(t, batch), recs)
		}
	}
}

// TestLargeRecord has records that are larger than the window of the walk.
func TestLargeRecord(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32() % 50)
	}
	recs := []record.Record{
		{Offset: 0, Timestamp: 5, Key: noise[:70_000], Value: noise},
		{Offset: 1, Timestamp: 6, Value: noise[:65_536], Headers: []record.Pair{{Key: noise[:100_000], Value: noise}, {Key: []byte("k")}}},
		{Offset: 2, Timestamp: 4, Value: []byte("small")},
	}
	for _, c := range codecs {
		batch := build(t, c, recs)
		info, err := record.Check(batch, record.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if info.MaxTimestamp != 6 || info.Records != 3 {
			t.Errorf("%s: %+v", c, info)
		}
		same(t, each(t, batch), recs)
		if _, err := record.Check(batch, record.Limits{MaxDecompressed: 500_000}); c != record.None && !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s beyond the cap: %v", c, err)
		}
	}
}

// TestKmsgReads compares the bytes with an independent decoder.
func TestKmsgReads(t *testing.T) {
	recs := someRecords(20)
	batch := build(t, record.None, recs)
	var rb kmsg.RecordBatch
	if err := rb.ReadFrom(batch); err != nil {
		t.Fatal(err)
	}
	if rb.NumRecords != 20 || rb.LastOffsetDelta != 19 || rb.Magic != 2 || rb.ProducerID != -1 || int(rb.Length) != len(batch)-12 {
		t.Errorf("%+v", rb)
	}
	if again := rb.AppendTo(nil); !bytes.Equal(again, batch) {
		t.Error("kmsg writes other bytes")
	}
}
