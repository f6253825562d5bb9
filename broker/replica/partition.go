package replica

import (
	"container/heap"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// localLog is what a partition needs of its log on disk; see storage.Log for what each
// method promises.
type localLog interface {
	Append(b []byte, a storage.Append) (storage.Appended, error)
	Read(from record.Offset, max int, limit record.Offset, minOne bool) (storage.Slice, error)
	ReadCommitted(from record.Offset, max int, limit record.Offset, minOne bool) (storage.Slice, []storage.Aborted, error)
	LastStable(high record.Offset) record.Offset
	Ticket(h record.Header, now int64) (t storage.Ticket, begins bool)
	Bytes(from, limit record.Offset, max int) int
	Dir() string
	Err() error
	Start() record.Offset
	End() record.Offset
	Durable() record.Offset
	Notify(f func())
	SetHighWatermark(o record.Offset)
	HighWatermark() record.Offset
	BeginEpoch(e record.Epoch) error
	LastEpoch() record.Epoch
	DeleteBefore(o record.Offset) (record.Offset, error)
	Reconfigure(c storage.LogConfig)
	EpochAt(o record.Offset) record.Epoch
	EndOf(e record.Epoch) (record.Epoch, record.Offset)
	Truncate(to record.Offset) error
	Reset(to record.Offset) error
}

var _ localLog = (*storage.Log)(nil)

// Partition is this broker's replica of one partition and what it knows of the others.
// All methods are safe for concurrent use.
type Partition struct {
	name      topic.Partition
	id        topic.ID
	self      metadata.BrokerID
	log       localLog
	stats     *stats.Topic
	deadlines *deadlines
	now       func() time.Time
	cluster   *cluster
	alterer   *alterer // nil: in-sync sets are not changed from here
	numbers   numbers
	logger    *slog.Logger
	flaws     flaws

	settings atomic.Pointer[settings]
	hw       atomic.Int64 // a copy of the high watermark for readers; written under mu
	tails    atomic.Int32 // how many are in mu.tails

	// role excludes appends from a change of leadership: an append that saw the old epoch
	// must be in the log before the new one begins.
	role sync.RWMutex

	mu struct {
		sync.Mutex
		gone     error // why nothing works any more: ErrUnknownPartition or storage.ErrOffline
		leader   metadata.BrokerID
		epoch    record.Epoch
		lead     *leadership // nil: not the leader
		waitHW   waitHeap    // acks=all
		waitDisk waitHeap    // acks=1
		watchers watchers
		tails    watchers // followers that wait for an append

		partitionEpoch int32     // of the in-sync set in lead
		change         *change   // of the in-sync set, on its way to the controller
		noChange       time.Time // none is proposed before
		deletes        []deletion
		durable        func() // told when more of a follower's log is durable

		resigned time.Time     // when this broker led last
		turn     chan struct{} // closed at the next change of role; nil: nobody waits
	}
}

// Rules are those of a topic's settings that each batch is held to, read out of their texts.
type Rules struct {
	MaxBytes      int64 // of a batch: max.message.bytes
	Compact       bool  // cleanup.policy has it: records need keys
	LogAppendTime bool  // message.timestamp.type
	// MaxBefore and MaxAfter are how far a timestamp may lie from now, ms.
	MaxBefore, MaxAfter int64
	Compression         string // compression.type
}

// settings are a topic's effective settings with those that each append asks for read
// out; the partitions of a topic share them.
type settings struct {
	values    *config.Values
	minInSync int
	rules     Rules
}

func readSettings(v *config.Values) *settings {
	return &settings{
		values:    v,
		minInSync: int(v.Int("min.insync.replicas")),
		rules: Rules{
			MaxBytes:      v.Int("max.message.bytes"),
			Compact:       slices.Contains(v.List("cleanup.policy"), "compact"),
			LogAppendTime: v.String("message.timestamp.type") == "LogAppendTime",
			MaxBefore:     v.Int("message.timestamp.before.max.ms"),
			MaxAfter:      v.Int("message.timestamp.after.max.ms"),
			Compression:   v.String("compression.type"),
		},
	}
}

// newPartition makes a follower's replica that follows nobody yet.
func newPartition(s *Set, name topic.Partition, id topic.ID, log localLog, set *settings) *Partition {
	p := &Partition{
		name: name, id: id, self: s.o.Node, log: log,
		stats: s.counters.Topic(name.Topic), deadlines: s.deadlines, now: s.o.Now,
		cluster: s.cluster, alterer: s.alterer, numbers: s.o.Stats, logger: s.o.Logger, flaws: s.flaws,
	}
	p.settings.Store(set)
	p.mu.leader, p.mu.epoch = metadata.NoBroker, -1
	// The checkpoint may lie behind (it is written now and then) or, after a torn tail was
	// cut, ahead of what is left.
	p.hw.Store(int64(min(max(log.HighWatermark(), log.Start()), log.End())))
	log.Notify(p.advance)
	return p
}

// Name gives topic and number.
func (p *Partition) Name() topic.Partition { return p.name }

// TopicID gives the topic's ID.
func (p *Partition) TopicID() topic.ID { return p.id }

// Stats gives the counters of the partition's topic.
func (p *Partition) Stats() *stats.Topic { return p.stats }

// Settings gives the topic's effective settings of now (max.message.bytes,
// message.timestamp.type, cleanup.policy ...).
func (p *Partition) Settings() *config.Values { return p.settings.Load().values }

// Rules gives what each batch is held to now.
func (p *Partition) Rules() *Rules { return &p.settings.Load().rules }

// Log gives the log itself, for what only the log knows.
func (p *Partition) Log() *storage.Log {
	log, ok := p.log.(*storage.Log)
	if !ok {
		panic("BUG: partition " + p.name.String() + " stands on another log than storage's")
	}
	return log
}

// Leader tells leader and epoch as this broker knows them.
func (p *Partition) Leader() (metadata.BrokerID, record.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.leader, p.mu.epoch
}

// CheckLeader tells whether a client that believes in this leader epoch (-1: it did not
// say) may be served here (R3).
//
// Errors: ErrFencedEpoch, ErrUnknownEpoch, ErrNotLeader, ErrUnknownPartition, storage.ErrOffline.
func (p *Partition) CheckLeader(epoch record.Epoch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkLeaderLocked(epoch)
}

func (p *Partition) checkLeaderLocked(epoch record.Epoch) error {
	switch {
	case p.mu.gone != nil:
		return p.mu.gone
	case epoch >= 0 && epoch < p.mu.epoch:
		return ErrFencedEpoch
	case epoch > p.mu.epoch:
		return ErrUnknownEpoch
	case p.mu.lead == nil:
		return ErrNotLeader
	}
	return nil
}

// HighWatermark gives the offset below which every record is committed.
func (p *Partition) HighWatermark() record.Offset { return record.Offset(p.hw.Load()) }

// LastStable gives the offset below which every transaction is decided: it has its marker,
// and that lies below the high watermark (R6). Without transactions it is the high watermark.
func (p *Partition) LastStable() record.Offset { return p.log.LastStable(p.HighWatermark()) }

// LogStart gives the first offset that is still there.
func (p *Partition) LogStart() record.Offset { return p.log.Start() }

// End gives the offset of the next record.
func (p *Partition) End() record.Offset { return p.log.End() }

// limit is where a consumer's view ends.
func (p *Partition) limit(committed bool) record.Offset {
	if committed {
		return p.LastStable()
	}
	return p.HighWatermark()
}

// follow makes the replica's role what the metadata say. The epoch never goes back: an
// image that is older than what this replica has seen changes nothing.
func (p *Partition) follow(m metadata.Partition, set *settings) error {
	p.settings.Store(set)
	p.role.Lock()
	defer p.role.Unlock()

	p.mu.Lock()
	epoch, leads := p.mu.epoch, p.mu.lead != nil
	p.mu.Unlock()
	switch {
	case m.LeaderEpoch < epoch:
		return nil
	case m.Leader != p.self:
		if p.flaws.cutToHW && m.LeaderEpoch != epoch {
			_ = p.log.Truncate(p.HighWatermark())
		}
		p.resign(m)
		return nil
	case m.LeaderEpoch == epoch && leads:
		p.adjust(m, set)
		return nil
	}
	return p.takeOver(m, set)
}

// takeOver begins this broker's leadership. Waits of an earlier epoch that it led as well
// go on: nothing was cut since. Requires: role is held for writing.
func (p *Partition) takeOver(m metadata.Partition, set *settings) error {
	if p.log.LastEpoch() < m.LeaderEpoch {
		if err := p.log.BeginEpoch(m.LeaderEpoch); err != nil {
			return err
		}
	}
	l := lead(p.self, m.LeaderEpoch, p.log.End(), p.HighWatermark())
	l.flaws = p.flaws
	l.require(set.minInSync)
	l.members(isr{committed: m.ISR}, m.Replicas, p.now())
	p.register(&l)

	p.mu.Lock()
	p.mu.leader, p.mu.epoch, p.mu.lead = p.self, m.LeaderEpoch, &l
	p.mu.partitionEpoch, p.mu.change, p.mu.noChange = m.PartitionEpoch, nil, time.Time{}
	p.turnedLocked()
	p.settle()
	return nil
}

// register tells a leadership of the followers' registrations.
func (p *Partition) register(l *leadership) {
	for id := range l.others {
		l.registered(id, p.cluster.epoch(id))
	}
}

// adjust takes a new in-sync set or new settings into the leadership there is.
// Requires: role is held for writing.
func (p *Partition) adjust(m metadata.Partition, set *settings) {
	p.mu.Lock()
	l := p.mu.lead
	l.require(set.minInSync)
	p.register(l)
	members := l.isr
	switch {
	case m.PartitionEpoch > p.mu.partitionEpoch:
		// Why a change under way is over: the controller takes none that is made on an older
		// state than its own.
		members = isr{committed: m.ISR}
		p.count(len(l.isr.committed), len(m.ISR))
		p.mu.partitionEpoch, p.mu.change = m.PartitionEpoch, nil
	case m.PartitionEpoch == p.mu.partitionEpoch:
		members.committed = m.ISR
	}
	p.membersLocked(members, m.Replicas)
	p.invite()
}

// membersLocked takes a new in-sync set into the leadership there is, and answers whom that
// concerns. Requires: mu is held, this broker leads. It gives mu back.
func (p *Partition) membersLocked(s isr, replicas []metadata.BrokerID) {
	p.mu.lead.members(s, replicas, p.now())
	if p.mu.lead.enough() {
		p.settle()
		return
	}
	// Why not let them wait: the high watermark stands still from now on, and the client
	// that hears it at once can do something about it.
	failed := p.mu.waitHW.all(nil)
	p.mu.Unlock()
	p.answer(failed, ErrNotEnoughAfterAppend)
}

// resign ends this broker's leadership, if it had it. Requires: role is held for writing.
func (p *Partition) resign(m metadata.Partition) {
	p.mu.Lock()
	if p.mu.leader == m.Leader && p.mu.epoch == m.LeaderEpoch {
		p.mu.Unlock()
		return
	}
	if p.mu.lead != nil {
		p.mu.resigned = p.now()
	}
	p.mu.leader, p.mu.epoch, p.mu.lead, p.mu.change = m.Leader, m.LeaderEpoch, nil, nil
	p.turnedLocked()
	failed, wake, deletes := p.failLocked(), p.everybodyLocked(), p.mu.deletes
	p.mu.deletes = nil
	p.mu.Unlock()
	p.answer(failed, ErrNotLeader)
	wakeAll(wake)
	refuseAll(deletes, ErrNotLeader)
}

// end makes the replica useless for good: it was deleted, its disk failed, the set stops.
// Everybody who waits is told why. It takes no role, so that it may be called while an
// append hangs in the disk.
func (p *Partition) end(why error) {
	p.mu.Lock()
	if p.mu.gone != nil && why != ErrUnknownPartition {
		p.mu.Unlock()
		return
	}
	p.mu.gone, p.mu.lead, p.mu.change = why, nil, nil
	p.turnedLocked()
	failed, wake, deletes, durable := p.failLocked(), p.everybodyLocked(), p.mu.deletes, p.mu.durable
	p.mu.deletes = nil
	p.mu.Unlock()
	p.answer(failed, why)
	wakeAll(wake)
	refuseAll(deletes, why)
	if durable != nil {
		durable() // nothing more will be
	}
}

// ended tells why nothing works any more, or nil.
func (p *Partition) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.gone
}

