package storage

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// undump gives the bytes of a golden file.
func undump(t testing.TB, name string) []byte {
	t.Helper()
	text := string(must(os.ReadFile("testdata/" + name + ".hex")))
	var out []byte
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		digits, _, _ := strings.Cut(line[10:], "|")
		out = append(out, must(hex.DecodeString(strings.ReplaceAll(digits, " ", "")))...)
	}
	return out
}

// TestFirstSnapshot reads what was written before there were transactions.
func TestFirstSnapshot(t *testing.T) {
	s, ended, err := decodeProducers(undump(t, "snapshot-first"), 7)
	if err != nil || len(ended) != 0 || len(s.known) != 1 {
		t.Fatalf("%d producers, %d ended transactions, %v", len(s.known), len(ended), err)
	}
	p := s.known[77]
	if p == nil || p.n != 4 || p.lastSeq() != 7 || p.last != 10 || p.coord != -1 || p.txn != -1 || p.seen != 7 {
		t.Errorf("the producer is %+v", p)
	}
}

// TestKafkaSnapshot reads one without our part.
func TestKafkaSnapshot(t *testing.T) {
	b := undump(t, "snapshot-kafka")
	s, _, err := decodeProducers(b, 0)
	if err != nil || len(s.known) != 1 {
		t.Fatal(len(s.known), err)
	}
	p := s.known[77]
	if p.n != 1 || p.lastSeq() != 7 || p.coord != 3 || p.txn != 9 || len(s.open) != 1 {
		t.Errorf("the producer is %+v, %d transactions are open", p, len(s.open))
	}
}
