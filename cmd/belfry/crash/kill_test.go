package crash

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
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
		return 100
	}
	return 6
}

// TestKillUnderLoad kills the node while idempotent producers and a committing group are at
// work. Invariants: what was acknowledged is there, at its offset, once, whole; a committed
// offset never goes back.
func TestKillUnderLoad(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{
		"log.segment.bytes": "1048576", "log.flush.offset.checkpoint.interval.ms": "200",
	}})
	const partitions = 3
	adm := admin(t, n)
	if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, "ledger"); err != nil {
		t.Fatal(err)
	}
	l := newLedger("ledger", partitions)
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		workers.Go(func() { l.produce(ctx, t, n.Kafka, name) })
	}
	commits := &commits{}
	workers.Go(func() { commits.run(ctx, adm) })
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	for range rounds() {
		before := l.count()
		awaitAcks(t, l, before+200)
		waitFor(t, time.Duration(rnd.IntN(300))*time.Millisecond)
		n.Kill()
		if rnd.IntN(2) == 0 {
			tearTails(t, n, rnd)
		}
		n.Restart()
		l.verify(t.Context(), t, n.Kafka, true)
		commits.check(t, adm)
	}
	stop()
	workers.Wait()
	l.verify(t.Context(), t, n.Kafka, true)
	t.Logf("%d kills, %d messages acknowledged and found", rounds(), l.count())
	if l.count() == 0 {
		t.Error("nothing was acknowledged")
	}
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

// tearTails puts what a torn write leaves behind the last batch of every segment file that
// may be the active one: random bytes, as a power cut during an append would.
func tearTails(t *testing.T, n *nodetest.Node, rnd *mathrand.Rand) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(n.Dir, "data", "*", "*.log"))
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
	rs, err := adm.FetchOffsets(ctx, committers)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	tried := c.mu.tried
	c.mu.Unlock()
	o, _ := rs.Lookup("ledger", 0)
	if o.At < acked || o.At > tried {
		t.Errorf("the committed offset is %d: acknowledged was %d, tried %d", o.At, acked, tried)
	}
}
