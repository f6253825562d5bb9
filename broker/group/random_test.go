package group

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestRandomLife lets clients do whatever they can think of, in any order, with a journal
// that stalls and fails and a coordinator that is killed. After each step the stage's
// invariants hold; each request is answered once, but for those that a kill cut off; an
// offset that was acknowledged is in the log.
func TestRandomLife(t *testing.T) {
	lives, steps := 300, 400
	if testing.Short() {
		lives = 50
	}
	for seed := range uint64(lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := &life{stage: newStage(t), rand: rand.New(rand.NewPCG(seed, 4711))}
			l.settings.initialDelay = time.Duration(l.rand.IntN(2)) * 3 * time.Second
			l.settings.maxSize = 3 + l.rand.IntN(3)
			for i := range steps {
				l.step()
				l.check()
				if i%16 == 0 {
					l.checkTransactions()
				}
			}
			l.journal("go")
			l.advance(time.Hour)
			l.check()
			if l.open != 0 {
				t.Errorf("%d requests were never answered", l.open)
			}
			l.restart()
			l.check()
			l.checkTransactions()
		})
	}
}

// life is clients that know what they were told last, and sometimes lie.
type life struct {
	*stage
	rand    *rand.Rand
	clients [5]client
	offset  int64
	open    int // requests without an answer
	era     int // kills so far: nobody who asked before one is answered
}

type client struct {
	id         string
	instance   *string
	generation int32
	leads      []string // the members, if it leads
}

func (l *life) chance(percent int) bool { return l.rand.IntN(100) < percent }

func (l *life) group() string { return []string{"g", "g", "g", "h"}[l.rand.IntN(4)] }

// asked counts a request; the func it gives counts its answer.
func (l *life) asked() func() {
	l.open++
	era, answered := l.era, false
	return func() {
		l.t.Helper()
		if answered {
			l.t.Fatal("a request was answered twice")
		}
		if era != l.era {
			l.t.Fatal("a dead coordinator answered")
		}
		answered = true
		l.open--
	}
}

func (l *life) step() {
	c := &l.clients[l.rand.IntN(len(l.clients))]
	switch n := l.rand.IntN(100); {
	case n < 30:
		l.join(c)
	case n < 50:
		l.sync(c)
	case n < 60:
		l.heartbeat(c)
	case n < 70:
		l.commit(c)
	case n < 74:
		l.txnCommit(c)
	case n < 75:
		l.endTxn()
	case n < 79:
		l.leave(c)
	case n < 82:
		l.deleteSomething()
	case n < 92:
		l.advance(time.Duration(l.rand.IntN(7000)) * time.Millisecond)
	case n < 93:
		l.advance(15 * 24 * time.Hour)
	case n < 97:
		l.journal([]string{"hold", "go", "go", "fail"}[l.rand.IntN(4)])
	case n < 98:
		l.deleteTopic("u")
		l.makeTopic("u", 10)
	default:
		l.open, l.era = 0, l.era+1
		l.restart()
	}
}

func (l *life) join(c *client) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID = int16(l.rand.IntN(10)), l.group(), c.id
	if l.chance(10) {
		r.MemberID = ""
	}
	if l.chance(5) {
		c.instance = nil
		if l.chance(70) {
			name := fmt.Sprint("static", l.rand.IntN(3))
			c.instance = &name
		}
	}
	r.InstanceID = c.instance
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = 10_000, int32(5_000*(1+l.rand.IntN(3))), "consumer"
	for _, name := range [][]string{{"range", "sticky"}, {"sticky", "range"}, {"range"}, {"other"}}[min(l.rand.IntN(12), 3)] {
		r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: subscription("t")})
	}
	answered := l.asked()
	l.do(func(s *shard) {
		s.join(Client{ID: "c"}, r, func(resp *kmsg.JoinGroupResponse) {
			answered()
			switch resp.ErrorCode {
			case none, memberIDRequired:
				c.id, c.generation, c.leads = resp.MemberID, resp.Generation, nil
				for _, m := range resp.Members {
					c.leads = append(c.leads, m.MemberID)
				}
			case unknownMember, fencedInstance:
				c.id = ""
			}
		})
	})
}

