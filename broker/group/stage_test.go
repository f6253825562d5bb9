package group

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// stage is a shard with everything around it made up: a clock that stands still, a journal
// that commits at once, when told to, or never, IDs that count.
type stage struct {
	t        *testing.T
	shard    *shard
	now      time.Time
	settings limits
	topics   map[string]topicInfo
	view     *topics
	own      map[string]string // settings of each group
	ids      int
	made     int // topics

	committed []logged
	waiting   []journal.Entry
	held      bool
	failed    int // group writes that the journal refused since the last restart
}

// logged is a record in the log with its batch, or a marker.
type logged struct {
	batch  record.Header
	record record.Record
	marker *record.Marker
}

// replay brings what is in the log to a shard.
func (l logged) replay(s *shard) error {
	if l.marker != nil {
		return s.ReplayMarker(*l.marker)
	}
	return s.Replay(l.batch, l.record)
}

var errJournal = errors.New("the journal is gone")

func newStage(t *testing.T) *stage {
	st := &stage{
		t: t, now: time.UnixMilli(1_000_000_000_000),
		topics: make(map[string]topicInfo),
		settings: limits{
			minSession: 6 * time.Second, maxSession: 30 * time.Minute, maxSize: 1000,
			offsetMetadata: 4096, retention: 14 * 24 * time.Hour, expiryInterval: 10 * time.Minute, commitTimeout: 5 * time.Second,
			consumer: consumerLimits{
				session: 45 * time.Second, minSession: 45 * time.Second, maxSession: time.Minute,
				interval: 5 * time.Second, minInterval: 5 * time.Second, maxInterval: 15 * time.Second,
				maxSize: 1000, assignors: []string{"uniform", "range"}, upgrade: true, downgrade: true,
			},
		},
	}
	st.makeTopic("t", 10)
	st.makeTopic("u", 10)
	st.restart()
	return st
}

func (st *stage) empty() *shard {
	s := newShard()
	s.now = st.now
	s.logger = slog.New(slog.DiscardHandler)
	s.limits = func() limits { return st.settings }
	s.newID = func() string { st.ids++; return strconv.Itoa(st.ids) }
	s.topics = func() *topics { return st.view }
	s.settings = func(string) map[string]string { return st.own }
	s.reenter = func(f func(*shard)) code {
		st.do(f)
		return none
	}
	s.append = func(e journal.Entry) error {
		if st.shard != s {
			return errJournal
		}
		// What goes in must not change when the request's frame is used again.
		st.waiting = append(st.waiting, e)
		return nil
	}
	return s
}

// do runs a request and whatever it sets going.
func (st *stage) do(f func(*shard)) {
	st.shard.now = st.now
	f(st.shard)
	st.settle()
}

// settle commits what may be committed and runs what was put off.
func (st *stage) settle() {
	for {
		for _, f := range st.shard.Take() {
			f()
		}
		if st.held || len(st.waiting) == 0 {
			return
		}
		st.commitOne()
	}
}

func (st *stage) commitOne() {
	e := st.waiting[0]
	st.waiting = st.waiting[1:]
	var batch record.Header
	if e.Producer != nil {
		batch.ProducerID, batch.ProducerEpoch, batch.Attributes = e.Producer.ID, e.Producer.Epoch, record.TransactionalBit
	}
	at := len(st.committed)
	for _, r := range e.Records {
		r.Offset = record.Offset(len(st.committed))
		st.committed = append(st.committed, logged{batch: batch, record: r})
	}
	if e.Marker != nil {
		st.committed = append(st.committed, logged{marker: e.Marker})
	}
	for _, l := range st.committed[at:] {
		if err := l.replay(st.shard); err != nil {
			st.t.Fatal(err)
		}
	}
	e.Done(nil)
}

// journal holds commits back, lets them go on, or refuses those that wait.
func (st *stage) journal(what string) {
	switch what {
	case "hold":
		st.held = true
	case "go":
		st.held = false
	case "fail":
		waiting := st.waiting
		st.waiting = nil
		for _, e := range waiting {
			st.failed++
			e.Done(errJournal)
		}
	default:
		st.t.Fatalf("no journal %q", what)
	}
	st.settle()
}

// advance lets time pass, ringing each alarm when it is due.
func (st *stage) advance(d time.Duration) {
	end := st.now.Add(d)
	for {
		next, ok := st.shard.alarms.next()
		if !ok || next.After(end) {
			break
		}
		if next.After(st.now) {
			st.now = next
		}
		st.do((*shard).Ring)
	}
	st.now = end
	st.shard.now = end
}

// replayed gives what the log alone gives.
func (st *stage) replayed() *shard {
	s := st.empty()
	for _, l := range st.committed {
		if err := l.replay(s); err != nil {
			st.t.Fatal(err)
		}
	}
	return s
}

// restart is kill -9: nobody who waits is answered, the state comes from the log.
func (st *stage) restart() {
	st.waiting, st.failed = nil, 0
	s := st.replayed()
	st.shard = s
	st.do((*shard).Loaded)
}

// makeTopic makes a topic, or gives it more partitions.
func (st *stage) makeTopic(name string, partitions int32) {
	info, ok := st.topics[name]
	if !ok {
		st.made++
		info = topicInfo{id: topic.ID{15: byte(st.made)}, name: name}
	}
	info.partitions = partitions
	st.topics[name] = info
	st.look()
}

// look has the shard see the topics of now.
func (st *stage) look() {
	st.view = newTopics(st.view, slices.Collect(maps.Values(st.topics)))
}

// loseTopic deletes a topic while nobody looks.
func (st *stage) loseTopic(name string) {
	delete(st.topics, name)
	st.look()
}

