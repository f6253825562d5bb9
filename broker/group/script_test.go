package group

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestScripts plays testdata/*.txt. Each file has its own shard; every command is a method of
// script.
func TestScripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, text string) string {
		s := &script{t: t, stage: newStage(t)}
		return golden.Blocks(text, func(command string) string {
			s.printed.Reset()
			s.line(command)
			s.check()
			s.checkTransactions()
			return s.printed.String()
		})
	})
}

// script turns command lines into requests and answers into lines.
type script struct {
	t *testing.T
	*stage
	printed  strings.Builder
	verdicts []func(code) // that are awaited
	words    []string
	options  map[string]string
}

func (s *script) print(format string, args ...any) { fmt.Fprintf(&s.printed, format+"\n", args...) }

func (s *script) option(name, otherwise string) string {
	if v, ok := s.options[name]; ok {
		return v
	}
	return otherwise
}

func (s *script) optional(name string) *string {
	if v, ok := s.options[name]; ok {
		return &v
	}
	return nil
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) version(latest int16) int16 {
	return int16(s.number(s.option("v", strconv.Itoa(int(latest)))))
}

func (s *script) word(i int) string {
	if i >= len(s.words) {
		s.t.Fatalf("too few words: %q", s.words)
	}
	return s.words[i]
}

func named(c code) string {
	if c == none {
		return "ok"
	}
	return kerr.TypedErrorForCode(c).Message
}

func (s *script) line(line string) {
	s.words, s.options = nil, make(map[string]string)
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok && !strings.Contains(k, "/") {
			s.options[k] = v
		} else {
			s.words = append(s.words, w)
		}
	}
	command := map[string]func(){
		"join": s.join, "sync": s.sync, "heartbeat": s.heartbeat, "leave": s.leave,
		"commit": s.commit, "txncommit": s.txncommit, "verdict": s.verdict, "marker": s.marker, "fetch": s.fetch, "delete-offsets": s.deleteOffsets,
		"chb": s.consumerHeartbeat, "cgroup": s.consumerGroup, "cdescribe": s.consumerDescribe,
		"topic":    func() { s.makeTopic(s.word(1), int32(s.number(s.word(2)))) },
		"settings": func() { s.own = s.options },
		"delete":   s.delete, "describe": s.describe, "list": s.list, "log": s.log,
		"advance":      func() { s.advance(s.duration(s.word(1))) },
		"journal":      func() { s.journal(s.word(1)) },
		"restart":      s.restart,
		"limits":       s.limit,
		"delete-topic": func() { s.deleteTopic(s.word(1)) },
		"lose-topic":   func() { s.loseTopic(s.word(1)) }, // deleted while nobody looked
	}[s.words[0]]
	if command == nil {
		s.t.Fatalf("no command %q", s.words[0])
	}
	command()
}

func (s *script) limit() {
	for name, text := range s.options {
		switch name {
		case "delay":
			s.settings.initialDelay = s.duration(text)
		case "consumers":
			s.settings.consumer.maxSize = int(s.number(text))
		case "policy":
			s.settings.consumer.upgrade = text == "upgrade" || text == "bidirectional"
			s.settings.consumer.downgrade = text == "downgrade" || text == "bidirectional"
		case "size":
			s.settings.maxSize = int(s.number(text))
		case "metadata":
			s.settings.offsetMetadata = int(s.number(text))
		case "retention":
			s.settings.retention = s.duration(text)
		default:
			s.t.Fatalf("no limit %q", name)
		}
	}
}

func (s *script) group() string { return s.option("group", "g") }

func (s *script) join() {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID = s.version(9), s.group(), s.option("id", ""), s.optional("instance")
	r.SessionTimeoutMillis = int32(s.duration(s.option("session", "10s")).Milliseconds())
	r.RebalanceTimeoutMillis = int32(s.duration(s.option("rebalance", "60s")).Milliseconds())
	r.ProtocolType = s.option("type", "consumer")
	for _, p := range strings.Split(s.option("protocols", "range:t"), ",") {
		name, topics, _ := strings.Cut(p, ":")
		jp := kmsg.NewJoinGroupRequestProtocol()
		jp.Name, jp.Metadata = name, subscription(strings.Split(topics, "+")...)
		r.Protocols = append(r.Protocols, jp)
	}
	label := s.word(1)
	s.do(func(sh *shard) {
		sh.join(Client{ID: s.option("client", "c"), Host: "/127.0.0.1"}, r, func(resp *kmsg.JoinGroupResponse) {
			s.print("%s: %s", label, joinText(resp))
		})
	})
}

func joinText(r *kmsg.JoinGroupResponse) string {
	if r.ErrorCode != none {
		return fmt.Sprintf("%s id=%s generation=%d", named(r.ErrorCode), r.MemberID, r.Generation)
	}
	text := fmt.Sprintf("joined id=%s generation=%d protocol=%s/%s leader=%s", r.MemberID, r.Generation, *r.ProtocolType, *r.Protocol, r.LeaderID)
	if r.SkipAssignment {
		text += " skip-assignment"
	}
	for _, m := range r.Members {
		topics, _ := subscribedTopics(m.ProtocolMetadata)
		text += fmt.Sprintf(" [%s %s]", m.MemberID, strings.Join(topics, "+"))
	}
	return text
}

// subscription is what a consumer says of its topics.
func subscription(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = topics
	return m.AppendTo(nil)
}

func (s *script) sync() {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID = s.version(5), s.group(), s.word(2), s.optional("instance")
	r.Generation = int32(s.number(s.word(3)))
	r.ProtocolType, r.Protocol = s.optional("type"), s.optional("protocol")
	if text, ok := s.options["assign"]; ok {
		for _, a := range strings.Split(text, ",") {
			id, what, _ := strings.Cut(a, ":")
			sa := kmsg.NewSyncGroupRequestGroupAssignment()
			sa.MemberID, sa.MemberAssignment = id, []byte(what)
			if named, ok := strings.CutPrefix(what, "@"); ok {
				sa.MemberAssignment = s.view.embed(s.parts(named), 1)
			}
			r.GroupAssignment = append(r.GroupAssignment, sa)
		}
	}
	label := s.word(1)
	s.do(func(sh *shard) {
		sh.sync(r, func(resp *kmsg.SyncGroupResponse) {
			if resp.ErrorCode != none {
				s.print("%s: %s", label, named(resp.ErrorCode))
				return
			}
			s.print("%s: assigned %s protocol=%s/%s", label, s.assigned(resp.MemberAssignment), *resp.ProtocolType, *resp.Protocol)
		})
	})
}

func (s *script) heartbeat() {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.MemberID, r.InstanceID = s.group(), s.word(1), s.optional("instance")
	r.Generation = int32(s.number(s.word(2)))
	s.do(func(sh *shard) { sh.heartbeat(r, func(c code) { s.print("%s: %s", r.MemberID, named(c)) }) })
}

func (s *script) leave() {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group = s.version(5), s.group()
	words := s.words[1:]
	if r.Version < 3 {
		r.MemberID = s.word(1)
	} else {
		for _, w := range s.words[1:] {
			m := kmsg.NewLeaveGroupRequestMember()
			id, instance, static := strings.Cut(w, "/")
			m.MemberID = id
			if static {
				m.InstanceID = &instance
			}
			r.Members = append(r.Members, m)
		}
	}
	s.do(func(sh *shard) {
		sh.leave(r, func(resp *kmsg.LeaveGroupResponse) {
			s.print("left: %s", named(resp.ErrorCode))
			for i, m := range resp.Members {
				s.print("  %s: %s", words[i], named(m.ErrorCode))
			}
		})
	})
}

func (s *script) partitions(words []string, each func(topic string, partition int32, value string)) {
	for _, w := range words {
		at, value, _ := strings.Cut(w, "=")
		name, n, _ := strings.Cut(at, "/")
		each(name, int32(s.number(n)), value)
	}
}

func (s *script) commit() {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID = s.version(9), s.group(), s.option("id", ""), s.optional("instance")
	r.Generation = int32(s.number(s.option("generation", "-1")))
	r.RetentionTimeMillis = -1
	if keep, ok := s.options["keep"]; ok {
		r.RetentionTimeMillis = s.duration(keep).Milliseconds()
	}
	s.partitions(s.words[2:], func(name string, n int32, value string) {
		t := kmsg.NewOffsetCommitRequestTopic()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition, p.Offset, p.LeaderEpoch = name, n, s.number(value), 3
		p.Timestamp = -1
		p.Metadata = s.optional("metadata")
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
	})
	label := s.word(1)
	s.do(func(sh *shard) {
		sh.commit(r, func(resp *kmsg.OffsetCommitResponse) {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					s.print("%s: %s/%d %s", label, t.Topic, p.Partition, named(p.ErrorCode))
				}
			}
		})
	})
}

// txncommit LABEL producer=ID epoch=N TOPIC/PARTITION=OFFSET... asks the transaction's
// coordinator, which answers as verdict says ("later": at the command verdict).
func (s *script) txncommit() {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID = s.version(5), s.group(), s.option("id", ""), s.optional("instance")
	r.Generation = int32(s.number(s.option("generation", "-1")))
	r.ProducerID, r.ProducerEpoch = s.number(s.option("producer", "7")), int16(s.number(s.option("epoch", "0")))
	s.partitions(s.words[2:], func(name string, n int32, value string) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition, p.Offset, p.LeaderEpoch = name, n, s.number(value), 3
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
	})
	label, verdict := s.word(1), s.option("verdict", "NONE")
	verify := func(p topic.Partition, answer func(int16)) {
		s.print("%s: verify %s", label, p)
		if verdict == "later" {
			s.verdicts = append(s.verdicts, answer)
			return
		}
		answer(codeNamed(s.t, verdict))
	}
	s.do(func(sh *shard) {
		sh.verifyCommit(r, verify, func(resp *kmsg.TxnOffsetCommitResponse) {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					s.print("%s: %s/%d %s", label, t.Topic, p.Partition, named(p.ErrorCode))
				}
			}
		}, mostVerifications)
	})
}

// verdict CODE lets the coordinator answer the oldest question.
func (s *script) verdict() {
	answer := s.verdicts[0]
	s.verdicts = s.verdicts[1:]
	answer(codeNamed(s.t, s.word(1)))
}

// marker commit|abort producer=ID epoch=N ends a transaction.
func (s *script) marker() {
	m := record.Marker{
		ProducerID: s.number(s.option("producer", "7")), ProducerEpoch: int16(s.number(s.option("epoch", "0"))),
		Commit: s.word(1) == "commit",
	}
	s.do(func(sh *shard) {
		sh.writeMarker(m, func(err error) { s.print("marker: %v", err) })
	})
}

// codeNamed gives the code of a Kafka error's name.
func codeNamed(t *testing.T, name string) code {
	if name == "NONE" {
		return none
	}
	for c := range code(200) {
		if err := kerr.TypedErrorForCode(c); err != nil && err.Message == name {
			return c
		}
	}
	t.Fatalf("no error %q", name)
	return none
}

func (s *script) fetch() {
	var topics []kmsg.OffsetFetchRequestGroupTopic
	s.partitions(s.words[1:], func(name string, n int32, _ string) {
		topics = append(topics, kmsg.OffsetFetchRequestGroupTopic{Topic: name, Partitions: []int32{n}})
	})
	s.do(func(sh *shard) {
		who := fetcher{epoch: -1}
		if id := s.optional("id"); id != nil {
			who = fetcher{id, int32(s.number(s.option("epoch", "-1")))}
		}
		if c := sh.mayFetch(s.group(), who); c != none {
			s.print("%s", named(c))
			return
		}
		for _, t := range sh.fetch(s.group(), topics, s.option("stable", "") != "") {
			for _, p := range t.Partitions {
				if p.ErrorCode != none {
					s.print("%s/%d %s", t.Topic, p.Partition, named(p.ErrorCode))
					continue
				}
				s.print("%s/%d at %d epoch %d %q", t.Topic, p.Partition, p.Offset, p.LeaderEpoch, *p.Metadata)
			}
		}
	})
}

func (s *script) deleteOffsets() {
	r := kmsg.NewPtrOffsetDeleteRequest()
	r.Group = s.group()
	s.partitions(s.words[1:], func(name string, n int32, _ string) {
		r.Topics = append(r.Topics, kmsg.OffsetDeleteRequestTopic{Topic: name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: n}}})
	})
	s.do(func(sh *shard) {
		sh.deleteOffsets(r, func(resp *kmsg.OffsetDeleteResponse) {
			s.print("deleted: %s", named(resp.ErrorCode))
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					s.print("  %s/%d %s", t.Topic, p.Partition, named(p.ErrorCode))
				}
			}
		})
	})
}

func (s *script) delete() {
	id := s.group()
	s.do(func(sh *shard) { sh.deleteGroup(id, func(c code) { s.print("deleted: %s", named(c)) }) })
}

func (s *script) describe() {
	s.do(func(sh *shard) {
		g := sh.describe(s.group(), s.version(6), s.option("operations", "") != "")
		if g.ErrorCode != none {
			s.print("%s: %s", g.Group, named(g.ErrorCode))
			return
		}
		s.print("%s: %s type=%q protocol=%q", g.Group, g.State, g.ProtocolType, g.Protocol)
		if g.AuthorizedOperations != math.MinInt32 {
			s.print("  operations %b", g.AuthorizedOperations)
		}
		for _, m := range g.Members {
			topics, _ := subscribedTopics(m.ProtocolMetadata)
			instance := ""
			if m.InstanceID != nil {
				instance = " instance=" + *m.InstanceID
			}
			s.print("  %s%s %s%s %q %q", m.MemberID, instance, m.ClientID, m.ClientHost, strings.Join(topics, "+"), m.MemberAssignment)
		}
	})
}

func (s *script) list() {
	filter := func(name string) []string {
		if text := s.option(name, ""); text != "" {
			return strings.Split(text, ",")
		}
		return nil
	}
	s.do(func(sh *shard) {
		for _, g := range sh.list(filter("states"), filter("types")) {
			s.print("%s %s %s %q", g.Group, g.GroupState, g.GroupType, g.ProtocolType)
		}
	})
}

// log prints what a replay of the log gives.
func (s *script) log() {
	sh := s.replayed()
	for _, id := range slices.Sorted(maps.Keys(sh.groups)) {
		g := sh.groups[id]
		s.print("%s: %s", id, storedText(g.stored))
		for _, p := range slices.SortedFunc(maps.Keys(g.offsets), comparePartitions) {
			s.print("  %s at %d", p, g.offsets[p].at)
		}
		for _, producer := range slices.Sorted(maps.Keys(g.pending)) {
			for _, p := range slices.SortedFunc(maps.Keys(g.pending[producer]), comparePartitions) {
				s.print("  %s at %d if producer %d commits", p, g.pending[producer][p].at, producer)
			}
		}
	}
}

func storedText(v *kmsg.GroupMetadataValue) string {
	if v == nil {
		return "no members ever"
	}
	text := fmt.Sprintf("%q generation %d", v.ProtocolType, v.Generation)
	if v.Protocol != nil {
		text += " protocol " + *v.Protocol
	}
	if v.Leader != nil {
		text += " leader " + *v.Leader
	}
	for _, m := range v.Members {
		text += fmt.Sprintf(" [%s %q]", m.MemberID, m.Assignment)
	}
	return text
}
