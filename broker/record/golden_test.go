package record_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
)

// goldenRecords are what testdata/java-*.bin hold: written by Apache Kafka's MemoryRecords 2.7.2.
func goldenRecords(magic int8) []record.Record {
	var recs []record.Record
	for i := range 20 {
		r := record.Record{Offset: record.Offset(i), Timestamp: 1_700_000_000_000 + int64(i)}
		if magic == 0 {
			r.Timestamp = record.NoTimestamp
		}
		if i%4 != 0 {
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i%7 != 6 {
			r.Value = []byte(strings.Repeat(fmt.Sprintf("value %d ", i), i*10))
		}
		if magic == 2 && i%2 == 1 {
			r.Headers = []record.Pair{{Key: []byte("h"), Value: fmt.Appendf(nil, "%d", i)}, {Key: []byte("null")}}
		}
		recs = append(recs, r)
	}
	return recs
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadsJava reads what Kafka's own client writes, in every format and codec.
func TestReadsJava(t *testing.T) {
	for magic := range int8(3) {
		for _, c := range codecs {
			if c == record.Zstd && magic < 2 {
				continue
			}
			t.Run(fmt.Sprintf("magic%d-%s", magic, c), func(t *testing.T) {
				b := golden(t, fmt.Sprintf("java-magic%d-%s.bin", magic, c))
				if record.Legacy(b) != (magic < 2) {
					t.Fatal("old is not told from new")
				}
				if magic < 2 {
					var err error
					if b, err = record.Convert(b, record.Limits{}); err != nil {
						t.Fatal(err)
					}
				}
				before := bytes.Clone(b)
				info, err := record.Check(b, record.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b, before) {
					t.Error("Check changes what Kafka writes")
				}
				if info.Batches != 1 || info.Records != 20 || info.First.Codec() != c {
					t.Errorf("%+v", info)
				}
				same(t, each(t, b), goldenRecords(magic))
			})
		}
	}
}

// TestWritesLikeJava: uncompressed, there is one way to write a batch.
func TestWritesLikeJava(t *testing.T) {
	batch := build(t, record.None, goldenRecords(2))
	if !bytes.Equal(batch, golden(t, "java-magic2-none.bin")) {
		t.Error("magic 2 differs")
	}
	for magic := range int8(2) {
		old, err := record.Downgrade(nil, batch, magic)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(old, golden(t, fmt.Sprintf("java-magic%d-none.bin", magic))) {
			t.Errorf("magic %d differs", magic)
		}
	}
}

// TestReadsLibrdkafka reads batches of librdkafka 2.0.2; its snappy has no framing.
func TestReadsLibrdkafka(t *testing.T) {
	for _, c := range codecs[1:] {
		b := golden(t, fmt.Sprintf("librdkafka-%s.bin", c))
		info, err := record.Check(b, record.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if info.Records != 20 || info.First.Codec() != c {
			t.Errorf("%s: %+v", c, info)
		}
		for i, r := range each(t, b) {
			want := strings.Repeat(fmt.Sprintf("value %d ", i), i*10+1)
			if r.Key != nil || string(r.Value) != want || len(r.Headers) != 1 || string(r.Headers[0].Key) != "h" || string(r.Headers[0].Value) != "1" {
				t.Errorf("%s: record %d is %+v", c, i, r)
			}
		}
	}
}
