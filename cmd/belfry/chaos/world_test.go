package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/cmd/belfry/ledger"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// healLimit is the longest that a cluster may need until all is in sync again and messages flow, on a busy machine. An
// hour holds many moments in which it is busy with something else; how long it took stands in the report.
func healLimit() time.Duration {
	if os.Getenv("BELFRY_LONG") != "" {
		return 5 * time.Minute
	}
	return 2 * time.Minute
}

// partitions of each topic.
const partitions = 6

// world is a cluster with a network that can be cut, and what works on it.
type world struct {
	*network
	*nodetest.Cluster
	rnd    *rand.Rand
	began  time.Time
	client *kgo.Client
	admin  *kadm.Client

	ledgers     []*ledger.Ledger
	ctx         context.Context // ends when the workers are to end
	stop        context.CancelFunc
	workers     sync.WaitGroup
	copying     context.Context // ends when the copiers are to end, after those who make what they copy
	stopCopying context.CancelFunc
	copiers     sync.WaitGroup
	ended       bool                // the nodes were, to hear their goroutines: nobody answers any more
	pairs       [][2]*ledger.Ledger // originals and copies
	groups      []*ledger.Shared
	oracles     []*ledger.Oracle

	volumes []*volume // by node
	clocks  string    // a folder
	load    []string  // what works on it, in words
	outages *outages
	report  report
}

// settings of each node: quick enough for a test, slow enough for a busy machine.
func settings() map[string]string {
	return map[string]string{
		"broker.heartbeat.interval.ms": "500", "broker.session.timeout.ms": "5000", "replica.lag.time.max.ms": "5000",
		"min.insync.replicas": "2", "default.replication.factor": "3", "offsets.topic.num.partitions": "4",
		"group.initial.rebalance.delay.ms": "0", "log.segment.bytes": "262144", "agent.period": "5s",
		"leader.imbalance.check.interval.seconds": "5", "leader.imbalance.per.broker.percentage": "0",
		"controlled.shutdown.timeout.ms": "20000", "log.flush.offset.checkpoint.interval.ms": "2000",
	}
}

// newWorld starts three nodes.
func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	t.Logf("seed %d", seed)
	w := &world{network: newNetwork(t, 3), rnd: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), clocks: t.TempDir()}
	w.report.faults = map[string]*suffered{}
	all := settings()
	w.Cluster = nodetest.Form(t, w.nodes, func(id int) nodetest.Options {
		v := w.volume(id)
		w.volumes = append(w.volumes, v)
		return nodetest.Options{Output: w.beside(fmt.Sprint("node-", id)), Settings: all, Dir: v.dir, Host: w.host(id), Namespace: w.namespace(id), Env: []string{"GOMAXPROCS=2", "BELFRY_CLOCK=" + w.clockFile(id)}}
	})
	w.Start()
	c, err := ledger.Client(w.Seeds())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w.client, w.admin = c, kadm.NewClient(c)
	w.ctx, w.stop = context.WithCancel(t.Context())
	w.copying, w.stopCopying = context.WithCancel(t.Context())
	t.Cleanup(w.end)
	return w
}

// end has all that works on the cluster end.
func (w *world) end() {
	w.stop()
	w.stopCopying()
	over := make(chan struct{})
	go func() {
		w.workers.Wait()
		w.copiers.Wait()
		close(over)
	}()
	if !w.ended {
		<-over
		return
	}
	select {
	case <-over:
	case <-time.After(10 * time.Second): // a client in a transaction waits for its answer for ever
	}
}

func (w *world) say(format string, args ...any) {
	w.t.Helper()
	w.t.Logf("%6.1f s  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// topic makes one with a ledger.
func (w *world) topic(o ledger.Options) *ledger.Ledger {
	w.t.Helper()
	o.Partitions = partitions
	o.Report = func(f ledger.Finding) {
		w.t.Errorf("%6.1f s  FOUND %s: %s", time.Since(w.began).Seconds(), f.Kind, f.Text)
	}
	l := ledger.New(o)
	w.eventually("topic "+o.Topic+" is made", func() string {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		defer cancel()
		_, err := w.admin.CreateTopic(ctx, partitions, 3, nil, o.Topic)
		if err != nil && !strings.Contains(err.Error(), "TOPIC_ALREADY_EXISTS") {
			return err.Error()
		}
		return ""
	})
	w.ledgers = append(w.ledgers, l)
	return l
}

// eventually asks until f has nothing to complain of.
func (w *world) eventually(what string, f func() string) {
	w.t.Helper()
	limit := time.After(healLimit())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		why := f()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			for _, l := range w.ledgers {
				w.say("%s: %d acknowledged", l.Topic, l.Count())
			}
			w.stacks()
			w.logs()
			w.t.Fatalf("%6.1f s  not within %v: %s: %s", time.Since(w.began).Seconds(), healLimit(), what, why)
		}
	}
}

// beside gives where all that a node or a client says goes, beside the report; nil = nowhere.
func (w *world) beside(name string) io.Writer {
	w.t.Helper()
	if reportPath() == "" {
		return nil
	}
	f, err := os.Create(fmt.Sprintf("%s.%s.log", reportPath(), name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = f.Close() }) // what a node says in the end is not missed
	return f
}

