package group

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// limits are the settings that groups obey.
type limits struct {
	minSession, maxSession time.Duration
	initialDelay           time.Duration
	maxSize                int
	offsetMetadata         int // bytes
	retention              time.Duration
	expiryInterval         time.Duration
	commitTimeout          time.Duration // how long a client waits for its offsets to be committed
	consumer               consumerLimits
}

// Times that no setting names.
const (
	// freshTimeout is how long a member may wait for its first rebalance: its client cannot
	// send heartbeats, so nothing else tells that it has gone. Source: Kafka.
	freshTimeout = 5 * time.Minute
)

// mostPromises bounds the member IDs of a shard that were given out and are not used yet.
// Why: they cost a client one small request, and last as long as the session that it names.
const mostPromises = 10_000

// shard is the groups of one __consumer_offsets partition: a state machine. It has neither
// clock nor goroutine nor lock; whoever calls it sets now, and runs what is in out when it
// has let go of every lock.
type shard struct {
	now    time.Time
	out    []func()
	alarms alarms
	groups map[string]*group
	// promises counts the member IDs given out that have not joined yet, over all groups.
	promises int
	open     map[int64]*openTxn // by producer ID
	guards   map[*guard]bool

	limits func() limits
	newID  func() string
	topics func() *topics // those that there are now
	// settings gives what was set for one group.
	settings func(group string) map[string]string
	// append hands an entry to the journal; its Done comes after it was replayed, or with an error.
	append func(journal.Entry) error
	// reenter runs f on the shard that serves the partition now, or tells why none does. It is
	// called from outside of the shard.
	reenter   func(f func(*shard)) code
	partition int32 // of __consumer_offsets
	logger    *slog.Logger

	expiry alarm
}

// exists tells whether the metadata know a partition.
func (s *shard) exists(p topic.Partition) bool { return s.topics().has(p) }

// group is one group.
//
// Its offsets, pending, stored and consumers are what a replay of the log gives; the rest runs ahead
// of the log and is made from stored after a restart. A group of the new protocol has
// consumers, and of what follows only the first block; as a classic group it is empty.
type group struct {
	id        string
	offsets   map[topic.Partition]offset
	pending   map[int64]map[topic.Partition]offset // by producer ID: in transactions that are open
	stored    *kmsg.GroupMetadataValue             // nil: never stored, or deleted
	consumers *consumerGroup                       // nil: the group is not of the new protocol

	turns   []*turn // who waits to change a group of the new protocol
	busy    bool    // a change of it is being written
	working bool    // somebody has its turn
	// lingers says that a client deleted the group's last offset: the group is there, empty,
	// until offsets are looked at for expiry. Source: Kafka; tools that delete offsets and
	// then the group rely on it.
	lingers bool
	pulses  map[string]*pulse // by member ID
	seen    int64             // version of the topics that it was last looked at with

	state        state
	since        int64 // ms; when it became stable or empty, as stored
	protocolType string
	protocol     string
	generation   int32
	leader       string
	members      map[string]*member
	static       map[string]*member // by instance
	promised     map[string]*alarm  // member IDs given out that have not joined yet (KIP-394)
	joins        int                // members that ever joined; gives each its place

	deadline  alarm         // of the rebalance or of the assignment
	gathering bool          // the first rebalance waits for more members
	grew      bool          // ... and one came since the last look
	remaining time.Duration // ... and this is how long it may still wait
	assigning bool          // the leader's assignment is being written

	writing    int                     // entries in the journal
	committing map[topic.Partition]int // offsets in them
}

// offset is one committed offset.
type offset struct {
	at        int64
	epoch     int32 // -1: not said
	metadata  string
	committed int64         // ms
	expires   int64         // ms; -1: as the broker's retention says
	record    record.Offset // where it lies in the log
}

func newShard() *shard {
	return &shard{groups: make(map[string]*group), open: make(map[int64]*openTxn), guards: make(map[*guard]bool)}
}

// group finds or makes a group.
func (s *shard) group(id string) *group {
	g := s.groups[id]
	if g == nil {
		g = &group{
			id:         id,
			offsets:    make(map[topic.Partition]offset),
			pending:    make(map[int64]map[topic.Partition]offset),
			members:    make(map[string]*member),
			static:     make(map[string]*member),
			promised:   make(map[string]*alarm),
			pulses:     make(map[string]*pulse),
			committing: make(map[topic.Partition]int),
			since:      -1,
		}
		s.groups[id] = g
	}
	return g
}

// forget lets go of a group of which nothing is left, neither in the log nor alive.
func (s *shard) forget(g *group) {
	if g.stored == nil && !g.ofConsumers() && !g.working && !g.lingers && len(g.offsets) == 0 && len(g.pending) == 0 && g.writing == 0 && len(g.members) == 0 && len(g.promised) == 0 &&
		(g.state == empty || g.state == dead) {
		s.alarms.off(&g.deadline)
		delete(s.groups, g.id)
	}
}

// later puts off what must not run under the shard's lock.
func (s *shard) later(f func()) { s.out = append(s.out, f) }

// Enter brings the present time.
func (s *shard) Enter(now time.Time) { s.now = now }

// Take gives what was put off.
func (s *shard) Take() []func() {
	out := s.out
	s.out = nil
	return out
}

// Next tells when something is due.
func (s *shard) Next() (time.Time, bool) { return s.alarms.next() }

// Ring lets everything happen that is due.
func (s *shard) Ring() {
	for fire := s.alarms.ring(s.now); fire != nil; fire = s.alarms.ring(s.now) {
		fire()
	}
}

var _ journal.Shard = (*shard)(nil)

// write appends records of a group, in a producer's transaction or (nil) not. done gets none after they are committed and replayed,
// else why they may not be there; it may come before write returns.
func (s *shard) write(g *group, by *journal.Producer, rs []record.Record, done func(code)) {
	g.writing++
	err := s.append(journal.Entry{Records: rs, Producer: by, Done: func(err error) {
		g.writing--
		done(codeOf(err))
		s.forget(g)
	}})
	if err != nil {
		g.writing--
		done(codeOf(err))
		s.forget(g)
	}
}

// answerOnce gives a func that answers with the first code it hears, and with a time-out
// when it hears none. Why: the records may still be committed later, and then they count;
// only the client does not wait for it.
func (s *shard) answerOnce(answer func(code)) func(code) {
	var late alarm
	answered := false
	once := func(c code) {
		if !answered {
			answered = true
			s.alarms.off(&late)
			answer(c)
		}
	}
	s.alarms.set(&late, s.now.Add(s.limits().commitTimeout), func() { once(timedOut) })
	return once
}

// everybody gives the members in the order in which they joined.
func (g *group) everybody() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return cmp.Compare(a.joined, b.joined) })
}

// Resign fails everybody who waits: the partition is led elsewhere, or its journal ended.
func (s *shard) Resign() {
	for _, g := range s.groups {
		for _, m := range g.everybody() {
			s.answerJoin(m, joinRefused(m.id, notCoordinator))
			s.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: notCoordinator})
		}
		s.failTurns(g, notCoordinator)
	}
	for _, a := range s.alarms {
		a.at = 0
	}
	s.alarms, s.groups, s.promises = nil, make(map[string]*group), 0
	s.open, s.guards = make(map[int64]*openTxn), make(map[*guard]bool)
}
