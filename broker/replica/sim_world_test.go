package replica

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// world is a whole cluster in one test process: brokers (replica sets over real logs on
// disks in memory), the network between them and the controller. Its clock is synctest's.
type world struct {
	t       *testing.T
	seed    uint64
	flush   bool // flush.messages=1
	flaws   flaws
	nodes   []*simNode // ID = index+1
	control *modelController
	parts   int
	ctx     context.Context
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		r     *rand.Rand
		cut   map[[2]metadata.BrokerID]bool // no way from, to; 0 is the controller
		lossy float64                       // of requests and of answers
		slow  time.Duration
		trace []string
		acked []ackedRecord
		bad   map[int]spoilt // by partition; at most one replica at a time
		kept  []kept
		sent  int
	}
	began time.Time
}

// ackedRecord is one that a producer was promised.
type ackedRecord struct {
	part  int
	at    record.Offset
	value string
}

var errSim = errors.New("lost in the simulated network")

const simParts = 2

func newWorld(t *testing.T, seed uint64, flush bool, fl flaws) *world {
	w := &world{t: t, seed: seed, flush: flush, flaws: fl, parts: simParts, ctx: t.Context(), began: time.Now()}
	w.mu.r = rand.New(rand.NewPCG(seed, 4))
	w.mu.cut = make(map[[2]metadata.BrokerID]bool)
	w.mu.bad = make(map[int]spoilt)
	w.control = newModelController(3, w.parts, 2, w.say)
	for i := range 3 {
		w.nodes = append(w.nodes, &simNode{w: w, id: metadata.BrokerID(i + 1), fs: disk.NewMemory(0)})
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.trace = append(w.mu.trace, fmt.Sprintf("%8.3f ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// roll gives a number below n.
func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.r.IntN(n)
}

// road tells whether a message gets through, and after how long.
func (w *world) road(from, to metadata.BrokerID) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := time.Duration(w.mu.r.Int64N(int64(2*time.Millisecond))) + 50*time.Microsecond
	if w.mu.slow > 0 && w.mu.r.IntN(4) == 0 {
		wait += time.Duration(w.mu.r.Int64N(int64(w.mu.slow)))
	}
	return wait, !w.mu.cut[[2]metadata.BrokerID{from, to}] && w.mu.r.Float64() >= w.mu.lossy
}

// call does something at another place. A request that was lost is noticed after a while;
// one whose answer was lost has been done all the same, and one that its sender has given up
// may still be done later.
func call[T any](ctx context.Context, w *world, from, to metadata.BrokerID, do func() (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	done := make(chan answer, 1)
	w.wg.Go(func() {
		wait, there := w.road(from, to)
		sleep(w.ctx, wait)
		if !there {
			return
		}
		got, err := do()
		wait, back := w.road(to, from)
		sleep(w.ctx, wait)
		if back {
			done <- answer{got, err}
		}
	})
	timer := time.NewTimer(500 * time.Millisecond)
	defer timer.Stop()
	var none T
	select {
	case a := <-done:
		return a.got, a.err
	case <-timer.C:
		return none, errSim
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// simNode is one broker.
type simNode struct {
	w  *world
	id metadata.BrokerID
	fs *disk.Memory

	mu struct {
		sync.Mutex
		inc     int // life; odd: it lives
		set     *Set
		store   *storage.Store
		applied uint64
		epoch   int64
		kept    bool // it was the process alone that died
		lost    bool // what it had may not be all there, and the controller does not know
	}
	stop     func()
	sessions fakeSessions
}

// lives tells whether the node is still in that life.
func (n *simNode) lives(inc int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.inc == inc
}

// kept tells whether all that the life before wrote is there.
func (n *simNode) kept() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.kept
}

// now gives the node's set and its life; nil while it is down.
func (n *simNode) now() (*Set, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.inc%2 == 0 {
		return nil, n.mu.inc
	}
	return n.mu.set, n.mu.inc
}

// start brings a node up from what is on its disk.
func (n *simNode) start() {
	w := n.w
	store, err := storage.Open(storage.Options{
		FS: slowDisk{n.fs, w}, Dirs: []string{"/data"}, NodeID: int32(n.id), ClusterID: "sim", Now: time.Now,
		Kept: n.kept(), Checkpoint: 2 * time.Second, RetentionCheck: time.Hour, CleanEvery: time.Hour, Logger: slog.New(slog.NewTextHandler(saying{w, n}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		w.t.Fatalf("node %d cannot open its disk: %v", n.id, err)
	}
	over := map[string]string{"segment.bytes": "2048", "min.insync.replicas": "2"}
	if w.flush {
		over["flush.messages"] = "1"
	}
	values := config.TopicValues(config.Defaults(), nil, nil, over, 3)
	n.mu.Lock()
	n.mu.inc++
	inc := n.mu.inc
	n.mu.Unlock()
	set := New(Options{
		Node: n.id, Store: store, Logger: slog.New(slog.NewTextHandler(saying{w, n}, nil)), Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values { return values },
		Peers:    peersOf{w, n, inc}, ISR: controllerOf{w, n, inc},
		Replication: Replication{
			LagTime: 800 * time.Millisecond, FetchWait: 200 * time.Millisecond, FetchMinBytes: 1, FetchMaxBytes: 4096,
			FetchPartitionBytes: 1024, BackOff: 200 * time.Millisecond, SocketTimeout: time.Second, Fetchers: 1 + int(w.seed/8%2),
		},
	})
	set.flaws = w.flaws
	n.mu.Lock()
	n.mu.set, n.mu.store, n.mu.applied, n.mu.epoch = set, store, 0, -1
	n.mu.Unlock()
	n.sessions.clear()
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	wg.Go(func() { _ = set.Run(ctx) })
	wg.Go(func() { n.live(ctx, inc, set) })
	n.stop = func() { cancel(); wg.Wait() }
	w.say("node %d starts", n.id)
}

// live registers, sends heartbeats and follows the metadata.
func (n *simNode) live(ctx context.Context, inc int, set *Set) {
	w := n.w
	epoch := n.register(ctx, inc, set)
	var old *metadata.Image
	again := false
	for ctx.Err() == nil {
		if img, err := call(ctx, w, n.id, 0, func() (*metadata.Image, error) { return w.control.image(), nil }); err == nil && (img != old || again) && img.Broker(n.id).Epoch >= epoch {
			if again || old == nil || img.Index() > old.Index() {
				err := set.Apply(old, img)
				if again = errors.Is(err, errRests); err != nil && !again {
					w.t.Errorf("node %d cannot apply: %v", n.id, err)
				}
				old = img
			}
		}
		sent := time.Now()
		index := uint64(0)
		if old != nil {
			index = old.Index()
		}
		damaged := set.Damaged()
		mine := epoch // a late request still says the old one
		ok, err := call(ctx, w, n.id, 0, func() (bool, error) { return w.control.heartbeat(n.id, mine, index, damaged), nil })
		if err == nil && ok {
			set.Lease(sent.Add(simSession))
		} else if err == nil {
			epoch = n.register(ctx, inc, set) // an earlier request came late
		}
		sleep(ctx, time.Duration(w.roll(int(simHeartbeat))))
	}
}

// register makes the node known, and tells its set.
func (n *simNode) register(ctx context.Context, inc int, set *Set) (epoch int64) {
	for ctx.Err() == nil {
		var err error
		epoch, err = call(ctx, n.w, n.id, 0, func() (int64, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.mu.inc != inc {
				return 0, errSim
			}
			lost := n.mu.lost
			n.mu.lost = false
			return n.w.control.register(n.id, lost), nil
		})
		if err == nil {
			break
		}
	}
	set.Registered(epoch)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.epoch = epoch
	return epoch
}

// kill ends a node's life at once. With power it loses what was not synced, or some of it.
func (n *simNode) kill(power bool) {
	n.halt(power)
	n.bury()
}

// halt ends a node's life: whatever it does from now on is not seen by anybody, and not on
// its disk.
func (n *simNode) halt(power bool) {
	n.mu.Lock()
	n.mu.inc++
	n.mu.set = nil
	n.mu.lost = n.mu.lost || power && !n.w.flush
	n.mu.kept = !power
	n.mu.Unlock()
	seed := uint64(1) // everything is kept
	if power {
		seed = uint64(n.w.roll(1 << 30))
	}
	n.fs = n.fs.Crash(seed)
	n.w.say("node %d dies (power %t)", n.id, power)
}

// bury waits for what is left of a life.
func (n *simNode) bury() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// peersOf is the other brokers as one of them reaches them.
type peersOf struct {
	w   *world
	n   *simNode
	inc int
}

func (p peersOf) Fetch(ctx context.Context, to metadata.BrokerID, _ string, f *peer.Fetch) (*peer.FetchAnswer, error) {
	leader := p.w.nodes[to-1]
	return call(ctx, p.w, p.n.id, to, func() (*peer.FetchAnswer, error) {
		set, inc := leader.now()
		if set == nil {
			return nil, errSim
		}
		a, err := leader.sessions.serve(p.w, set, p.n.id, to, f)
		if !leader.lives(inc) {
			return nil, errSim
		}
		return a, err
	})
}

// fakeSessions is a leader's side of Fetch: what broker/api does, in short.
type fakeSessions struct {
	mu   sync.Mutex
	next int32
	all  map[int32]*fakeSession
}

type fakeSession struct {
	epoch int32
	over  chan struct{} // closed by the next request
	order list.List     // of *simWant
	index map[peer.PartitionID]*list.Element
}

type simWant struct {
	peer.FetchPartition
	told      bool
	hw, start record.Offset
	code      int16
}

func (s *fakeSessions) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

func (s *fakeSession) put(p peer.FetchPartition) {
	if e := s.index[p.PartitionID]; e != nil {
		e.Value.(*simWant).FetchPartition = p
		return
	}
	s.index[p.PartitionID] = s.order.PushBack(&simWant{FetchPartition: p})
}

// open finds or makes the session of a request and gives what it wants.
func (s *fakeSessions) open(f *peer.Fetch) (id int32, sess *fakeSession, wants []peer.FetchPartition, over chan struct{}, code int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[int32]*fakeSession)
	}
	if f.SessionEpoch == 0 {
		delete(s.all, f.Session)
		s.next++
		id = s.next
		sess = &fakeSession{index: make(map[peer.PartitionID]*list.Element)}
		s.all[id] = sess
	} else {
		id, sess = f.Session, s.all[f.Session]
		if sess == nil {
			return 0, nil, nil, nil, kerr.FetchSessionIDNotFound.Code
		}
		if f.SessionEpoch != sess.epoch {
			return 0, nil, nil, nil, kerr.InvalidFetchSessionEpoch.Code
		}
	}
	sess.epoch++
	if sess.over != nil {
		close(sess.over)
	}
	sess.over = make(chan struct{})
	for _, p := range f.Partitions {
		sess.put(p)
	}
	for _, p := range f.Forget {
		if e := sess.index[p]; e != nil {
			sess.order.Remove(e)
			delete(sess.index, p)
		}
	}
	for e := sess.order.Front(); e != nil; e = e.Next() {
		wants = append(wants, e.Value.(*simWant).FetchPartition)
	}
	return id, sess, wants, sess.over, 0
}

// serve answers a fetch, after a while if there is nothing.
func (s *fakeSessions) serve(w *world, set *Set, from, to metadata.BrokerID, f *peer.Fetch) (*peer.FetchAnswer, error) {
	id, sess, wants, over, code := s.open(f)
	if code != 0 {
		return &peer.FetchAnswer{Code: code}, nil
	}
	w.keep(kept{from, to, *f, wants})
	wake := make(chan struct{}, 1)
	for _, want := range wants {
		if p, err := set.Partition(nameOf(want.Partition)); err == nil {
			defer p.WatchEnd(func() { kick(wake) })()
		}
	}
	timer := time.NewTimer(f.Wait)
	defer timer.Stop()
	for last := false; ; {
		got, urgent := readWants(set, from, f, wants)
		if urgent || last {
			return &peer.FetchAnswer{Session: id, Partitions: s.settle(sess, got, f.SessionEpoch == 0)}, nil
		}
		select {
		case <-wake:
		case <-timer.C:
			last = true
		case <-over:
			last, over = true, nil
		case <-w.ctx.Done():
			return nil, errSim
		}
	}
}

func readWants(set *Set, from metadata.BrokerID, f *peer.Fetch, wants []peer.FetchPartition) (out []peer.FetchedPartition, urgent bool) {
	left := f.MaxBytes
	for _, w := range wants {
		got := readWant(set, from, f, w, min(left, w.MaxBytes), left == f.MaxBytes)
		left = max(0, left-len(got.Records))
		urgent = urgent || got.Code != 0 || got.Diverged || len(got.Records) > 0
		out = append(out, got)
	}
	return out, urgent
}

func readWant(set *Set, from metadata.BrokerID, f *peer.Fetch, w peer.FetchPartition, most int, minOne bool) peer.FetchedPartition {
	out := peer.FetchedPartition{PartitionID: w.PartitionID, HighWatermark: -1, LogStart: -1}
	p, err := set.Partition(nameOf(w.Partition))
	if err != nil {
		out.Code = kerr.NotLeaderForPartition.Code
		return out
	}
	got, err := p.ReadFollower(FollowerFetch{
		Broker: from, BrokerEpoch: f.BrokerEpoch, LeaderEpoch: w.LeaderEpoch, Offset: w.Offset,
		LastFetched: w.LastFetched, LogStart: w.LogStart, Max: most, MinOne: minOne,
	})
	if errors.Is(err, storage.ErrOffsetOutOfRange) {
		out.Code = kerr.OffsetOutOfRange.Code
	} else if err != nil {
		out.Code = kerr.NotLeaderForPartition.Code
		return out
	}
	out.HighWatermark, out.LogStart = got.HighWatermark, got.LogStart
	out.Diverged, out.EndEpoch, out.EndOffset = got.Diverged, got.EndEpoch, got.EndOffset
	if got.Slice.Len() > 0 {
		out.Records = make([]byte, got.Slice.Len())
		if _, err := got.Slice.ReadAt(out.Records, 0); err != nil {
			out.Code, out.Records = kerr.KafkaStorageError.Code, nil
		}
	}
	got.Slice.Release()
	return out
}

// settle gives what the follower must be told.
func (s *fakeSessions) settle(sess *fakeSession, got []peer.FetchedPartition, full bool) (out []peer.FetchedPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range got {
		e := sess.index[g.PartitionID]
		if e == nil {
			out = append(out, g)
			continue
		}
		w := e.Value.(*simWant)
		changed := !w.told || g.Code != 0 || w.code != 0 || g.Diverged || len(g.Records) > 0 || w.hw != g.HighWatermark || w.start != g.LogStart
		w.told, w.code, w.hw, w.start = true, g.Code, g.HighWatermark, g.LogStart
		if len(g.Records) > 0 {
			sess.order.MoveToBack(e)
		}
		if full || changed {
			out = append(out, g)
		}
	}
	return out
}

// produce sends one record to a node that takes itself for the leader.
func (w *world) produce(part int) {
	name := nameOf(int32(part))
	first := w.roll(len(w.nodes))
	for i := range w.nodes {
		n := w.nodes[(first+i)%len(w.nodes)]
		set, inc := n.now()
		if set == nil {
			continue
		}
		p, err := set.Partition(name)
		if err != nil || p.CheckLeader(-1) != nil {
			continue
		}
		w.mu.Lock()
		w.mu.sent++
		value := fmt.Sprintf("%d-%06d", part, w.mu.sent)
		w.mu.Unlock()
		a, err := p.Append(oneBatch(w.t, value), -1, time.Now())
		if err != nil {
			continue
		}
		p.Acked(a.Last+1, -1, 4*time.Second, func(err error) {
			if err != nil || !n.lives(inc) {
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.mu.acked = append(w.mu.acked, ackedRecord{part, a.Last, value})
		})
		return
	}
}

// slowDisk is a disk whose syncs of appended bytes take their time, so that there is
// something to lose. Syncs under a lock of storage's are not slowed down: synctest's clock
// stands still while somebody waits for a lock.
type slowDisk struct {
	*disk.Memory
	w *world
}

func (s slowDisk) Open(path string) (disk.Dir, error) {
	d, err := s.Memory.Open(path)
	return slowDir{d, s.w}, err
}

type slowDir struct {
	disk.Dir
	w *world
}

func (d slowDir) Create(name string) (disk.File, error) {
	f, err := d.Dir.Create(name)
	return slowFile(f, err, name, d.w)
}

func (d slowDir) OpenFile(name string) (disk.File, error) {
	f, err := d.Dir.OpenFile(name)
	return slowFile(f, err, name, d.w)
}

func slowFile(f disk.File, err error, name string, w *world) (disk.File, error) {
	if err != nil || len(name) < 4 || name[len(name)-4:] != ".log" {
		return f, err
	}
	return &slowLog{File: f, w: w}, nil
}

type slowLog struct {
	disk.File
	w        *world
	mu       sync.Mutex
	appended bool
}

func (f *slowLog) WriteAt(b []byte, at int64) (int, error) {
	f.mu.Lock()
	f.appended = true
	f.mu.Unlock()
	return f.File.WriteAt(b, at)
}

// Truncate is followed by a sync under a lock.
func (f *slowLog) Truncate(size int64) error {
	f.mu.Lock()
	f.appended = false
	f.mu.Unlock()
	return f.File.Truncate(size)
}

func (f *slowLog) Sync() error {
	f.mu.Lock()
	slow := f.appended
	f.appended = false
	f.mu.Unlock()
	if slow {
		sleep(f.w.ctx, time.Duration(f.w.roll(int(20*time.Millisecond))))
	}
	return f.File.Sync()
}

// byOffset orders acknowledged records.
func byOffset(a, b ackedRecord) int {
	return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.at, b.at))
}

// saying puts a node's log into the trace.
type saying struct {
	w *world
	n *simNode
}

func (s saying) Write(b []byte) (int, error) {
	s.w.say("node %d: %s", s.n.id, bytes.TrimSpace(b))
	return len(b), nil
}

// describe tells how a replica stands.
func (n *simNode) describe(part int) string {
	set, _ := n.now()
	p, err := set.Partition(nameOf(int32(part)))
	if err != nil {
		return fmt.Sprintf("  node %d: %v", n.id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprintf("  node %d: log %d to %d, durable %d, high watermark %d, leader %d epoch %d", n.id, p.log.Start(), p.log.End(), p.log.Durable(), p.HighWatermark(), p.mu.leader, p.mu.epoch)
	if l := p.mu.lead; l != nil {
		s += fmt.Sprintf(", isr %v + %v, state %d", l.isr.committed, l.isr.proposed, p.mu.partitionEpoch)
		if c := p.mu.change; c != nil {
			s += fmt.Sprintf(", change %+v tries %d", c.proposal, c.tries)
		}
		for id, o := range l.others {
			s += fmt.Sprintf(", %d at %d", id, o.end)
		}
	}
	return s
}
