package crash

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// rounds of kill -9: the short form is for every CI run.
func rounds() int {
	if os.Getenv("BELFRY_LONG") != "" {
		return 134 // every fourth is a clean stop: 100 kills and more
	}
	return 5
}

// TestKillUnderLoad ends the node again and again while producers of all kinds, groups that
// read and one that commits are at work: mostly by kill -9, sometimes with torn writes left
// behind, sometimes cleanly. Invariants: what was acknowledged is there, at its offset, whole,
// that of an idempotent producer once and in order; what members of a group are given is
// what was sent; a committed offset never goes back; a clean stop is quick and leaves
// nothing to recover. One topic loses its oldest segments all the while.
func TestKillUnderLoad(t *testing.T) {
	dir := t.TempDir()
	dirs := []string{filepath.Join(dir, "data", "a"), filepath.Join(dir, "data", "b")}
	n := nodetest.Start(t, nodetest.Options{Dir: dir, Settings: map[string]string{
		"log.dirs": strings.Join(dirs, ","), "log.segment.bytes": "262144", "log.flush.offset.checkpoint.interval.ms": "200",
		"log.retention.check.interval.ms": "300", "log.segment.delete.delay.ms": "100", "group.initial.rebalance.delay.ms": "0",
		"offsets.topic.num.partitions": "4",
	}})
	adm := admin(t, n)
	whole, short := newLedger("ledger", 4), newLedger("short", 4)
	short.trimmed = true
	keep := "1048576"
	for _, err := range []error{makeTopic(t, adm, whole.topic, nil), makeTopic(t, adm, short.topic, map[string]*string{"retention.bytes": &keep})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for _, l := range []*ledger{whole, short} {
		load(ctx, t, n, l, &workers)
	}
	commits := &commits{}
	workers.Go(func() { commits.run(ctx, adm) })
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	var kills, stops int
	var slowest time.Duration
	for round := range rounds() {
		awaitAcks(t, whole, whole.count()+200)
		waitFor(t, time.Duration(rnd.IntN(300))*time.Millisecond)
		if round%4 == 2 {
			slowest = max(slowest, cleanStop(t, n, dirs))
			stops++
		} else {
			n.Kill()
			kills++
			if rnd.IntN(2) == 0 {
				tearTails(t, n, rnd)
			}
		}
		n.Restart()
		whole.verify(t.Context(), t, n.Kafka)
		short.verify(t.Context(), t, n.Kafka)
		commits.check(t, adm)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	stop()
	workers.Wait()
	whole.verify(t.Context(), t, n.Kafka)
	short.verify(t.Context(), t, n.Kafka)
	starts := short.starts(t.Context(), t, n.Kafka)
	t.Logf("%d kills, %d clean stops (the slowest took %v), %d + %d messages acknowledged and found, retention moved log starts to %v",
		kills, stops, slowest.Round(time.Millisecond), whole.count(), short.count(), starts)
	if whole.count() == 0 || short.count() == 0 {
		t.Error("nothing was acknowledged")
	}
}

// load puts all kinds of producers, and two members of a group, to work on a topic.
func load(ctx context.Context, t *testing.T, n *nodetest.Node, l *ledger, workers *sync.WaitGroup) {
	for _, k := range kinds() {
		l.loose[k.name] = k.loose
		workers.Go(func() { l.produce(ctx, t, n.Kafka, k.name, k.opts...) })
	}
	for range 2 {
		workers.Go(func() {
			if l.follow(ctx, t, n.Kafka, "readers-of-"+l.topic) == 0 {
				t.Log("a member of a group read nothing")
			}
		})
	}
}

// kind is a kind of producer; a loose one may write a message twice.
type kind struct {
	name  string
	loose bool
	opts  []kgo.Opt
}

func kinds() []kind {
	return []kind{
		{"idempotent", false, nil},
		{"zstd", false, []kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}},
		{"uncompressed", false, []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}},
		{"all", true, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.Lz4Compression())}},
		{"leader", true, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.ProducerBatchCompression(kgo.GzipCompression())}},
	}
}

func makeTopic(t *testing.T, adm *kadm.Client, topic string, configs map[string]*string) error {
	t.Helper()
	_, err := adm.CreateTopic(t.Context(), 4, 1, configs, topic)
	return err
}

// stopLimit is the longest that a node under load may take to stop cleanly, on a busy machine.
const stopLimit = 15 * time.Second

// cleanStop ends the node by SIGTERM. Each log directory then says that there is nothing to recover.
func cleanStop(t *testing.T, n *nodetest.Node, dirs []string) time.Duration {
	t.Helper()
	begin := time.Now()
	n.Stop()
	took := time.Since(begin)
	if took > stopLimit {
		t.Errorf("a clean stop took %v", took)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "clean-shutdown")); err != nil {
			t.Errorf("after a clean stop: %v", err)
		}
	}
	return took
}

func admin(t *testing.T, n *nodetest.Node) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

// awaitAcks waits until the ledger holds so many acknowledgements.
func awaitAcks(t *testing.T, l *ledger, want int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for l.count() < want {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("only %d of %d messages were acknowledged in two minutes", l.count(), want)
		}
	}
}

// waitFor lets the load run on for a random while, so that the kill falls anywhere.
func waitFor(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// eventually asks until f says yes.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// tearTails puts what a torn write leaves behind the last batch of every segment file that
// may be the active one: random bytes, as a power cut during an append would.
func tearTails(t *testing.T, n *nodetest.Node, rnd *mathrand.Rand) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(n.Dir, "data", "*", "*", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no segments below %s: %v", n.Dir, err)
	}
	newest := map[string]string{}
	for _, path := range logs {
		if dir := filepath.Dir(path); path > newest[dir] {
			newest[dir] = path
		}
	}
	for _, path := range newest {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		junk := make([]byte, 1+rnd.IntN(300))
		if _, err := rand.Read(junk); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(junk); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// commits moves one group's committed offset up and remembers how far.
type commits struct {
	mu struct {
		sync.Mutex
		tried, acked int64
	}
}

const committers = "committers"

func (c *commits) run(ctx context.Context, adm *kadm.Client) {
	for at := int64(1); ctx.Err() == nil; at++ {
		c.mu.Lock()
		c.mu.tried = at
		c.mu.Unlock()
		var os kadm.Offsets
		os.AddOffset("ledger", 0, at, -1)
		callCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		rs, err := adm.CommitOffsets(callCtx, committers, os)
		cancel()
		if err == nil && rs.Ok() {
			c.mu.Lock()
			c.mu.acked = at
			c.mu.Unlock()
		}
	}
}

func (c *commits) check(t *testing.T, adm *kadm.Client) {
	t.Helper()
	c.mu.Lock()
	acked := c.mu.acked
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var rs kadm.OffsetResponses
	var err error
	// Why again: this client notices only with the next request that a connection has ended with the process before, and
	// the coordinator look-up inside of FetchOffsets is the one request that it does not repeat by itself.
	eventually(t, "an answer about committed offsets", func() bool {
		if rs, err = adm.FetchOffsets(ctx, committers); err != nil {
			t.Logf("fetching committed offsets: %v", err)
		}
		return err == nil
	})
	c.mu.Lock()
	tried := c.mu.tried
	c.mu.Unlock()
	o, _ := rs.Lookup("ledger", 0)
	if o.At < acked || o.At > tried {
		t.Errorf("the committed offset is %d: acknowledged was %d, tried %d", o.At, acked, tried)
	}
}
