package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Why one is let through: the library tells a voter to take over, aside, and waits for
// its answer up to a time-out, also when the node ends meanwhile.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*Raft).leadershipTransfer"))
}

// long is the deadline of everything that should take milliseconds.
const long = 20 * time.Second

func idOf(n int) (id topic.ID) {
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

func created(n int) []metadata.Record {
	return []metadata.Record{
		&metadata.TopicCreated{Name: fmt.Sprintf("t%d", n), ID: idOf(n), Created: 1},
		&metadata.PartitionCreated{Topic: idOf(n), State: metadata.Partition{
			Leader: 1, Replicas: []metadata.BrokerID{1}, ISR: []metadata.BrokerID{1}}},
	}
}

// node is a running Quorum.
type node struct {
	*Quorum
	t    *testing.T
	stop func() error                   // ends Run and closes
	gate *atomic.Pointer[chan struct{}] // of a disk that can hang
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func options(t *testing.T, dir string) Options {
	return Options{Dir: dir, Node: 1, ClusterID: "c", Logger: testLogger(t)}
}

// start opens and runs a node and waits until it leads.
func start(t *testing.T, o Options, prepare ...func(*Quorum)) *node {
	t.Helper()
	n := run(t, o, prepare...)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := n.WaitLeading(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t *testing.T, o Options, prepare ...func(*Quorum)) *node {
	t.Helper()
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(q)
	}
	return runOpened(t, q)
}

func contextFor(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), long)
}

// runOpened runs what Open gave.
func runOpened(t *testing.T, q *Quorum) *node {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stopped := false
	n := &node{Quorum: q, t: t}
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return errors.Join(<-done, q.Close())
	}
	t.Cleanup(func() { _ = n.stop() }) // a test that cares calls stop itself
	return n
}

func (n *node) propose(records ...metadata.Record) uint64 {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), long)
	defer cancel()
	index, err := n.Propose(ctx, records)
	if err != nil {
		n.t.Fatal(err)
	}
	return index
}

func (n *node) mustStop() {
	n.t.Helper()
	if err := n.stop(); err != nil {
		n.t.Fatal(err)
	}
}

// copyDir gives a directory as a killed process would leave it.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestProposeIsSeenByAllAndSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	var seen []uint64
	var last *metadata.Image
	n := start(t, options(t, dir), func(q *Quorum) {
		q.Subscribe(func(old, new *metadata.Image) {
			if last != nil && old != last || last == nil && old.Index() != 0 {
				t.Errorf("a subscriber was shown a step from %d, the last was to %d", old.Index(), last.Index())
			}
			last = new
			seen = append(seen, new.Index())
		})
	})
	for i := range 20 {
		index := n.propose(created(i)...)
		if n.Image().Index() != index || seen[len(seen)-1] != index || n.Image().Topic(fmt.Sprintf("t%d", i)) == nil {
			t.Fatalf("Propose gave %d before everybody saw it: image %d, subscriber %d", index, n.Image().Index(), seen[len(seen)-1])
		}
	}
	before := n.Image()
	if before.ClusterID() != "c" || before.Partitions() != 20 {
		t.Fatalf("image: cluster %q, %d partitions", before.ClusterID(), before.Partitions())
	}
	n.mustStop()

	began := time.Now()
	n = start(t, options(t, dir))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a restart took %v", took)
	} else {
		t.Logf("restart: %v", took)
	}
	if d := metadata.Diff(before, n.Image()); !d.Empty() || n.Image().Index() != before.Index() {
		t.Errorf("after a restart: %+v", d)
	}
	n.propose(&metadata.TopicRemoved{ID: idOf(3)})
	if n.Image().Topic("t3") != nil {
		t.Error("the topic is still there")
	}
	n.mustStop()
}

func TestRefusedBatchChangesNothing(t *testing.T) {
	n := start(t, options(t, t.TempDir()))
	n.propose(created(1)...)
	before := n.Image()
	_, err := n.Propose(t.Context(), created(1))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `topic "t1" is there already`) {
		t.Errorf("twice the same topic: %v", err)
	}
	_, err = n.Propose(t.Context(), []metadata.Record{&metadata.ConfigSet{
		Resource: metadata.Resource{Kind: metadata.BrokerResource}, Name: "x", Value: strings.Repeat("x", maxBatch)}})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge batch: %v", err)
	}
	if n.Image() != before {
		t.Error("a refused batch changed the image")
	}
	n.mustStop()
	if _, err := n.Propose(t.Context(), created(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestKilledNodeKeepsWhatWasProposed(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	for i := range 30 {
		n.propose(created(i)...)
		if i%10 != 0 {
			continue
		}
		killed := start(t, options(t, copyDir(t, dir)))
		if d := metadata.Diff(n.Image(), killed.Image()); !d.Empty() {
			t.Fatalf("after %d topics a killed node comes back with %+v", i+1, d)
		}
		killed.mustStop()
	}
	n.mustStop()
}

func TestDirectoryIsForOneProcessNodeAndCluster(t *testing.T) {
	dir := t.TempDir()
	n := start(t, options(t, dir))
	if _, err := Open(options(t, dir)); err == nil || !strings.Contains(err.Error(), "another process uses") {
		t.Errorf("opened twice: %v", err)
	}
	n.mustStop()
	o := options(t, dir)
	o.Node = 2
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "belongs to node 1, not to node 2") {
		t.Errorf("another node: %v", err)
	}
	o = options(t, dir)
	o.ClusterID = "other"
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), `belongs to cluster "c", not "other"`) {
		t.Errorf("another cluster: %v", err)
	}
	o.ClusterID = ""
	if n := start(t, o); n.Image().ClusterID() != "c" {
		t.Errorf("cluster ID taken: %q", n.Image().ClusterID())
	}
}

func TestNewClusterGetsAnID(t *testing.T) {
	o := options(t, t.TempDir())
	o.ClusterID = ""
	n := start(t, o)
	if id := n.Image().ClusterID(); len(id) != 22 || !n.Fresh() {
		t.Errorf("cluster ID %q, fresh %v", id, n.Fresh())
	}
	n.mustStop()
	if start(t, o).Fresh() {
		t.Error("a second start counts as fresh")
	}
}

// silent is a question to raft that is answered when the test ends.
type silent struct{ end <-chan struct{} }

func (s silent) Error() error { <-s.end; return nil }

func TestQuestionsThatRaftLeavesUnansweredEndWithIt(t *testing.T) {
	q := &Quorum{ended: make(chan struct{})}
	end := make(chan struct{})
	defer close(end)
	close(q.ended)
	if err := q.answer(silent{end}); !errors.Is(err, raft.ErrRaftShutdown) {
		t.Errorf("got %v", err)
	}
}
