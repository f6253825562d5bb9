package record_test

import (
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
)

// BenchmarkCheckSmall is a batch as a client without linger sends it: ten records, about 1 KiB.
func BenchmarkCheckSmall(b *testing.B) {
	recs := make([]record.Record, 10)
	for i := range recs {
		recs[i] = record.Record{Timestamp: int64(i), Key: []byte("some-key"), Value: []byte(`{"user":"somebody","action":"something","count":12345,"at":"2026-01-01T00:00:00Z"}`)}
	}
	for _, c := range codecs {
		batch := build(b, c, recs)
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := record.Check(batch, record.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEach(b *testing.B) {
	for _, c := range codecs {
		batch := build(b, c, someRecords(500))
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := record.Each(batch, func(record.Record) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	recs := someRecords(500)
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				build(b, c, recs)
			}
		})
	}
}
