package record_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/belfry-mq/belfry/broker/record"
)

// recompress gives a batch with its records in another zstd frame.
func recompress(t *testing.T, recs []record.Record, whole bool, options ...zstd.EOption) []byte {
	t.Helper()
	plain := build(t, record.None, recs)
	enc, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(plain[:record.HeaderSize])
	if whole {
		out = enc.EncodeAll(plain[record.HeaderSize:], out)
	} else {
		var stream bytes.Buffer
		enc.Reset(&stream)
		for _, part := range [][]byte{plain[record.HeaderSize : record.HeaderSize+10], plain[record.HeaderSize+10:]} {
			if _, err := enc.Write(part); err != nil {
				t.Fatal(err)
			}
			if err := enc.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		out = append(out, stream.Bytes()...)
	}
	return alter(t, out, func(h *record.Header) {
		h.Length = int32(len(out) - record.LogOverhead)
		h.Attributes = int16(record.Zstd)
	})
}

// TestZstdWindows: a frame may ask for a large window, as high levels do; what it costs is what it holds.
func TestZstdWindows(t *testing.T) {
	recs := someRecords(50)
	for _, window := range []int{1 << 10, 2 << 20, 8 << 20, 16 << 20, 128 << 20} {
		batch := recompress(t, recs, false, zstd.WithWindowSize(window))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		info, err := record.Check(batch, record.Limits{})
		runtime.ReadMemStats(&after)
		if err != nil || info.Records != len(recs) {
			t.Errorf("window of %d: %v", window, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 20<<20 {
			t.Errorf("window of %d: %d bytes allocated", window, got)
		}
		same(t, each(t, batch), recs)
	}
	if _, err := record.Check(recompress(t, recs, false, zstd.WithWindowSize(256<<20)), record.Limits{}); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("window beyond the limit: %v", err)
	}
	big := []record.Record{{Value: make([]byte, 9<<20)}}
	single := recompress(t, big, true, zstd.WithSingleSegment(true))
	if _, err := record.Check(single, record.Limits{}); err != nil {
		t.Errorf("one segment: %v", err)
	}
	if _, err := record.Check(single, record.Limits{MaxDecompressed: 8 << 20}); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("one segment beyond the cap: %v", err)
	}
	// one segment that claims 130 MiB
	claim := append(bytes.Clone(single[:record.HeaderSize]), 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x20, 8, 1, 0, 0)
	claim = alter(t, claim, func(h *record.Header) { h.Length = int32(len(claim) - record.LogOverhead) })
	if _, err := record.Check(claim, record.Limits{}); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("one segment beyond the largest cap: %v", err)
	}
}
