package group

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// memoryLog is one partition of __consumer_offsets in memory. It commits what is appended
// at once, unless held.
type memoryLog struct {
	mu        sync.Mutex
	epoch     record.Epoch
	held      bool
	broken    error
	batches   [][]byte
	end       record.Offset
	committed record.Offset
	wakes     map[*func()]bool
}

func (l *memoryLog) change(f func()) {
	l.mu.Lock()
	f()
	if !l.held {
		l.committed = l.end
	}
	var wakes []func()
	for w := range l.wakes {
		wakes = append(wakes, *w)
	}
	l.mu.Unlock()
	for _, w := range wakes {
		w()
	}
}

func (l *memoryLog) CheckLeader(e record.Epoch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.broken, storage.ErrOffline) {
		return l.broken
	}
	if e != l.epoch {
		return replica.ErrFencedEpoch
	}
	return nil
}

func (l *memoryLog) Settled() (record.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return 0, replica.ErrOffsetNotAvailable
	}
	return l.committed, l.broken
}

func (l *memoryLog) Start() record.Offset { return 0 }
func (l *memoryLog) Committed() record.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed
}

func (l *memoryLog) Read(from record.Offset, _ int) (out []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.batches {
		if h, _ := record.ReadHeader(b); h.Last() >= from && h.Last() < l.committed {
			out = append(out, b...)
		}
	}
	return out, l.broken
}

func (l *memoryLog) Append(e record.Epoch, b []byte) (end record.Offset, err error) {
	if err := l.CheckLeader(e); err != nil {
		return 0, err
	}
	l.change(func() {
		record.SetBase(b, l.end, e)
		h, _ := record.ReadHeader(b)
		l.batches = append(l.batches, slices.Clone(b))
		l.end = h.Last() + 1
		end = l.end
	})
	return end, nil
}

func (l *memoryLog) Watch(wake func()) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes[&wake] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.wakes, &wake)
	}
}

// world is a coordinator with its partitions and its metadata.
type world struct {
	t *testing.T
	*Coordinator
	logs   []*memoryLog
	opened atomic.Pointer[error] // what opening a partition gives instead of its log
	topics map[string]*metadata.Topic
	stop   func()
}

// heartbeat sends a heartbeat to a classic group, which answers at once.
func (w *world) heartbeat(r *kmsg.HeartbeatRequest) (resp *kmsg.HeartbeatResponse) {
	w.Heartbeat(r, func(got *kmsg.HeartbeatResponse) { resp = got })
	return resp
}

// newWorld makes a coordinator that runs and leads n partitions. Call it in a synctest bubble.
func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, topics: map[string]*metadata.Topic{
		"t": {Name: "t", ID: topic.ID{1}, Partitions: make([]metadata.Partition, 3)},
		"u": {Name: "u", ID: topic.ID{2}, Partitions: make([]metadata.Partition, 3)},
	}}
	offsets := &metadata.Topic{Name: topic.ConsumerOffsets, ID: topic.ID{9}}
	for range n {
		w.logs = append(w.logs, &memoryLog{wakes: make(map[*func()]bool)})
		offsets.Partitions = append(offsets.Partitions, metadata.Partition{Leader: 1})
	}
	w.topics[topic.ConsumerOffsets] = offsets
	values, err := config.Defaults().With(map[string]string{"group.initial.rebalance.delay.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	w.Coordinator = newCoordinator(Options{
		Node: 1, Settings: func() *config.Values { return values },
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	}, func(p int32) (journal.Log, error) {
		if err := w.opened.Load(); err != nil {
			return nil, *err
		}
		return w.logs[p], nil
	})
	w.run()
	return w
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// publish gives the coordinator the metadata as they are now, changed.
func (w *world) publish(change func(offsets *metadata.Topic)) {
	next := maps.Clone(w.topics)
	if t := next[topic.ConsumerOffsets]; t != nil && change != nil {
		copied := *t
		copied.Partitions = slices.Clone(t.Partitions)
		change(&copied)
		next[topic.ConsumerOffsets] = &copied
	}
	w.topics = next
	w.apply(maps.Clone(next))
	synctest.Wait()
}

func (w *world) commit(group string, o int64) code {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.Generation = 9, group, -1
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: o}}}}
	got := code(-100)
	w.OffsetCommit(r, func(resp *kmsg.OffsetCommitResponse) { got = resp.Topics[0].Partitions[0].ErrorCode })
	synctest.Wait()
	return got
}

func (w *world) fetched(group string) (int64, code) {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Version = 8
	r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}
	g := w.OffsetFetch(r).Groups[0]
	if g.ErrorCode != none {
		return -1, g.ErrorCode
	}
	return g.Topics[0].Partitions[0].Offset, none
}

func (w *world) want(group string, offset int64, c code) {
	w.t.Helper()
	if o, got := w.fetched(group); o != offset || got != c {
		w.t.Errorf("group %s is at %d (%s), want %d (%s)", group, o, named(got), offset, named(c))
	}
}

func TestCommitSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.publish(nil)
		for i, id := range []string{"a", "b", "c", "d"} {
			if c := w.commit(id, int64(i)); c != none {
				t.Errorf("commit of %s gives %s", id, named(c))
			}
		}
		w.stop()
		for _, l := range w.logs {
			if n := len(l.wakes); n != 0 {
				t.Errorf("%d watchers are left", n)
			}
		}
		again := newWorld(t, 3)
		again.logs = w.logs
		again.publish(nil)
		for i, id := range []string{"a", "b", "c", "d"} {
			again.want(id, int64(i), none)
		}
		list := again.ListGroups(kmsg.NewPtrListGroupsRequest())
		if list.ErrorCode != none || len(list.Groups) != 4 {
			t.Errorf("list gives %s and %d groups, want 4", named(list.ErrorCode), len(list.Groups))
		}
		again.stop()
	})
}

func TestNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		offsets := w.topics[topic.ConsumerOffsets]
		delete(w.topics, topic.ConsumerOffsets)
		w.publish(nil)
		w.want("a", -1, notAvailable) // there is no such topic yet

		w.topics[topic.ConsumerOffsets] = offsets
		w.logs[0].held = true
		w.publish(nil)
		w.want("a", -1, loadInProgress)
		if c := w.commit("a", 1); c != loadInProgress {
			t.Errorf("commit while loading gives %s", named(c))
		}
		if c := w.heartbeat(&kmsg.HeartbeatRequest{Group: "a", MemberID: "m"}).ErrorCode; c != none {
			t.Errorf("heartbeat while loading gives %s, want none", named(c))
		}
		if c := w.ListGroups(&kmsg.ListGroupsRequest{}).ErrorCode; c != loadInProgress {
			t.Errorf("list while loading gives %s", named(c))
		}
		w.logs[0].change(func() { w.logs[0].held = false })
		synctest.Wait()
		w.want("a", -1, none)

		w.publish(func(o *metadata.Topic) { o.Partitions[0].Leader, o.Partitions[0].LeaderEpoch = 2, 1 })
		w.want("a", -1, notCoordinator)
		w.stop()
		w.want("a", -1, notCoordinator)
	})
}

func TestLeadershipMovesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		joined, committed := code(-100), code(-100)
		join := func(answer func(*kmsg.JoinGroupResponse)) {
			r := kmsg.NewPtrJoinGroupRequest()
			r.Version, r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = 3, "g", 10_000, 60_000, "consumer"
			r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
			w.JoinGroup(Client{}, r, answer)
		}
		join(func(*kmsg.JoinGroupResponse) {})
		join(func(resp *kmsg.JoinGroupResponse) { joined = resp.ErrorCode })
		w.logs[0].change(func() { w.logs[0].held = true })
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Group, commit.Generation = "other", -1
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
		w.OffsetCommit(commit, func(resp *kmsg.OffsetCommitResponse) { committed = resp.Topics[0].Partitions[0].ErrorCode })
		synctest.Wait()
		if joined != -100 || committed != -100 {
			t.Fatalf("answered early: join %d, commit %d", joined, committed)
		}
		w.logs[0].change(func() { w.logs[0].epoch = 1 })
		w.publish(func(o *metadata.Topic) { o.Partitions[0].LeaderEpoch = 1 })
		if joined != notCoordinator || committed != notCoordinator {
			t.Errorf("join is answered %s, commit %s", named(joined), named(committed))
		}
		w.want("other", -1, loadInProgress)
		w.logs[0].change(func() { w.logs[0].held = false })
		synctest.Wait()
		// It was in the log, so it counts: the client was told to ask again, not that it failed.
		w.want("other", 0, none)
		w.stop()
	})
}

func TestSessionsEndByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = 3, "g", 10_000, 60_000, "consumer"
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		var member string
		w.JoinGroup(Client{ID: "c"}, r, func(resp *kmsg.JoinGroupResponse) { member = resp.MemberID })
		synctest.Wait()
		if !strings.HasPrefix(member, "c-") || len(member) != len("c-")+36 {
			t.Errorf("member is called %q, want client ID and UUID", member)
		}
		w.SyncGroup(Client{}, &kmsg.SyncGroupRequest{Group: "g", MemberID: member, Generation: 1}, func(*kmsg.SyncGroupResponse) {})
		state := func() string {
			d := kmsg.NewPtrDescribeGroupsRequest()
			d.Groups = []string{"g"}
			return w.DescribeGroups(d).Groups[0].State
		}
		for range 3 {
			time.Sleep(9 * time.Second)
			if c := w.heartbeat(&kmsg.HeartbeatRequest{Group: "g", MemberID: member, Generation: 1}).ErrorCode; c != none {
				t.Errorf("heartbeat gives %s", named(c))
			}
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if s := state(); s != "Stable" {
			t.Errorf("group is %s before the session ends", s)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := state(); s != "Empty" {
			t.Errorf("group is %s after the session ended", s)
		}
		w.stop()
	})
}

func TestTopicDeletedWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		if c := w.commit("g", 5); c != none {
			t.Fatal(named(c))
		}
		w.stop()
		again := newWorld(t, 1)
		again.logs = w.logs
		again.logs[0].held = true
		again.publish(nil)
		// Deleted, and made again under its name, before the offsets were read.
		again.topics["t"] = &metadata.Topic{Name: "t", ID: topic.ID{7}, Partitions: make([]metadata.Partition, 3)}
		again.publish(nil)
		again.logs[0].change(func() { again.logs[0].held = false })
		synctest.Wait()
		again.want("g", -1, none)
		again.stop()
	})
}

func TestTopicDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		w.commit("g", 5)
		w.want("g", 5, none)
		delete(w.topics, "t")
		w.publish(nil)
		w.want("g", -1, none)
		if c := w.commit("g", 5); c != unknownPartition {
			t.Errorf("commit to a deleted topic gives %s", named(c))
		}
		w.stop()
	})
}

func TestLoadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		notYet := errors.New("not yet")
		w.opened.Store(&notYet)
		w.publish(nil)
		w.want("g", -1, loadInProgress)
		w.logs[0].change(func() { w.logs[0].broken = errors.New("disk is slow") })
		w.opened.Store(nil)
		time.Sleep(journal.RetryLoad + time.Second)
		synctest.Wait()
		w.want("g", -1, loadInProgress)
		w.logs[0].change(func() { w.logs[0].broken = nil })
		synctest.Wait()
		w.want("g", -1, none)
		w.stop()
	})
}

func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		w.commit("g", 1)
		w.opened.Store(&storage.ErrOffline)
		w.logs[0].change(func() { w.logs[0].broken = storage.ErrOffline })
		synctest.Wait()
		// Not "loading": a member must not think that all is well.
		w.want("g", -1, notCoordinator)
		if c := w.heartbeat(&kmsg.HeartbeatRequest{Group: "g"}).ErrorCode; c != notCoordinator {
			t.Errorf("heartbeat gives %s", named(c))
		}
		w.logs[0].change(func() { w.logs[0].broken = nil })
		w.opened.Store(nil)
		time.Sleep(2 * journal.RetryLoad)
		synctest.Wait()
		w.want("g", 1, none)
		w.stop()
	})
}

func TestDeleteSeveralGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.publish(nil)
		w.commit("a", 1)
		w.commit("b", 1)
		var got []string
		w.DeleteGroups(&kmsg.DeleteGroupsRequest{Groups: []string{"a", "nobody", "b"}}, func(resp *kmsg.DeleteGroupsResponse) {
			for _, g := range resp.Groups {
				got = append(got, g.Group+" "+named(g.ErrorCode))
			}
		})
		synctest.Wait()
		if want := []string{"a ok", "nobody GROUP_ID_NOT_FOUND", "b ok"}; !slices.Equal(got, want) {
			t.Errorf("deletion gives %q, want %q", got, want)
		}
		if n := len(w.ListGroups(kmsg.NewPtrListGroupsRequest()).Groups); n != 0 {
			t.Errorf("%d groups are left", n)
		}
		w.stop()
	})
}

func TestFetchShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(nil)
		w.commit("g", 7)
		one := []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
		offsets := func(r *kmsg.OffsetFetchRequest) (out []int64) {
			resp := w.OffsetFetch(r)
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					out = append(out, p.Offset)
				}
			}
			for _, g := range resp.Groups {
				for _, topic := range g.Topics {
					for _, p := range topic.Partitions {
						out = append(out, p.Offset)
					}
				}
			}
			return out
		}
		for _, c := range []struct {
			what string
			r    kmsg.OffsetFetchRequest
			want []int64
		}{
			{"version 1", kmsg.OffsetFetchRequest{Version: 1, Group: "g", Topics: one}, []int64{7, -1}},
			{"version 1, null is nothing", kmsg.OffsetFetchRequest{Version: 1, Group: "g"}, nil},
			{"version 2, null is all", kmsg.OffsetFetchRequest{Version: 2, Group: "g"}, []int64{7}},
			{"version 7, empty is nothing", kmsg.OffsetFetchRequest{Version: 7, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{}}, nil},
			{"version 8, null is all", kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "h"}}}, []int64{7}},
		} {
			if got := offsets(&c.r); !slices.Equal(got, c.want) {
				t.Errorf("%s: offsets %v, want %v", c.what, got, c.want)
			}
		}
		w.publish(func(o *metadata.Topic) { o.Partitions[0].Leader = 2 })
		resp := w.OffsetFetch(&kmsg.OffsetFetchRequest{Version: 1, Group: "g", Topics: one})
		if c := resp.Topics[0].Partitions[1].ErrorCode; c != notCoordinator {
			t.Errorf("version 1 gives %s for each partition", named(c))
		}
		if c := w.OffsetFetch(&kmsg.OffsetFetchRequest{Version: 7, Group: "g", Topics: one}).ErrorCode; c != notCoordinator {
			t.Errorf("version 7 gives %s", named(c))
		}
		w.stop()
	})
}