// stacks has each node end and say what each of its goroutines is at.
func (w *world) stacks() {
	w.ended = true
	for _, n := range w.Nodes {
		select {
		case <-n.Gone():
			continue
		default:
		}
		n.Signal(syscall.SIGCONT)
		n.Signal(syscall.SIGQUIT)
		select {
		case <-n.Gone():
		case <-time.After(10 * time.Second):
		}
	}
}

// logs prints the end of what each node said.
func (w *world) logs() {
	for i, n := range w.Nodes {
		lines := strings.Split(n.Log(), "\n")
		w.t.Logf("node %d:\n%s", i+1, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// pause lets things go on for a while.
func (w *world) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

// between gives a random duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)))
}

// exact puts idempotent producers, a reader of all and two members of a group to work.
func (w *world) exact(l *ledger.Ledger, perSecond int) {
	for _, k := range []struct {
		name string
		opts []kgo.Opt
	}{
		{"plain", []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}},
		{"zstd", []kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}},
		{"single", []kgo.Opt{kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxProduceRequestsInflightPerBroker(1), kgo.ProducerLinger(0)}},
	} {
		w.workers.Go(func() { l.Produce(w.ctx, w.Seeds(), k.name, perSecond, k.opts...) })
	}
	w.load = append(w.load, fmt.Sprintf("3 idempotent producers (franz-go; no compression, zstd, lz4) of %d messages/s each", perSecond))
	w.follow(l)
}

// weak puts producers to work that are promised less, and a group.
func (w *world) weak(l *ledger.Ledger, perSecond int) {
	for _, k := range []struct {
		name     string
		strength ledger.Strength
		opts     []kgo.Opt
	}{
		{"loose", ledger.Loose, []kgo.Opt{kgo.DisableIdempotentWrite()}},
		{"leader", ledger.Weak, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())}},
		{"nobody", ledger.Weak, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())}},
	} {
		l.Promise(k.name, k.strength)
		w.workers.Go(func() { l.Produce(w.ctx, w.Seeds(), k.name, perSecond, k.opts...) })
	}
	w.load = append(w.load, fmt.Sprintf("producers without idempotence with acks=all, 1 and 0, %d messages/s each", perSecond))
	w.follow(l)
}

// transactional puts producers of transactions to work, a reader of committed messages and a group.
func (w *world) transactional(l *ledger.Ledger) {
	for i := range 2 {
		name := fmt.Sprint("tx-", i)
		rnd := rand.New(rand.NewPCG(w.rnd.Uint64(), 0))
		w.workers.Go(func() {
			committed, aborted, unsure := l.Transact(w.ctx, w.Seeds(), name, rnd)
			w.say("%s: %d transactions committed, %d aborted, %d of which the client did not know", name, committed, aborted, unsure)
		})
	}
	w.load = append(w.load, "2 producers of transactions, some aborted, some outlived by another producer of the same ID")
	w.follow(l)
}

// copied puts two members of a group to work that copy one topic into another, each message exactly once.
func (w *world) copied(from, to *ledger.Ledger) {
	for i := range 2 {
		w.copiers.Go(func() { from.Copy(w.copying, w.Seeds(), "copiers", fmt.Sprint("copier-", i), to) })
	}
	w.load = append(w.load, "2 members of a group that copy these exactly once")
	w.follow(to)
	w.pairs = append(w.pairs, [2]*ledger.Ledger{from, to})
}

// follow puts a reader of all and two members of a group to work.
func (w *world) follow(l *ledger.Ledger) {
	w.workers.Go(func() {
		if l.Follow(w.ctx, w.Seeds(), "a reader") == 0 {
			w.t.Error("the reader was given nothing")
		}
	})
	shared := l.ShareMembers("the group of " + l.Topic)
	w.groups = append(w.groups, shared)
	oracle := l.Oracle("group-of-" + l.Topic)
	w.oracles = append(w.oracles, oracle)
	for range 2 {
		w.workers.Go(func() { l.Join(w.ctx, w.Seeds(), oracle.Group(), shared, oracle) })
	}
	w.workers.Go(func() { oracle.Watch(w.ctx, w.client) })
}

// detail gives what one node says of a topic's partitions.
func (w *world) detail(id int, topic string) (kadm.PartitionDetails, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	ask := kmsg.NewPtrMetadataRequest()
	ask.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	got, err := ask.RequestWith(ctx, w.client.SeedBrokers()[id-1])
	if err != nil {
		return nil, err
	}
	d := kadm.PartitionDetails{}
	for _, p := range got.Topics[0].Partitions {
		d[p.Partition] = kadm.PartitionDetail{Topic: topic, Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR}
	}
	return d, nil
}

// leader gives who leads a partition; 0 = nobody knows.
func (w *world) leader(topic string, partition int32) int {
	for _, id := range w.ids() {
		if d, err := w.detail(id, topic); err == nil && d[partition].Leader > 0 {
			return int(d[partition].Leader)
		}
	}
	return 0
}

