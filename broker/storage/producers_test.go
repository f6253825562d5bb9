package storage

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// scripted makes the batch that one part of a script line names.
func scripted(t *testing.T, words []string) []byte {
	t.Helper()
	var n [4]int64
	for i := range n {
		v, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n[i] = v
	}
	if len(words) > 4 && words[4] != "txn" {
		m := record.Marker{ProducerID: n[0], ProducerEpoch: int16(n[1]), CoordinatorEpoch: int32(n[2]), Commit: words[4] == "commit"}
		return m.Batch(5)
	}
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = n[0], int16(n[1]), int32(n[2])
	if len(words) > 4 {
		b.Header.Attributes = record.TransactionalBit
	}
	for range n[3] {
		b.Add(record.Record{Timestamp: 5, Key: []byte("k")})
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestProducerScript(t *testing.T) { playScript(t, "testdata/producers.txt") }

func TestTransactionScript(t *testing.T) { playScript(t, "testdata/transactions.txt") }

func playScript(t *testing.T, file string) {
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	memory := disk.NewMemory(0)
	s := mustOpen(t, options(memory))
	l := mustCreate(t, s, smallCf)
	for i, text := range strings.Split(string(script), "\n") {
		if text == "" || text[0] == '#' {
			continue
		}
		do, want, ok := strings.Cut(text, " -> ")
		if !ok {
			t.Fatalf("line %d: %q has no result", i+1, text)
		}
		if got := perform(t, l, strings.Fields(do)); got != want {
			t.Errorf("line %d: %s\n got %s\nwant %s", i+1, do, got, want)
		}
		// Live state is what a restart would find, from a snapshot or from the batches.
		live := l.mu.producers.encode(l.undecided.list())
		again, ended, err := decodeProducers(live, 0)
		if err != nil || !bytes.Equal(again.encode(ended), live) || !slices.Equal(again.open, l.mu.producers.open) {
			t.Fatalf("line %d: the snapshot does not hold the state: %v", i+1, err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	replayed := mustOpen(t, options(memory.Crash(0))).Log(testTP)
	replayed.SetHighWatermark(l.HighWatermark())
	if got, want := replayed.LastStable(l.HighWatermark()), l.LastStable(l.HighWatermark()); got != want {
		t.Errorf("the last stable offset is %d after a restart, want %d", got, want)
	}
	if got, want := perform(t, replayed, []string{"aborted", "0", "1000"}), perform(t, l, []string{"aborted", "0", "1000"}); got != want {
		t.Errorf("aborted after a restart: %s\nwant %s", got, want)
	}
	if got, want := replayed.Producers(), l.Producers(); !reflect.DeepEqual(got, want) {
		t.Errorf("replayed state %+v\nlive state %+v", got, want)
	}
}

func number(t *testing.T, word string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func perform(t *testing.T, l *Log, words []string) string {
	if words[0] == "state" {
		var out []string
		for _, p := range l.Producers() {
			text := fmt.Sprintf("%d/%d:%d@%d", p.ID, p.Epoch, p.LastSequence, p.LastOffset)
			if p.CurrentTxnStart >= 0 {
				text += fmt.Sprintf(" from %d", p.CurrentTxnStart)
			}
			if p.CoordinatorEpoch >= 0 {
				text += fmt.Sprintf(" coordinator %d", p.CoordinatorEpoch)
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	a := Append{Assign: words[0] != "follow", Epoch: 1, Now: 5}
	switch words[0] {
	case "high":
		l.SetHighWatermark(record.Offset(number(t, words[1])))
		return fmt.Sprint(l.LastStable(l.HighWatermark()))
	case "aborted":
		list, err := abortedIn(*l.view.Load(), record.Offset(number(t, words[1])), record.Offset(number(t, words[2])))
		if err != nil {
			t.Fatal(err)
		}
		out := "none"
		for i, e := range list {
			if i == 0 {
				out = ""
			}
			out += fmt.Sprintf("%d from %d to %d ", e.id, e.first, e.last)
		}
		return strings.TrimSpace(out)
	case "ask":
		h := must(record.ReadHeader(scripted(t, append(words[1:4:4], "1", "txn"))))
		ticket, begins := l.Ticket(h, 5)
		if !begins {
			return "no need"
		}
		return fmt.Sprint("ticket ", ticket.n)
	case "client":
		a.Verify, a.Ticket = true, Ticket{uint64(number(t, words[1]))}
		words = words[1:]
	}
	if n := len(words); words[n-1] == "commit" || words[n-1] == "abort" {
		a.TxnVersion = int8(number(t, words[n-2]))
	}
	var b []byte
	for _, part := range strings.Split(strings.Join(words[1:], " "), " + ") {
		b = append(b, scripted(t, strings.Fields(part))...)
	}
	if !a.Assign {
		record.SetBase(b, l.End(), 1)
	}
	r, err := l.Append(b, a)
	switch {
	case err != nil:
		return err.Error()
	case r.Duplicate:
		return fmt.Sprintf("dup %d-%d", r.First, r.Last)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func TestProducersAreBounded(t *testing.T) {
	s := newProducers()
	for id := range int64(maxProducers + 1000) {
		h := record.Header{ProducerID: id, Attributes: record.TransactionalBit * int16(id&1)}
		s.follow(&h, nil, id)
	}
	if n := len(s.known); n != maxProducers {
		t.Errorf("%d producers are remembered, want %d", n, maxProducers)
	}
	for id := int64(1); id < 1000; id += 2 {
		if s.known[id] == nil {
			t.Fatalf("producer %d is forgotten in the middle of its transaction", id)
		}
	}
	s.expire(1<<40, 1<<39)
	if n := len(s.known); n != maxProducers/2+500 {
		t.Errorf("after a day %d producers are left, want those with a transaction", n)
	}
}

// TestAskedIsBounded: whoever asks to begin transactions and never does takes no more than so much.
func TestAskedIsBounded(t *testing.T) {
	s := newProducers()
	for id := range int64(maxAsked + 100) {
		h := record.Header{ProducerID: id, Attributes: record.TransactionalBit}
		if _, begins := s.ticket(&h, id); !begins {
			t.Fatal("no ticket is given")
		}
	}
	if len(s.asked) != maxAsked {
		t.Errorf("%d are about to begin, want at most %d", len(s.asked), maxAsked)
	}
	s.expire(1<<40, 1<<39)
	if len(s.asked) != 0 {
		t.Errorf("a day later %d are about to begin", len(s.asked))
	}
}
