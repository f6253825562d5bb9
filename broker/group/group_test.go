package group

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Records are Kafka's, byte by byte.
func TestRecordBytes(t *testing.T) {
	at := topic.Partition{Topic: "t", Partition: 2}
	plain := offsetRecord("g", at, offset{at: 5, epoch: 3, metadata: "m", committed: 1000, expires: -1})
	keeps := offsetRecord("g", at, offset{at: 5, epoch: 3, metadata: "m", committed: 1000, expires: 2000})
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"key of an offset", plain.Key, "0001" + "000167" + "000174" + "00000002"},
		{"offset", plain.Value, "0003" + "0000000000000005" + "00000003" + "00016d" + "00000000000003e8"},
		{"offset with expiry", keeps.Value, "0001" + "0000000000000005" + "00016d" + "00000000000003e8" + "00000000000007d0"},
		{"key of a group", groupKey("g"), "0002" + "000167"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", c.what, got, c.want)
		}
	}
	g := (&shard{groups: make(map[string]*group)}).group("g")
	g.protocolType, g.protocol, g.generation, g.leader, g.since = "c", "r", 7, "m", 9
	instance := "i"
	g.members["m"] = &member{
		id: "m", instance: &instance, client: Client{"x", "/h"}, session: 1e9, rebalance: 2e9,
		protocols: []protocol{{"q", []byte("no")}, {"r", []byte("s")}}, assignment: []byte("a"),
	}
	want := "0003" + "000163" + "00000007" + "000172" + "00016d" + "0000000000000009" + "00000001" +
		"00016d" + "000169" + "000178" + "00022f68" + "000007d0" + "000003e8" + "0000000173" + "0000000161"
	if got := hex.EncodeToString(g.value().AppendTo(nil)); got != want {
		t.Errorf("group is\n%s, want\n%s", got, want)
	}
}

// A request's strings and bytes live in a frame that is used again; what is kept of them
// must not change with it.
func TestNothingOfTheFrameIsKept(t *testing.T) {
	frame := []byte("gcmrangeabcdefgt")
	word := func(from, to int) string { return unsafe.String(&frame[from], to-from) }
	st := newStage(t)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.SessionTimeoutMillis, join.ProtocolType = 3, word(0, 1), 10_000, word(7, 8)
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: word(3, 8), Metadata: frame[8:9]}}
	instance := word(9, 10)
	join.InstanceID = &instance
	st.do(func(s *shard) {
		s.join(Client{ID: word(1, 2), Host: word(2, 3)}, join, func(*kmsg.JoinGroupResponse) {})
	})
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", "a-1", 1
	for id := range st.shard.groups["g"].members {
		sync.MemberID = id
	}
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: sync.MemberID, MemberAssignment: frame[10:12]}}
	st.do(func(s *shard) { s.sync(sync, func(*kmsg.SyncGroupResponse) {}) })
	commit := kmsg.NewPtrOffsetCommitRequest()
	metadata := word(12, 14)
	commit.Group, commit.Generation = "other", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: word(15, 16), Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Metadata: &metadata}}}}
	st.do(func(s *shard) { s.commit(commit, func(*kmsg.OffsetCommitResponse) {}) })

	before := st.shard.groups["g"].value().AppendTo(nil)
	for i := range frame {
		frame[i] = '#'
	}
	if after := st.shard.groups["g"].value().AppendTo(nil); !bytes.Equal(before, after) {
		t.Errorf("group changed with the frame from\n%q to\n%q", before, after)
	}
	if o, ok := st.shard.groups["other"].offsets[topic.Partition{Topic: "t"}]; !ok || o.metadata != "ef" {
		t.Errorf("offset changed with the frame: %+v, %v", o, ok)
	}
	st.check()
	if _, ok := st.shard.groups["g"].static["b"]; !ok {
		t.Error("the static member's name changed with the frame")
	}
}

func TestReplayRefusesWhatItDoesNotKnow(t *testing.T) {
	s := newStage(t).shard
	later := offsetRecord("g", topic.Partition{Topic: "t"}, offset{})
	later.Value[1] = 9
	if err := s.Replay(record.Header{}, later); err == nil {
		t.Error("an offset of version 9 is read")
	}
	later.Key = []byte{0, 40, 1}
	if err := s.Replay(record.Header{}, later); err != nil {
		t.Errorf("a later kind of record is not skipped: %v", err)
	}
	cut := offsetRecord("g", topic.Partition{Topic: "t"}, offset{})
	cut.Value = cut.Value[:7]
	if err := s.Replay(record.Header{}, cut); err == nil {
		t.Error("half an offset is read")
	}
	cut.Key = nil
	if err := s.Replay(record.Header{}, cut); err == nil {
		t.Error("a record without a key is read")
	}
}

func TestPromisesAreBounded(t *testing.T) {
	st := newStage(t)
	join := func(group string) (got code) {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.SessionTimeoutMillis, r.ProtocolType = 9, group, 10_000, "consumer"
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		st.do(func(s *shard) {
			s.join(Client{}, r, func(resp *kmsg.JoinGroupResponse) { got = resp.ErrorCode })
		})
		return got
	}
	for i := range mostPromises {
		if c := join(strconv.Itoa(i)); c != memberIDRequired {
			t.Fatalf("join %d gives %s", i, named(c))
		}
	}
	if c := join("one more"); c != notAvailable {
		t.Errorf("one join too many gives %s", named(c))
	}
	st.check()
	st.advance(time.Minute)
	if n := len(st.shard.groups); n != 0 {
		t.Errorf("%d groups are left of promises that were not used", n)
	}
	if c := join("one more"); c != memberIDRequired {
		t.Errorf("a join after that gives %s", named(c))
	}
	st.check()
}

func FuzzSubscribedTopics(f *testing.F) {
	f.Add(subscription("t", "topic"))
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0xff, 0xff})
	f.Add([]byte{0, 3, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := subscribedTopics(b)
		if !ok {
			return
		}
		size := 6
		for _, name := range got {
			size += 2 + len(name)
		}
		if size > len(b) {
			t.Errorf("%d bytes gave topics of %d bytes", len(b), size)
		}
		// What was read reads the same when written again.
		again, ok := subscribedTopics(append(subscriptionPrefix(got), b[size:]...))
		if !ok || !slices.Equal(got, again) {
			t.Errorf("topics %q read again are %q", got, again)
		}
	})
}

func subscriptionPrefix(topics []string) []byte {
	b := []byte{0, 0, byte(len(topics) >> 24), byte(len(topics) >> 16), byte(len(topics) >> 8), byte(len(topics))}
	for _, name := range topics {
		b = append(b, byte(len(name)>>8), byte(len(name)))
		b = append(b, name...)
	}
	return b
}