// controller gives who leads the metadata as one node says; 0 = it does not know, or why it cannot be asked.
func (w *world) controller() (id int, why string) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	asked := w.ids()[0]
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, w.client.SeedBrokers()[asked-1])
	switch {
	case err != nil:
		return 0, fmt.Sprintf("node %d: %v", asked, err)
	case resp.ControllerID < 1:
		return 0, fmt.Sprintf("node %d knows none", asked)
	}
	return int(resp.ControllerID), ""
}

// healed waits until every replica is in sync and every ledger gets acknowledgements, and every group reads. It gives
// how long that took until all was in sync.
func (w *world) healed() time.Duration {
	w.t.Helper()
	began := time.Now()
	for _, l := range w.ledgers {
		w.eventually("all replicas of "+l.Topic+" in sync", func() string {
			for id := range w.Nodes {
				d, err := w.detail(id+1, l.Topic)
				if err != nil {
					return fmt.Sprintf("node %d: %v", id+1, err)
				}
				for p := range int32(partitions) {
					if len(d[p].ISR) != 3 || d[p].Leader < 1 {
						return fmt.Sprintf("node %d says %+v", id+1, d[p])
					}
				}
			}
			return ""
		})
	}
	synced, slow := time.Since(began), ""
	for _, l := range w.ledgers {
		from, count, asked := l.Acked(), l.Count(), time.Now()
		w.eventually("messages of "+l.Topic+" flow", func() string {
			if n := l.Count() - count; n < 50 {
				return fmt.Sprintf("only %d were acknowledged", n)
			}
			now := l.Acked()
			for name, before := range from {
				for p := range before {
					if now[name][p] == before[p] && !strings.HasPrefix(name, "tx-") { // which begin anew under other names
						return fmt.Sprintf("nothing of %s was acknowledged in partition %d", name, p)
					}
				}
			}
			return ""
		})
		if d := time.Since(asked); d > 5*time.Second {
			slow += fmt.Sprintf("; %s took %.1f s", l.Topic, d.Seconds())
		}
	}
	for _, g := range w.groups {
		from, asked := g.Next(), time.Now()
		w.eventually(g.Who()+" reads", func() string {
			for p, o := range g.Next() {
				if o <= from[p] {
					return fmt.Sprintf("partition %d stands at %d", p, o)
				}
			}
			return ""
		})
		if d := time.Since(asked); d > 5*time.Second {
			slow += fmt.Sprintf("; %s took %.1f s", g.Who(), d.Seconds())
		}
	}
	w.say("healed: in sync after %.1f s, flowing after %.1f s%s", synced.Seconds(), time.Since(began).Seconds(), slow)
	return synced
}

// finish stops the load and compares everything.
func (w *world) finish() {
	w.t.Helper()
	w.stop()
	w.workers.Wait()
	for _, p := range w.pairs {
		w.stable(p[0])
		behind := func() bool { return p[1].Count() < p[0].Count() }
		began := time.Now()
		for before := -1; p[1].Count() > before || behind() && time.Since(began) < time.Minute; w.pause(5 * time.Second) {
			before = p[1].Count() // until the copiers have nothing to do
		}
	}
	w.stopCopying()
	w.copiers.Wait()
	looked, late := 0, 0
	for _, o := range w.oracles {
		n, l := o.End()
		looked, late = looked+n, late+l
	}
	line := fmt.Sprintf("groups: %d committed offsets looked at; %d answers by a coordinator that was deposed and had not heard of it", looked, late)
	w.report.lines = append(w.report.lines, line)
	w.say("%s", line)
	for _, l := range w.ledgers {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
		if l.Holes {
			w.stable(l)
		}
		weak, err := l.Verify(ctx, w.Seeds(), "read back")
		cancel()
		if err != nil {
			w.t.Error(err)
		}
		line := fmt.Sprintf("%s: %d messages acknowledged, %d of acks=0 and 1 gone, %d sent again by their client under a new epoch of its producer, ends %v, %d findings",
			l.Topic, l.Count(), weak, l.Renewed(), l.Tops(), len(l.Findings()))
		w.report.lines = append(w.report.lines, line)
		w.say("%s", line)
		if l.Count() == 0 {
			w.t.Error("nothing was acknowledged")
		}
	}
	for _, p := range w.pairs {
		p[0].Complete(p[1])
	}
	w.identical()
	w.alike("__consumer_offsets")
	w.alike("__transaction_state")
	if w.t.Failed() {
		w.logs()
	}
}

// stable waits until no transaction is open.
func (w *world) stable(l *ledger.Ledger) {
	w.t.Helper()
	w.eventually("no transaction of "+l.Topic+" is open", func() string {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		defer cancel()
		open, err := l.Stable(ctx, w.client)
		if err != nil {
			return err.Error()
		}
		return open
	})
}

// ids gives the nodes in random order.
func (w *world) ids() []int {
	ids := []int{1, 2, 3}
	w.rnd.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func (w *world) node(id int) *nodetest.Node { return w.Nodes[id-1] }

// others gives all but one.
func (w *world) others(id int) []int {
	return slices.DeleteFunc(w.ids(), func(i int) bool { return i == id })
}
