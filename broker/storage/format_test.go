package storage

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// match compares bytes with a file in testdata, kept as a hex dump.
func match(t *testing.T, name string, got []byte) {
	t.Helper()
	golden.Match(t, "testdata/"+name+".hex", hex.Dump(got))
}

// TestFilesOnDisk pins every file format down to the byte.
func TestFilesOnDisk(t *testing.T) {
	o := options(disk.NewMemory(0))
	o.ClusterID = "golden"
	s := mustOpen(t, o)
	c := smallCf
	c.SegmentBytes, c.IndexInterval = 500, 150
	l := mustCreate(t, s, c)
	for i := range int32(4) {
		if _, err := l.Append(idempotent(77, 0, 2*i, 2), Append{Assign: true, Epoch: 3, Now: s.env.now().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, batch(1, int64(2000-100*i)))
	}
	if err := l.BeginEpoch(9); err != nil {
		t.Fatal(err)
	}
	l.SetHighWatermark(11)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d := must(o.FS.Open("/data"))
	first := fileName(l.folder, 0, "")
	for _, e := range must(d.List(l.folder)) {
		match(t, e.Name, must(disk.ReadFile(d, l.folder+"/"+e.Name)))
	}
	for _, name := range []string{recoveryFile, startFile, highFile, cleanFile} {
		match(t, name, must(disk.ReadFile(d, name)))
	}
	if b := must(disk.ReadFile(d, first+indexSuffix)); len(b) == 0 || len(b)%8 != 0 {
		t.Errorf("the index has %d bytes", len(b))
	}
}

// TestIndexEntries checks what Kafka's dump tool checks: each offset entry points to a
// batch that ends with that offset, each time entry to a batch with that largest timestamp.
func TestIndexEntries(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	c := smallCf
	c.SegmentBytes = 4000
	l := mustCreate(t, s, c)
	for i := range 100 {
		mustAppend(t, l, batch(1+i%4, int64(1000+(i*37)%500)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d := must(s.o.FS.Open("/data"))
	entries := 0
	for _, seg := range *l.view.Load() {
		log := must(disk.ReadFile(d, seg.name(logSuffix)))
		index := must(disk.ReadFile(d, seg.name(indexSuffix)))
		for ; len(index) > 0; index = index[offsetEntry:] {
			h := must(record.ReadHeader(log[posOf(index):]))
			if h.Last() != seg.base+record.Offset(relOf(index)) {
				t.Errorf("index entry %d points to a batch that ends at %d", relOf(index), h.Last())
			}
			entries++
		}
		times := must(disk.ReadFile(d, seg.name(timeSuffix)))
		for last := int64(-1); len(times) > 0; times = times[timeEntry:] {
			ts := timeOf(times)
			if ts <= last {
				t.Errorf("time entry %d after %d", ts, last)
			}
			last = ts
			for b := log; ; {
				h := must(record.ReadHeader(b))
				if h.Last() == seg.base+record.Offset(timeRelOf(times)) {
					if h.MaxTimestamp != ts {
						t.Errorf("time entry %d points to a batch of %d", ts, h.MaxTimestamp)
					}
					break
				}
				b = b[h.Size():]
			}
			entries++
		}
	}
	if entries < 40 {
		t.Errorf("only %d entries were looked at", entries)
	}
}

func TestFolderNames(t *testing.T) {
	for range 200 {
		id := topic.NewID()
		if got, n, ok := parseFolder(folderName(id, 12)); !ok || got != id || n != 12 {
			t.Fatalf("%q reads as %v-%d %v", folderName(id, 12), got, n, ok)
		}
	}
	good := folderName(topic.ID{1}, 3)
	for _, bad := range []string{"", good[:22], good + "x", good + trashMark + "00", good[:23] + "03", good[:23] + "99999999999", "../" + good} {
		if _, _, ok := parseFolder(bad); ok {
			t.Errorf("%q is taken for a log's folder", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(undump(f, "snapshot-first"))
	f.Add(undump(f, "snapshot-kafka"))
	p := newProducers()
	f.Add(p.encode(nil))
	f.Add(newProducersEncoded())
	f.Add(encodeLines([]line{{"a", 1}, {"b", 2}}))
	f.Add(encodePartition(testTP, testID))
	f.Add(meta{"c", 1, testID}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ended, err := decodeProducers(b, 0); err == nil {
			if again, more, err := decodeProducers(s.encode(ended), 0); err != nil || !bytes.Equal(again.encode(more), s.encode(ended)) {
				t.Errorf("producers %x do not survive", b)
			}
		}
		if lines, err := decodeLines(b); err == nil {
			if !bytes.Equal(encodeLines(lines), b) && !bytes.Contains(b, []byte("+")) && !bytes.Contains(b, []byte(" 0")) {
				t.Errorf("lines %q do not survive", b)
			}
		}
		if p, id, err := decodePartition(b); err == nil && topic.CheckName(p.Topic) != nil {
			t.Errorf("partition %v %v is not one", p, id)
		}
		_, _ = decodeMeta(b)
	})
}

// FuzzRecovery opens a log whose files are what the fuzzer makes of them: it never
// panics, never takes the directory offline, and what it serves is whole.
func FuzzRecovery(f *testing.F) {
	b := batch(2, 1)
	record.SetBase(b, 0, 1)
	index := putOffset(1, 0)
	times := putTime(2, 1)
	f.Add(b, index[:], times[:], []byte{}, uint8(0))
	f.Add(append(bytes.Clone(b), b...), []byte{1}, []byte{}, newProducersEncoded(), uint8(3))
	txn := append(transactional(1, 0, 0, 2), record.Marker{ProducerID: 1}.Batch(1)...)
	record.SetBase(txn[len(txn)-78:], 2, 0)
	f.Add(txn, []byte{}, []byte{}, []byte{}, uint8(0))
	nonsense := bytes.Clone(b)
	nonsense[22] |= record.ControlBit | record.TransactionalBit
	nonsense[50] = 1 // a producer
	clear(nonsense[43:50])
	record.WriteCRC(nonsense)
	f.Add(nonsense, []byte{}, []byte{}, []byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, log, index, times, snapshot []byte, mode uint8) {
		fs := disk.NewMemory(0)
		d := must(fs.Open("/data"))
		folder := folderName(testID, testTP.Partition)
		if err := d.Mkdir(folder); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{
			metaFile:                            meta{"c", 1, testID}.encode(),
			folder + "/" + partitionFile:        encodePartition(testTP, testID),
			fileName(folder, 0, logSuffix):      log,
			fileName(folder, 0, indexSuffix):    index,
			fileName(folder, 0, timeSuffix):     times,
			fileName(folder, 1, snapshotSuffix): snapshot,
		}
		if mode&1 != 0 {
			files[cleanFile] = seal([]byte("version: 0\n"))
		}
		if mode&2 != 0 {
			files[fileName(folder, 2, logSuffix)] = log
		}
		for name, content := range files {
			if err := disk.WriteAtomic(d, name, content); err != nil {
				t.Fatal(err)
			}
		}
		s := mustOpen(t, options(fs))
		if s.dirs[0].Err() != nil {
			t.Fatal(s.dirs[0].Err())
		}
		l := s.Log(testTP)
		if l.Err() != nil || mode&1 != 0 {
			_, _ = l.Read(l.Start(), 1000, l.End(), true)
			_, _, _, _, _ = l.OffsetAt(1, l.End())
			return
		}
		content(t, l)
		mustAppend(t, l, batch(1, 1))
		content(t, l)
	})
}

func newProducersEncoded() []byte {
	p := newProducers()
	h := record.Header{ProducerID: 1, LastDelta: 2, BaseSequence: 3}
	p.follow(&h, nil, 0)
	return p.encode([]endedTxn{{id: 1, first: 2, last: 5, aborted: true, stable: 6}})
}