func (l *life) sync(c *client) {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = l.group(), c.id, c.instance, c.generation
	for _, id := range c.leads {
		r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(id)})
	}
	answered := l.asked()
	l.do(func(s *shard) {
		s.sync(r, func(resp *kmsg.SyncGroupResponse) {
			answered()
			// A static member's share is named after the incarnation that it took over from.
			static := strings.HasPrefix(r.MemberID, "static")
			if a := string(resp.MemberAssignment); resp.ErrorCode == none && a != "" && !static && a != r.MemberID {
				l.t.Fatalf("member %s was given what is for %s", r.MemberID, a)
			}
		})
	})
}

func (l *life) heartbeat(c *client) {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = l.group(), c.id, c.instance, c.generation
	l.do(func(s *shard) { s.heartbeat(r, func(code) {}) })
}

func (l *life) commit(c *client) {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.Generation = 9, l.group(), -1
	if l.chance(80) {
		r.MemberID, r.InstanceID, r.Generation = c.id, c.instance, c.generation
	}
	l.offset++
	at := topic.Partition{Topic: []string{"t", "u"}[l.rand.IntN(2)], Partition: int32(l.rand.IntN(3))}
	o := l.offset
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: at.Topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: at.Partition, Offset: o}}}}
	answered := l.asked()
	l.do(func(s *shard) {
		s.commit(r, func(resp *kmsg.OffsetCommitResponse) {
			answered()
			if resp.Topics[0].Partitions[0].ErrorCode == none && l.replayed().groups[r.Group].offsets[at].at != o {
				l.t.Fatalf("offset %d of %s was acknowledged and is not in the log", o, at)
			}
		})
	})
}

// txnCommit commits in the transaction of one of three producers, whose coordinator answers
// at once, later or with an error.
func (l *life) txnCommit(c *client) {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.Version, r.Group, r.Generation = 5, l.group(), -1
	r.ProducerID, r.ProducerEpoch = int64(l.rand.IntN(3)), int16(l.rand.IntN(2))
	if l.chance(50) {
		r.MemberID, r.InstanceID, r.Generation = c.id, c.instance, c.generation
	}
	l.offset++
	p := kmsg.TxnOffsetCommitRequestTopicPartition{Partition: int32(l.rand.IntN(3)), Offset: l.offset}
	r.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: []string{"t", "u"}[l.rand.IntN(2)], Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	answered := l.asked()
	verify := func(_ topic.Partition, answer func(int16)) {
		if l.chance(30) {
			l.endTxn() // between the question and the answer
		}
		answer([]code{none, none, none, notAvailable}[l.rand.IntN(4)])
	}
	l.do(func(s *shard) {
		s.verifyCommit(r, verify, func(*kmsg.TxnOffsetCommitResponse) { answered() }, mostVerifications)
	})
}

func (l *life) endTxn() {
	m := record.Marker{ProducerID: int64(l.rand.IntN(3)), ProducerEpoch: 1, Commit: l.chance(60)}
	answered := l.asked()
	l.do(func(s *shard) { s.writeMarker(m, func(error) { answered() }) })
}

func (l *life) leave(c *client) {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group = 5, l.group()
	r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: c.id, InstanceID: c.instance}}
	l.do(func(s *shard) { s.leave(r, func(*kmsg.LeaveGroupResponse) {}) })
}

func (l *life) deleteSomething() {
	answered := l.asked()
	id := l.group()
	l.do(func(s *shard) {
		if l.chance(50) {
			s.deleteGroup(id, func(code) { answered() })
			return
		}
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = id
		r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		s.deleteOffsets(r, func(*kmsg.OffsetDeleteResponse) { answered() })
	})
}
