package quorum

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// TestThreeVoters: one leads, all apply the same, the two that are left elect
// another leader, and the one that was away catches up.
func TestThreeVoters(t *testing.T) {
	const voters = 3
	dirs := make([]string, voters)
	var members []Voter
	for i := range voters {
		dirs[i] = t.TempDir()
		members = append(members, Voter{metadata.BrokerID(i + 1), fmt.Sprintf("v%d", i+1)})
	}
	transports := make([]*raft.InmemTransport, voters)
	nodes := make([]*node, voters)
	launch := func(i int) {
		_, transports[i] = raft.NewInmemTransport(raft.ServerAddress(members[i].Address))
		for j, other := range transports {
			if other != nil && j != i {
				transports[i].Connect(other.LocalAddr(), other)
				other.Connect(transports[i].LocalAddr(), transports[i])
			}
		}
		o := options(t, dirs[i])
		o.Node, o.Voters, o.Transport, o.Heartbeat = members[i].Node, members, transports[i], 250*time.Millisecond
		nodes[i] = run(t, o)
	}
	for i := range voters {
		launch(i)
	}
	leader := func() int {
		for i, n := range nodes {
			if n == nil {
				continue
			}
			if leads, _ := n.Leading(); leads {
				return i
			}
		}
		return -1
	}
	// Why tried again: on a busy machine leadership may move at any time, and the
	// fate of a batch that was under way then is not known.
	propose := func(topic int) (leads int, index uint64) {
		eventually(t, "a leader that takes a topic", func() bool {
			if leads = leader(); leads < 0 {
				return false
			}
			_, err := nodes[leads].Propose(t.Context(), created(topic))
			index = nodes[leads].Image().Index()
			return err == nil || errors.Is(err, ErrRefused)
		})
		return leads, index
	}
	first, index := propose(1)
	for i, n := range nodes {
		eventually(t, "everybody has the topic", func() bool { return n.Image().Index() >= index })
		if n.Image().Topic("t1") == nil || n.Image().ClusterID() != "c" {
			t.Errorf("node %d: cluster %q", i+1, n.Image().ClusterID())
		}
		if i == first {
			continue
		}
		eventually(t, "a follower names the leader", func() bool {
			var other *NotLeaderError
			_, err := n.Propose(t.Context(), created(2))
			return leader() == i || errors.As(err, &other) && other.Leader != n.o.Node
		})
	}
	nodes[first].mustStop()
	nodes[first], transports[first] = nil, nil
	_, index = propose(3)
	launch(first)
	eventually(t, "the first one catches up", func() bool { return nodes[first].Image().Index() >= index })
	if nodes[first].Image().Topic("t3") == nil {
		t.Error("the topic made in its absence is missing")
	}
	for _, n := range nodes {
		n.mustStop()
	}
}

// TestSegmentsFollowEachOther fills several segments and restarts.
func TestSegmentsFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	value := make([]byte, 900<<10)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	res := metadata.Resource{Kind: metadata.BrokerResource}
	for i := range 12 {
		n.propose(&metadata.ConfigSet{Resource: res, Name: fmt.Sprint("k", i%3), Value: string(value)})
	}
	n.churn(20)
	want := n.Image()
	segments, err := n.state.Load("")
	if err != nil || len(segments.Segments) < 3 {
		t.Fatalf("%d segments, %v", len(segments.Segments), err)
	}
	killed := start(t, options(t, copyDir(t, dir)))
	if d := metadata.Diff(want, killed.Image()); !d.Empty() {
		t.Errorf("killed: %+v", d)
	}
	killed.mustStop()
	n.mustStop()
}

// TestGreatEntriesAreSnapshotEarlier: the log does not keep thousands of great entries.
func TestGreatEntriesAreSnapshotEarlier(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	value := strings.Repeat("z", 1000<<10)
	res := metadata.Resource{Kind: metadata.BrokerResource}
	propose := func(megabytes int) {
		for i := range megabytes {
			n.propose(&metadata.ConfigSet{Resource: res, Name: "k", Value: fmt.Sprint(i, value)})
		}
	}
	propose(20)
	eventually(t, "a snapshot", func() bool { return len(snapshotFiles(t, dir)) == 1 })
	propose(20)
	eventually(t, "a second snapshot", func() bool { return len(snapshotFiles(t, dir)) == 2 })
	propose(20)
	eventually(t, "a shorter log", func() bool {
		first, err := n.wal.FirstIndex()
		return err == nil && first > 15
	})
	want := n.Image()
	n.mustStop()
	flip(t, snapshotFiles(t, dir)[0], 100)
	n = start(t, options(t, dir)) // from the older one
	if d := metadata.Diff(want, n.Image()); !d.Empty() {
		t.Errorf("after a restart: %d settings differ", len(d.Configs))
	}
	n.mustStop()
}

func TestProposeEndsWithItsContext(t *testing.T) {
	q, err := Open(options(t, t.TempDir())) // not run: nobody leads
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := q.Propose(ctx, created(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Propose: %v", err)
	}
}

// TestTruncatedLogSurvivesARestart: what a follower cut off because its leader has
// something else there must not make the rest unreadable.
func TestTruncatedLogSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	n.churn(20)
	n.mustStop()
	q, err := Open(options(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	last := q.found.last
	if err := errors.Join(q.store.DeleteRange(last-3, last), q.Close()); err != nil {
		t.Fatal(err)
	}
	n = start(t, options(t, dir))
	if got := n.found.last; got != last-4 {
		t.Errorf("the log ends at %d, cut off behind %d", got, last-4)
	}
	n.churn(3)
	n.mustStop()
	start(t, options(t, dir)).mustStop()
}