func (st *stage) deleteTopic(name string) {
	st.loseTopic(name)
	st.do(func(s *shard) { s.dropOffsets(func(p topic.Partition) bool { return p.Topic == name }) })
}

// check holds the invariants: what is served equals a replay, and what is alive fits
// together.
func (st *stage) check() {
	st.t.Helper()
	again := st.replayed()
	promises := 0
	for id, g := range st.shard.groups {
		promises += len(g.promised)
		st.checkGroup(g)
		r := again.groups[id]
		if r == nil {
			if len(g.offsets) > 0 || len(g.pending) > 0 || g.stored != nil {
				st.t.Fatalf("group %s is served and not in the log", id)
			}
			continue
		}
		if !maps.Equal(g.offsets, r.offsets) {
			st.t.Fatalf("group %s serves offsets %v, the log gives %v", id, g.offsets, r.offsets)
		}
		if !reflect.DeepEqual(g.pending, r.pending) {
			st.t.Fatalf("group %s has offsets %v in transactions, the log gives %v", id, g.pending, r.pending)
		}
		if !reflect.DeepEqual(g.stored, r.stored) {
			st.t.Fatalf("group %s has stored %s, the log gives %s", id, storedText(g.stored), storedText(r.stored))
		}
		if !reflect.DeepEqual(g.consumers, r.consumers) {
			st.t.Fatalf("group %s serves members that the log does not give", id)
		}
		settled := g.consumers == nil && g.writing == 0 && st.failed == 0 && (g.state == stable || g.state == empty && g.generation > 0)
		if settled && !bytes.Equal(g.value().AppendTo(nil), storedBytes(r.stored)) {
			st.t.Fatalf("group %s lives as %s, the log gives %s", id, storedText(g.value()), storedText(r.stored))
		}
	}
	if promises != st.shard.promises {
		st.t.Fatalf("%d promises are counted, there are %d", st.shard.promises, promises)
	}
	for id := range again.groups {
		if st.shard.groups[id] == nil {
			st.t.Fatalf("group %s is in the log and not served", id)
		}
	}
}

// checkTransactions works the offsets out from the log in the plainest way there is: what
// counts is, of each partition, the last record that is not one of a transaction, or is one
// of a committed transaction, unless a deletion comes after it or before its commit.
func (st *stage) checkTransactions() {
	st.t.Helper()
	type place struct {
		group string
		topic.Partition
	}
	type entry struct{ index, at int64 }
	counts := make(map[place]entry)
	open := make(map[int64]map[place]entry)
	for i, l := range st.committed {
		if l.marker != nil {
			for p, e := range open[l.marker.ProducerID] {
				if l.marker.Commit && counts[p].index <= e.index {
					counts[p] = e
				}
			}
			delete(open, l.marker.ProducerID)
			continue
		}
		var k kmsg.OffsetCommitKey
		if l.record.Key[1] > 1 || k.ReadFrom(l.record.Key) != nil {
			continue
		}
		p := place{k.Group, topic.Partition{Topic: k.Topic, Partition: k.Partition}}
		var v kmsg.OffsetCommitValue
		switch {
		case l.record.Value == nil:
			delete(counts, p)
			for _, ps := range open {
				delete(ps, p)
			}
		case v.ReadFrom(l.record.Value) != nil:
			st.t.Fatalf("record %d cannot be read", i)
		case l.batch.Transactional():
			if open[l.batch.ProducerID] == nil {
				open[l.batch.ProducerID] = make(map[place]entry)
			}
			open[l.batch.ProducerID][p] = entry{int64(i), v.Offset}
		default:
			counts[p] = entry{int64(i), v.Offset}
		}
	}
	n := 0
	for id, g := range st.shard.groups {
		for p, o := range g.offsets {
			n++
			if e, ok := counts[place{id, p}]; !ok || e.at != o.at {
				st.t.Fatalf("group %s serves %d for %s, by the log it is %v %v", id, o.at, p, e.at, ok)
			}
		}
	}
	if n != len(counts) {
		st.t.Fatalf("%d offsets are served, by the log there are %d", n, len(counts))
	}
}

func storedBytes(v *kmsg.GroupMetadataValue) []byte {
	if v == nil {
		return nil
	}
	return v.AppendTo(nil)
}

func (st *stage) checkGroup(g *group) {
	st.t.Helper()
	waits := g.state == preparingRebalance && (g.gathering || len(g.promised) > 0) // for somebody to come
	if (g.state == empty || g.state == dead) != (len(g.members) == 0) && !waits {
		st.t.Fatalf("group %s is %s with %d members", g.id, g.state, len(g.members))
	}
	if len(g.members) > 0 && g.members[g.leader] == nil {
		st.t.Fatalf("group %s is led by %q, who is no member", g.id, g.leader)
	}
	statics := 0
	for id, m := range g.members {
		if m.id != id {
			st.t.Fatalf("member %s is listed as %s", m.id, id)
		}
		if m.instance != nil {
			statics++
			if g.static[*m.instance] != m {
				st.t.Fatalf("static member %s is not found by its name %s", id, *m.instance)
			}
		}
		if m.join != nil && g.state != preparingRebalance {
			st.t.Fatalf("member %s waits to join a group that is %s", id, g.state)
		}
		if m.sync != nil && g.state != completingRebalance {
			st.t.Fatalf("member %s waits for an assignment of a group that is %s", id, g.state)
		}
		if m.join == nil && m.sync == nil && m.expiry.at == 0 && !g.busy {
			st.t.Fatalf("member %s of a group that is %s can never expire", id, g.state)
		}
	}
	if statics != len(g.static) {
		st.t.Fatalf("group %s lists static members %v, has %d", g.id, slices.Collect(maps.Keys(g.static)), statics)
	}
}
