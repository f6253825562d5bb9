package group

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// sample is a group with something in every field.
func sample() *consumerGroup {
	one, rack := "one", "r1"
	id := topic.ID{1, 2, 3}
	g := newConsumerGroup()
	g.stored, g.epoch, g.hash, g.hasTarget, g.targetEpoch, g.targetTime = true, 7, -42, true, 6, 1_700_000_000_000
	g.regexes["lo.*"] = &resolved{topics: []string{"log", "lot"}, version: 5, at: 1_700_000_000_001}
	g.members["m1"] = &consumer{
		id: "m1", instance: &one, rack: &rack, client: Client{ID: "c", Host: "/127.0.0.1"}, topics: []string{"t", "u"}, regex: "lo.*",
		rebalance: 5 * time.Minute, assignor: "range", target: parts{{id, 0}: 0, {id, 3}: 0}, owned: parts{{id, 0}: 4, {id, 2}: 5},
		revoking: parts{{id, 1}: 3}, state: unrevoked, epoch: 6, previous: 5, has: [3]bool{true, true, true},
	}
	g.members["m2"] = &consumer{
		id: "m2", client: Client{}, rebalance: time.Second, state: unreleased, epoch: 7, previous: 7,
		classic: &classicLife{session: 10 * time.Second, protocols: []protocol{{"range", []byte{0, 1}}, {"sticky", []byte{}}}},
		target:  parts{}, owned: parts{}, revoking: parts{}, has: [3]bool{true, true, true},
	}
	return g
}

// TestConsumerRecords holds the records to testdata/consumer_records.golden (Apache Kafka 4.3.1's dump-log reads such
// records from a live log: types 1, 3, 5 to 8), and a replay of them to the group that they were made of.
func TestConsumerRecords(t *testing.T) {
	want := sample()
	rs := newConsumerGroup().difference("g", want)
	var text strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&text, "%d %s %s\n", r.Key[1], hex.EncodeToString(r.Key), hex.EncodeToString(r.Value))
	}
	golden.Match(t, "testdata/consumer_records.golden", text.String())
	s := newStage(t).empty()
	replay := func(rs []record.Record) {
		for _, r := range rs {
			if err := s.Replay(record.Header{}, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	replay(rs)
	if got := s.groups["g"].consumers; !reflect.DeepEqual(got, want) {
		t.Errorf("a replay gives\n%+v\nwant\n%+v", got, want)
	}
	replay(want.erased("g"))
	if s.groups["g"] != nil {
		t.Error("the group is there after the deletion of all its records")
	}
	if rs := want.difference("g", want); len(rs) > 0 {
		t.Errorf("no change gives %d records", len(rs))
	}
}

// TestOtherRecords reads what other releases write: subscribed topics (until 4.0), unknown
// tagged fields, and refuses what it cannot know.
func TestOtherRecords(t *testing.T) {
	s := newStage(t).empty()
	g := sample()
	epoch := g.groupRecord("g")
	topics := record.Record{Key: consumerKey(keyTopics, "g"), Value: append(valueOf(), 1, 0)}
	newer := g.targetEpochRecord("g")
	newer.Value = append(append(valueOf(), 0, 0, 0, 9), 1, 5, 2, 0xab, 0xcd) // tag 5, two bytes
	for _, r := range []record.Record{topics, epoch, newer, {Key: consumerKey(12, "share", "m"), Value: []byte{0, 0, 1}}} {
		if err := s.Replay(record.Header{}, r); err != nil {
			t.Errorf("kind %d: %v", r.Key[1], err)
		}
	}
	if got := s.groups["g"].consumers; got.epoch != 7 || got.hash != -42 || got.targetEpoch != 9 {
		t.Errorf("replayed %+v", got)
	}
	for _, value := range [][]byte{{0}, {0, 1, 0, 0, 0, 7, 0}, {0, 0, 0, 0}} {
		if err := s.Replay(record.Header{}, record.Record{Key: epoch.Key, Value: value}); err == nil {
			t.Errorf("value %x is read", value)
		}
	}
}

// FuzzConsumerRecords holds the reader to reading, without a panic and in memory that its
// input bounds; what it reads it writes again and reads the same.
func FuzzConsumerRecords(f *testing.F) {
	for _, r := range newConsumerGroup().difference("g", sample()) {
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := newShard()
		s.now = time.UnixMilli(1)
		if value == nil || len(key) < 2 || key[0] != 0 || key[1] < keyGroup || s.Replay(record.Header{}, record.Record{Key: key, Value: bytes.Clone(value)}) != nil {
			return
		}
		for id, g := range s.groups {
			if g.consumers == nil {
				continue
			}
			again := newShard()
			for _, r := range newConsumerGroup().difference(id, g.consumers) {
				if err := again.Replay(record.Header{}, r); err != nil {
					t.Fatalf("cannot read what was written: %v", err)
				}
			}
			if h := again.groups[id]; h == nil || !reflect.DeepEqual(h.consumers.members, g.consumers.members) {
				t.Fatalf("written and read again it is another: %x %x", key, value)
			}
		}
	})
}

// FuzzEmbedded holds the readers of what consumers say inside of their requests to the same.
func FuzzEmbedded(f *testing.F) {
	f.Add(subscription("t", "u"))
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = readSubscription(b)
		_, _ = readAssignment(b)
	})
}