func (p *Partition) failLocked() []*waiter {
	return p.mu.waitDisk.all(p.mu.waitHW.all(nil))
}

// everybodyLocked gives who is to be told that leadership or state changed.
func (p *Partition) everybodyLocked() []*watcher {
	return append(p.mu.watchers.all(), p.mu.tails...)
}

// advance follows the own log's durable end; it is what the log calls after each move, and
// after it went offline, alone or with its directory.
func (p *Partition) advance() {
	if p.log.Err() != nil {
		p.end(storage.ErrOffline)
		return
	}
	p.mu.Lock()
	if p.mu.lead == nil {
		durable := p.mu.durable
		p.mu.Unlock()
		if durable != nil {
			durable()
		}
		return
	}
	p.settle()
}

// settle computes the high watermark anew, publishes it and answers whom that concerns.
// Requires: mu is held, this broker leads. It gives mu back.
func (p *Partition) settle() {
	durable := p.log.Durable()
	hw := p.mu.lead.reached(durable)
	var few [16]*waiter // no garbage in the ordinary case
	reached := p.mu.waitDisk.reached(durable, few[:0])
	reached = p.mu.waitHW.reached(hw, reached)
	var wake []*watcher
	if hw > p.HighWatermark() {
		// Under mu, so that the log hears of the marks in their order.
		p.hw.Store(int64(hw))
		p.log.SetHighWatermark(hw)
		wake = p.mu.watchers.all()
	}
	p.mu.Unlock()
	p.answer(reached, nil)
	wakeAll(wake)
}

// answer ends the waits of those who were taken out of the heaps.
func (p *Partition) answer(ws []*waiter, err error) {
	if len(ws) == 0 {
		return
	}
	p.deadlines.remove(ws)
	for _, w := range ws {
		w.done.Acked(err)
	}
}

// expire ends one wait whose time is up, unless it was answered meanwhile.
func (p *Partition) expire(w *waiter) {
	p.mu.Lock()
	waits := w.in != nil
	if waits {
		heap.Remove(w.in, w.at)
	}
	p.mu.Unlock()
	if waits {
		w.done.Acked(ErrTimeout)
	}
}
