package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
)

// alter gives a copy of batch with its header changed and the CRC right again.
func alter(t *testing.T, batch []byte, f func(*record.Header)) []byte {
	t.Helper()
	b := bytes.Clone(batch)
	h, err := record.ReadHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	f(&h)
	h.Put(b)
	record.WriteCRC(b)
	return b
}

func TestCheckRefuses(t *testing.T) {
	recs := someRecords(3)
	good := build(t, record.None, recs)
	keyed := build(t, record.None, []record.Record{{Timestamp: 1000, Key: []byte("k")}})
	header := func(f func(*record.Header)) []byte { return alter(t, good, f) }
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	// records gives a batch of one record made of these bytes.
	records := func(c record.Codec, count int32, raw ...byte) []byte {
		b := append(make([]byte, record.HeaderSize), raw...)
		h := record.Header{Length: int32(len(b) - record.LogOverhead), Magic: 2, Attributes: int16(c), Count: count, LastDelta: count - 1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
		h.Put(b)
		record.WriteCRC(b)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		l    record.Limits
		want error
	}{
		{"nothing", nil, record.Limits{}, record.ErrInvalid},
		{"short", good[:60], record.Limits{}, record.ErrCorrupt},
		{"cut", good[:len(good)-1], record.Limits{}, record.ErrCorrupt},
		{"cut second", append(bytes.Clone(good), good[:70]...), record.Limits{}, record.ErrCorrupt},
		{"trailing bytes", append(bytes.Clone(good), 0, 0, 0), record.Limits{}, record.ErrCorrupt},
		{"crc", flip(len(good) - 1), record.Limits{}, record.ErrCorrupt},
		{"attributes not under the CRC", flip(22), record.Limits{}, record.ErrCorrupt},
		{"magic 3", flip(16), record.Limits{}, record.ErrCorrupt},
		{"magic 1", func() []byte { b := bytes.Clone(good); b[16] = 1; return b }(), record.Limits{}, record.ErrFormat},
		{"magic 0", func() []byte { b := bytes.Clone(good); b[16] = 0; return b[:30] }(), record.Limits{}, record.ErrFormat},
		{"negative length", header(func(h *record.Header) { h.Length = -1 }), record.Limits{}, record.ErrCorrupt},
		{"short length", header(func(h *record.Header) { h.Length = 48 }), record.Limits{}, record.ErrCorrupt},
		{"size", good, record.Limits{MaxBatch: len(good) - 1}, record.ErrTooLarge},
		{"codec 5", header(func(h *record.Header) { h.Attributes = 5 }), record.Limits{}, record.ErrCodec},
		{"zstd for an old client", build(t, record.Zstd, recs), record.Limits{NoZstd: true}, record.ErrCodec},
		{"control", header(func(h *record.Header) { h.Attributes = record.ControlBit }), record.Limits{}, record.ErrInvalid},
		{"delete horizon", header(func(h *record.Header) { h.Attributes = record.DeleteHorizonBit }), record.Limits{}, record.ErrInvalid},
		{"append time", header(func(h *record.Header) { h.Attributes = record.LogAppendTimeBit }), record.Limits{}, record.ErrTimestamp},
		{"no records", header(func(h *record.Header) { h.Count, h.LastDelta = 0, -1 }), record.Limits{}, record.ErrInvalid},
		{"count negative", header(func(h *record.Header) { h.Count, h.LastDelta = -3, -4 }), record.Limits{}, record.ErrInvalid},
		{"count above", header(func(h *record.Header) { h.Count, h.LastDelta = 4, 3 }), record.Limits{}, record.ErrInvalid},
		{"count below", header(func(h *record.Header) { h.Count, h.LastDelta = 2, 1 }), record.Limits{}, record.ErrInvalid},
		{"last delta", header(func(h *record.Header) { h.LastDelta = 7 }), record.Limits{}, record.ErrInvalid},
		{"producer without epoch", header(func(h *record.Header) { h.ProducerID = 9 }), record.Limits{}, record.ErrInvalid},
		{"producer below none", header(func(h *record.Header) { h.ProducerID = -2 }), record.Limits{}, record.ErrInvalid},
		{"transaction without producer", header(func(h *record.Header) { h.Attributes = record.TransactionalBit }), record.Limits{}, record.ErrInvalid},
		{"null key", good, record.Limits{NoNullKeys: true}, record.ErrInvalid},
		{"too late", keyed, record.Limits{Now: 900, MaxAfter: 99}, record.ErrTimestamp},
		{"too early", keyed, record.Limits{Now: 1101, MaxBefore: 100}, record.ErrTimestamp},
		{"record longer than batch", records(record.None, 1, 14, 0, 0, 0, 1, 1), record.Limits{}, record.ErrInvalid},
		{"record shorter than its fields", records(record.None, 1, 8, 0, 0, 0, 1, 1, 0), record.Limits{}, record.ErrInvalid},
		{"record longer than its fields", records(record.None, 1, 14, 0, 0, 0, 1, 1, 0, 0), record.Limits{}, record.ErrInvalid},
		{"record length negative", records(record.None, 1, 1, 0, 0, 0, 1, 1, 0), record.Limits{}, record.ErrInvalid},
		{"offset delta", records(record.None, 1, 12, 0, 0, 2, 1, 1, 0), record.Limits{}, record.ErrInvalid},
		{"key length -2", records(record.None, 1, 12, 0, 0, 0, 3, 1, 0), record.Limits{}, record.ErrInvalid},
		{"value too long", records(record.None, 1, 12, 0, 0, 0, 1, 4, 0), record.Limits{}, record.ErrInvalid},
		{"headers negative", records(record.None, 1, 12, 0, 0, 0, 1, 1, 1), record.Limits{}, record.ErrInvalid},
		{"headers too many", records(record.None, 1, 12, 0, 0, 0, 1, 1, 2), record.Limits{}, record.ErrInvalid},
		{"header key null", records(record.None, 1, 16, 0, 0, 0, 1, 1, 2, 1, 1), record.Limits{}, record.ErrInvalid},
		{"not gzip", records(record.Gzip, 1, 12, 0, 0, 0, 1, 1, 0), record.Limits{}, record.ErrCorrupt},
		{"not snappy", records(record.Snappy, 1, 255, 255, 255, 255, 15, 1, 0), record.Limits{}, record.ErrCorrupt},
		{"not lz4", records(record.LZ4, 1, 12, 0, 0, 0, 1, 1, 0), record.Limits{}, record.ErrCorrupt},
		{"not zstd", records(record.Zstd, 1, 12, 0, 0, 0, 1, 1, 0), record.Limits{}, record.ErrCorrupt},
		{"xerial cut", records(record.Snappy, 1, append([]byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"), 0, 0, 0, 9, 1)...), record.Limits{}, record.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := record.Check(c.b, c.l)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			n := 0
			for _, e := range []error{record.ErrCorrupt, record.ErrInvalid, record.ErrTooLarge, record.ErrFormat, record.ErrCodec, record.ErrTimestamp} {
				if errors.Is(err, e) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%v is %d kinds of error", err, n)
			}
		})
	}
	if _, err := record.Check(records(record.None, 1, 12, 0, 0, 0, 1, 1, 0), record.Limits{}); err != nil {
		t.Errorf("the sound record is refused: %v", err)
	}
	if _, err := record.Check(keyed, record.Limits{Now: 900, MaxAfter: 100, MaxBefore: 100, NoNullKeys: true}); err != nil {
		t.Errorf("the sound timestamp is refused: %v", err)
	}
}

func TestCheckSeveral(t *testing.T) {
	b := record.NewBuilder(record.LZ4)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = 77, 3, 2147483646
	b.Header.Attributes = record.TransactionalBit
	var set []byte
	for range 3 {
		for _, r := range someRecords(4) {
			b.Add(r)
		}
		out, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, out...)
	}
	info, err := record.Check(set, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if info.Batches != 3 || info.Records != 12 || info.First.ProducerID != 77 || !info.First.Transactional() || info.First.LastSequence() != 1 {
		t.Errorf("%+v", info)
	}
	h, err := record.ReadHeader(set[info.First.Size():])
	if err != nil {
		t.Fatal(err)
	}
	if h.Base != 4 || h.BaseSequence != 2 {
		t.Errorf("second batch begins at offset %d, sequence %d", h.Base, h.BaseSequence)
	}
}

// TestCheckMendsMaxTimestamp: a client that computes it wrongly must not spoil the time index.
func TestCheckMendsMaxTimestamp(t *testing.T) {
	b := alter(t, build(t, record.None, someRecords(9)), func(h *record.Header) { h.MaxTimestamp += 1e9 })
	want := build(t, record.None, someRecords(9))
	if _, err := record.Check(b, record.Limits{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Error("the header was not put right")
	}
}

func TestStampAndBase(t *testing.T) {
	b := build(t, record.Zstd, someRecords(9))
	record.SetBase(b, 1<<40, 7)
	if _, err := record.Verify(b); err != nil {
		t.Fatalf("base is under the CRC: %v", err)
	}
	record.StampAppendTime(b, 42)
	h, err := record.Verify(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.Base != 1<<40 || h.LeaderEpoch != 7 || h.MaxTimestamp != 42 || !h.LogAppendTime() || h.Codec() != record.Zstd || h.Last() != 1<<40+8 {
		t.Errorf("%+v", h)
	}
	for _, r := range each(t, b) {
		if r.Timestamp != 42 {
			t.Errorf("record with timestamp %d", r.Timestamp)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	b := build(t, record.None, someRecords(100))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := record.Check(b, record.Limits{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBombIsCapped: a small batch that decompresses to much is refused where the cap is passed.
func TestBombIsCapped(t *testing.T) {
	zeros := make([]byte, 4<<20)
	for _, c := range codecs[1:] {
		batch := build(t, c, []record.Record{{Value: zeros}, {Value: zeros}, {Value: zeros}})
		if n := testing.AllocsPerRun(1, func() {
			if _, err := record.Check(batch, record.Limits{MaxDecompressed: 10 << 20}); !errors.Is(err, record.ErrTooLarge) {
				t.Errorf("%s: %v", c, err)
			}
		}); n > 100 {
			t.Errorf("%s: %v allocations", c, n)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, c := range codecs {
		f.Add(build(f, c, someRecords(3))[21:])
	}
	f.Fuzz(func(t *testing.T, tail []byte) {
		// Why only the tail: the fuzzer cannot guess a CRC.
		b := append(make([]byte, 21), tail...)
		if len(b) < record.HeaderSize {
			b = append(b, make([]byte, record.HeaderSize-len(b))...)
		}
		b[16] = 2
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-record.LogOverhead))
		record.WriteCRC(b)
		h, err := record.Verify(b)
		if err != nil {
			t.Fatal(err)
		}
		info, err := record.Check(b, record.Limits{MaxDecompressed: 1 << 20})
		n := 0
		walk := record.Each(b, func(r record.Record) error {
			if r.Offset != h.Base+record.Offset(n) && err == nil {
				t.Fatalf("record %d at offset %d", n, r.Offset)
			}
			n++
			return nil
		})
		if err == nil && (walk != nil || n != info.Records) {
			t.Fatalf("Check lets pass what Each does not: %v, %d of %d records", walk, n, info.Records)
		}
		for magic := range int8(2) {
			if _, old := record.Downgrade(nil, b, magic); err == nil && h.Codec() != record.Zstd && old != nil {
				t.Fatalf("Check lets pass what Downgrade does not: %v", old)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	recs := someRecords(500)
	for _, c := range codecs {
		batch := build(b, c, recs)
		plain := build(b, record.None, recs)
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := record.Check(batch, record.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCheckNamesTheRecords(t *testing.T) {
	batch := build(t, record.Gzip, []record.Record{{Key: []byte("a")}, {Value: []byte("no key")}, {Key: []byte("b")}, {Value: []byte("nor here")}})
	_, err := record.Check(batch, record.Limits{NoNullKeys: true})
	var some *record.RecordError
	if !errors.As(err, &some) || !errors.Is(err, record.ErrInvalid) || len(some.Records) != 2 || some.Records[0].Index != 1 || some.Records[1].Index != 3 {
		t.Errorf("%v", err)
	}
	_, err = record.Check(build(t, record.Gzip, make([]record.Record, 5000)), record.Limits{NoNullKeys: true})
	if !errors.As(err, &some) || len(some.Records) != 1000 || some.Records[999].Index != 999 {
		t.Errorf("%v", err)
	}
}

func TestEachOfNothing(t *testing.T) {
	b := build(t, record.Gzip, someRecords(1))[:record.HeaderSize]
	h, err := record.ReadHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	h.Length, h.Count = record.HeaderSize-record.LogOverhead, 0
	h.Put(b)
	if err := record.Each(b, func(record.Record) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
}
