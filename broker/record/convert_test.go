package record_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
)

// plainer gives records as a format without headers, and perhaps without timestamps, shows them.
func plainer(recs []record.Record, magic int8) []record.Record {

	var plain []record.Record
	for _, r := range recs {
		r.Headers = nil
		if magic == 0 {
			r.Timestamp = record.NoTimestamp
		}
		plain = append(plain, r)
	}
	return plain
}

// TestThereAndBack makes old messages of a batch and a batch of them again.
func TestThereAndBack(t *testing.T) {
	recs := someRecords(50)
	for _, c := range codecs[:4] {
		for magic := range int8(2) {
			batch := build(t, c, recs)
			old, err := record.Downgrade([]byte("before"), batch, magic)
			if err != nil {
				t.Fatal(err)
			}
			old = bytes.TrimPrefix(old, []byte("before"))
			if !record.Legacy(old) || record.Legacy(batch) {
				t.Error("old is not told from new")
			}
			again, err := record.Convert(old, record.Limits{})
			if err != nil {
				t.Fatalf("%s, magic %d: %v", c, magic, err)
			}
			info, err := record.Check(again, record.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if info.First.Codec() != c || info.Records != len(recs) {
				t.Errorf("%+v", info)
			}
			same(t, each(t, again), plainer(recs, magic))
		}
	}
}

// TestKmsgReadsMessages compares old messages with an independent decoder.
func TestKmsgReadsMessages(t *testing.T) {
	recs := plainer(someRecords(3), 1)
	b := record.NewBuilder(record.None)
	b.Header.Base = 1000
	for _, r := range recs {
		b.Add(r)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	old, err := record.Downgrade(nil, batch, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range recs {
		var m kmsg.MessageV1
		size := 12 + int(binary.BigEndian.Uint32(old[8:]))
		if err := m.ReadFrom(old[:size]); err != nil {
			t.Fatal(err)
		}
		if m.Offset != int64(1000+i) || m.Timestamp != r.Timestamp || !bytes.Equal(m.Key, r.Key) || !bytes.Equal(m.Value, r.Value) || (m.Key == nil) != (r.Key == nil) {
			t.Errorf("%+v\n%+v", m, r)
		}
		if m.CRC != int32(crc32.ChecksumIEEE(old[16:size])) {
			t.Errorf("CRC %x", m.CRC)
		}
		old = old[size:]
	}
	if len(old) != 0 {
		t.Errorf("%d bytes follow", len(old))
	}
}

func TestDowngradeSpecials(t *testing.T) {
	if _, err := record.Downgrade(nil, build(t, record.Zstd, someRecords(2)), 1); !errors.Is(err, record.ErrCodec) {
		t.Errorf("zstd: %v", err)
	}
	control := alter(t, build(t, record.None, someRecords(1)), func(h *record.Header) { h.Attributes |= record.ControlBit | record.TransactionalBit })
	if b, err := record.Downgrade(nil, control, 1); err != nil || len(b) != 0 {
		t.Errorf("control: %x %v", b, err)
	}
	// offsets inside a compressed message of magic 1 count from its first
	b := record.NewBuilder(record.Gzip)
	b.Header.Base = 500
	for _, o := range []record.Offset{502, 507} {
		b.AddAt(record.Record{Offset: o, Timestamp: 9})
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for magic := range int8(2) {
		old, err := record.Downgrade(nil, batch, magic)
		if err != nil {
			t.Fatal(err)
		}
		if o := binary.BigEndian.Uint64(old); o != 507 {
			t.Errorf("magic %d: wrapper at offset %d", magic, o)
		}
	}
}

// raw makes a message of magic 1, CRC right.
func raw(attributes byte, value []byte, edit func([]byte) []byte) []byte {
	m := kmsg.MessageV1{Offset: 0, Magic: 1, Attributes: int8(attributes), Timestamp: 5, Value: value}
	b := m.AppendTo(nil)
	if edit != nil {
		b = edit(b)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

func TestConvertRefuses(t *testing.T) {
	good := raw(0, []byte("v"), nil)
	if _, err := record.Convert(good, record.Limits{}); err != nil {
		t.Fatal(err)
	}
	gz := func(inner []byte) []byte {
		// the records of a batch of one, compressed: take them from a wrapper of our own
		return raw(1, gzipped(t, inner), nil)
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":              {nil, record.ErrInvalid},
		"cut":                  {good[:len(good)-1], record.ErrCorrupt},
		"cut second":           {append(bytes.Clone(good), good[:20]...), record.ErrCorrupt},
		"crc":                  {func() []byte { b := bytes.Clone(good); b[len(b)-1]++; return b }(), record.ErrCorrupt},
		"magic 2 among old":    {append(bytes.Clone(good), build(t, record.None, someRecords(1))...), record.ErrCorrupt},
		"zstd":                 {raw(4, []byte("v"), nil), record.ErrCodec},
		"codec 7":              {raw(7, []byte("v"), nil), record.ErrCodec},
		"append time":          {raw(8, []byte("v"), nil), record.ErrTimestamp},
		"trailing byte":        {raw(0, []byte("v"), func(b []byte) []byte { return append(b, 0) }), record.ErrCorrupt},
		"key of -2":            {raw(0, []byte("v"), func(b []byte) []byte { b[29] = 0xfe; return b }), record.ErrCorrupt},
		"not gzip":             {raw(1, []byte("v"), nil), record.ErrCorrupt},
		"gzip of nothing":      {gz(nil), record.ErrInvalid},
		"null wrapper":         {raw(1, nil, nil), record.ErrCorrupt},
		"compressed in itself": {gz(gz(good)), record.ErrInvalid},
		"inner of magic 0":     {gz(func() []byte { m := kmsg.MessageV0{Value: []byte("v")}; b := m.AppendTo(nil); fixV0(b); return b }()), record.ErrInvalid},
		"inner cut":            {gz(good[:len(good)-2]), record.ErrCorrupt},
		"more than the cap":    {gz(bytes.Repeat(good, 2_000_000)), record.ErrTooLarge},
	} {
		if _, err := record.Convert(c.b, record.Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func fixV0(b []byte) {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
}

func FuzzConvert(f *testing.F) {
	for _, c := range codecs[:4] {
		for magic := range int8(2) {
			b, err := record.Downgrade(nil, build(f, c, someRecords(2)), magic)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Why: the fuzzer cannot guess a CRC.
		for at := 0; len(b)-at >= 26; {
			n := 12 + int(binary.BigEndian.Uint32(b[at+8:])&0xffff)
			n = min(n, len(b)-at)
			if n < 26 {
				break
			}
			binary.BigEndian.PutUint32(b[at+8:], uint32(n-12))
			binary.BigEndian.PutUint32(b[at+12:], crc32.ChecksumIEEE(b[at+16:at+n]))
			at += n
		}
		out, err := record.Convert(b, record.Limits{MaxDecompressed: 1 << 20})
		if err != nil {
			return
		}
		if _, err := record.Check(out, record.Limits{}); err != nil {
			t.Fatal(fmt.Errorf("a converted batch is refused: %w", err))
		}
	})
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
