package quorum

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// fabric is a network in memory whose links can be cut.
type fabric struct {
	mu struct {
		sync.Mutex
		doors map[string]*port
		cut   map[[2]string]bool // from, to: who dials whom
		links map[*link]bool
	}
}

func newFabric() *fabric {
	f := &fabric{}
	f.mu.doors, f.mu.cut, f.mu.links = map[string]*port{}, map[[2]string]bool{}, map[*link]bool{}
	return f
}

// port is a listener at one address.
type port struct {
	fabric *fabric
	at     string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

type place string

func (place) Network() string  { return "memory" }
func (p place) String() string { return string(p) }

func (f *fabric) listen(at string) *port {
	p := &port{fabric: f, at: at, conns: make(chan net.Conn), closed: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.doors[at] = p
	return p
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *port) Addr() net.Addr { return place(p.at) }

// link is one end of a connection.
type link struct {
	net.Conn
	fabric   *fabric
	from, to string
}

func (l *link) Close() error {
	l.fabric.mu.Lock()
	delete(l.fabric.mu.links, l)
	l.fabric.mu.Unlock()
	return l.Conn.Close()
}

func (l *link) RemoteAddr() net.Addr { return place(l.from) }

// dialer gives what the node at from dials with.
func (f *fabric) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		f.mu.Lock()
		p, cut := f.mu.doors[to], f.mu.cut[[2]string{from, to}]
		f.mu.Unlock()
		if p == nil || cut {
			return nil, fmt.Errorf("dial %s: no route", to)
		}
		near, far := net.Pipe()
		a, b := &link{near, f, from, to}, &link{far, f, from, to}
		f.mu.Lock()
		f.mu.links[a], f.mu.links[b] = true, true
		f.mu.Unlock()
		select {
		case p.conns <- b:
			return a, nil
		case <-p.closed:
		case <-ctx.Done():
		}
		return nil, errors.Join(fmt.Errorf("dial %s: refused", to), a.Close(), b.Close())
	}
}

// sever cuts who from dials at to; what is connected breaks.
func (f *fabric) sever(from, to string) {
	f.mu.Lock()
	f.mu.cut[[2]string{from, to}] = true
	var broken []*link
	for l := range f.mu.links {
		if l.from == from && l.to == to {
			broken = append(broken, l)
		}
	}
	f.mu.Unlock()
	for _, l := range broken {
		l.Close()
	}
}

// isolate cuts a node off in both directions.
func (f *fabric) isolate(at string, others []string) {
	for _, o := range others {
		if o != at {
			f.sever(at, o)
			f.sever(o, at)
		}
	}
}

func (f *fabric) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.mu.cut)
}

// crew is a cluster in one process.
type crew struct {
	t      *testing.T
	fabric *fabric
	first  []Voter
	dirs   map[metadata.BrokerID]string
	nodes  map[metadata.BrokerID]*node
	waits  map[metadata.BrokerID]*strings.Builder
	change func(*Options)
}

func newCrew(t *testing.T, size int) *crew {
	c := &crew{t: t, fabric: newFabric(), dirs: map[metadata.BrokerID]string{}, nodes: map[metadata.BrokerID]*node{}, change: func(*Options) {}}
	for i := range size {
		c.first = append(c.first, Voter{metadata.BrokerID(i + 1), c.at(metadata.BrokerID(i + 1))})
	}
	return c
}

func (c *crew) at(n metadata.BrokerID) string { return fmt.Sprintf("n%d:1", n) }

// options are those of one node.
func (c *crew) options(n metadata.BrokerID) Options {
	if c.dirs[n] == "" {
		c.dirs[n] = c.t.TempDir()
	}
	o := options(c.t, c.dirs[n])
	o.Node, o.ClusterID = n, ""
	o.Logger = o.Logger.With("node", int(n))
	o.Network = &Network{Listener: c.fabric.listen(c.at(n)), Address: c.at(n), Dial: c.fabric.dialer(c.at(n)), First: c.first}
	c.change(&o)
	return o
}

// entering is a node on its way into the cluster.
type entering struct {
	*Quorum
	done chan error
	mu   sync.Mutex
	wait string
	stop context.CancelFunc
	gate *atomic.Pointer[chan struct{}]
}

func (e *entering) waits() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wait
}

func (c *crew) enter(o Options) *entering {
	c.t.Helper()
	q, err := Open(o)
	if err != nil {
		c.t.Fatal(err)
	}
	e := &entering{Quorum: q, done: make(chan error, 1), gate: canHang(q)}
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go func() {
		e.done <- q.Enter(ctx, func(what string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.wait = what
		})
	}()
	return e
}

// run runs a node that has entered.
func (c *crew) run(e *entering) *node {
	c.t.Helper()
	if err := <-e.done; err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	n := &node{Quorum: e.Quorum, t: c.t, gate: e.gate}
	stopped := false
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		e.stop()
		return errors.Join(<-done, e.Close())
	}
	c.nodes[e.o.Node] = n
	return n
}

// start starts nodes that are members, or form the cluster together.
func (c *crew) start(nodes ...metadata.BrokerID) {
	c.t.Helper()
	var all []*entering
	for _, n := range nodes {
		all = append(all, c.enter(c.options(n)))
	}
	for _, e := range all {
		c.run(e)
	}
}

func (c *crew) stop(nodes ...metadata.BrokerID) {
	c.t.Helper()
	for _, n := range nodes {
		if q := c.nodes[n]; q != nil {
			delete(c.nodes, n)
			if err := q.stop(); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func (c *crew) stopAll() { c.stop(c.running()...) }

func (c *crew) running() []metadata.BrokerID {
	var ids []metadata.BrokerID
	for n := range c.nodes {
		ids = append(ids, n)
	}
	slices.Sort(ids)
	return ids
}

// leader waits for a node that leads.
func (c *crew) leader() *node {
	c.t.Helper()
	for range 6000 {
		for _, n := range c.running() {
			if leads, _ := c.nodes[n].Leading(); leads {
				return c.nodes[n]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("nobody leads after a minute")
	return nil
}

// propose has a topic made by whoever leads.
func (c *crew) propose(number int) {
	c.t.Helper()
	for range 600 {
		_, err := c.leader().Propose(c.t.Context(), created(number))
		if err == nil || errors.Is(err, ErrRefused) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("topic %d could not be made within a minute", number)
}

// agree waits until every running node has the leader's image.
func (c *crew) agree() {
	c.t.Helper()
	for range 6000 {
		want, same := c.leader().Image(), true
		for _, n := range c.nodes {
			if d := metadata.Diff(want, n.Image()); !d.Empty() || n.Image().ClusterID() != want.ClusterID() {
				same = false
			}
		}
		if same {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("the nodes do not agree after a minute")
}

// inBubble runs a test on virtual time.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestFormationNeedsAllAndAnyOrderDoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		third := c.enter(c.options(3))
		time.Sleep(time.Second)
		if w := third.waits(); !strings.Contains(w, "node 1 at n1:1") || !strings.Contains(w, "node 2 at n2:1") {
			t.Errorf("node 3 waits for %q", w)
		}
		first := c.enter(c.options(1))
		time.Sleep(3 * time.Second)
		if w := third.waits(); w != "waiting for node 2 at n2:1" {
			t.Errorf("node 3 waits for %q", w)
		}
		second := c.enter(c.options(2))
		for _, e := range []*entering{second, third, first} {
			c.run(e)
		}
		c.propose(1)
		c.agree()
		id := c.nodes[1].ClusterID()
		if id == "" || c.nodes[2].ClusterID() != id || c.nodes[3].Image().ClusterID() != id {
			t.Errorf("cluster IDs %q, %q, image %q", id, c.nodes[2].ClusterID(), c.nodes[3].Image().ClusterID())
		}
		c.stopAll()
		c.start(2, 3) // a majority does from now on
		c.propose(2)
		c.agree()
		c.start(1)
		c.agree()
		if c.nodes[1].Image().Topic("t2") == nil || c.nodes[1].ClusterID() != id {
			t.Error("node 1 has not caught up")
		}
		c.stopAll()
	})
}

func TestNodeWithLostDiskIsRefusedAndComesBackByToken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		c.agree()
		c.stop(2)
		c.propose(2)
		delete(c.dirs, 2)
		e := c.enter(c.options(2))
		err := <-e.done
		if err == nil || !strings.Contains(err.Error(), "another incarnation of node 2") || !strings.Contains(err.Error(), "belfry cluster voters remove 2") {
			t.Fatalf("an empty disk: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		token := c.token(time.Hour)
		joins := func() *entering {
			o := c.options(2)
			o.Network.Join = &token
			return c.enter(o)
		}
		e = joins()
		if err := <-e.done; err == nil || !strings.Contains(err.Error(), "node 2 is a voter already") {
			t.Fatalf("a join in a voter's place: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.leader().RemoveVoter(t.Context(), 2, topic.ID{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(silentFor)
		n := c.run(joins())
		c.agree()
		if n.Image().Topic("t2") == nil {
			t.Error("it has no metadata")
		}
		if err := c.leader().AddVoter(t.Context(), 2, topic.ID{}); err != nil {
			t.Fatal(err)
		}
		s, ok := c.leader().Status()
		if !ok || len(s.Voters) != 3 || len(s.Observers) != 0 {
			t.Errorf("status %+v", s)
		}
		c.stop(1) // the new one's vote counts
		c.propose(3)
		c.agree()
		c.stopAll()
	})
}

// token makes one that the cluster knows.
func (c *crew) token(life time.Duration) Token {
	c.t.Helper()
	var at []string
	for _, v := range c.first {
		at = append(at, v.Address)
	}
	l := c.leader()
	t, entry := NewToken(l.ClusterID(), at, time.Now().Add(life))
	res := metadata.Resource{Kind: metadata.BrokerResource}
	if _, err := l.Propose(c.t.Context(), []metadata.Record{&metadata.ConfigSet{Resource: res, Name: TokensSetting, Value: entry}}); err != nil {
		c.t.Fatal(err)
	}
	return t
}

func TestJoin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.change = func(o *Options) { o.SnapshotEvery = 20 }
		c.start(1, 2, 3)
		for i := range 60 {
			c.propose(i)
		}
		for _, n := range c.nodes {
			if err := n.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		token := c.token(time.Hour)
		if parsed, err := ParseToken(token.Text()); err != nil || parsed.Cluster != token.Cluster {
			t.Fatalf("token %q: %v", token.Text(), err)
		}
		// Whoever is asked first, a follower too, leads to the leader.
		joins := func(n metadata.BrokerID, token Token) *entering {
			o := c.options(n)
			o.Network.First, o.Network.Join = nil, &token
			return c.enter(o)
		}
		steps := 0
		e := joins(7, token)
		e.Subscribe(func(old, new *metadata.Image) {
			steps++
			if steps == 1 && (old.Index() != 0 || new.Topic("t59") == nil) {
				t.Errorf("the first image goes from %d to %d", old.Index(), new.Index())
			}
		})
		n := c.run(e)
		c.agree()
		if err := n.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, _ := c.leader().Status()
		if len(s.Voters) != 3 || len(s.Observers) != 1 || s.Observers[0].Node != 7 || s.Observers[0].End != s.End || s.Observers[0].CaughtUp.IsZero() {
			t.Errorf("status %+v", s)
		}
		c.stop(7)
		o := c.options(7) // a member needs no token, and no list
		o.Network.First = nil
		c.run(c.enter(o))
		c.propose(60)
		c.agree()

		wrong := token
		wrong.Secret = make([]byte, secretBytes)
		elsewhere := token
		elsewhere.Cluster = "elsewhere"
		short := c.token(time.Minute) // in place of the first one
		time.Sleep(2 * time.Minute)
		for what, token := range map[string]Token{
			"the join token is not known": wrong, `is for cluster "elsewhere"`: elsewhere, "the join token expired at": short,
		} {
			e := joins(8, token)
			if err := <-e.done; err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("want %q: %v", what, err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		again := c.token(time.Hour)
		dir := c.dirs[7]
		delete(c.dirs, 7)
		door := c.fabric.mu.doors[c.at(7)]
		o = c.options(7)
		o.Network.First, o.Network.Join, o.Network.Address = nil, &again, "n9:1"
		e = c.enter(o)
		if err := <-e.done; err == nil || !strings.Contains(err.Error(), "node 7 is a member already and answers") {
			t.Errorf("a second node 7: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		c.dirs[7], c.fabric.mu.doors[c.at(7)] = dir, door
		c.stopAll()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFollowersSeeAChangeAtOnce: without waiting for the library's timer.
func TestFollowersSeeAChangeAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		c.agree()
		time.Sleep(time.Second)
		for i := range 20 {
			began := time.Now()
			c.propose(100 + i)
			synctest.Wait()
			for id, n := range c.nodes {
				if n.Image().Topic(fmt.Sprintf("t%d", 100+i)) == nil {
					t.Errorf("node %d does not have topic %d, %v after it was proposed", id, 100+i, time.Since(began))
				}
			}
			time.Sleep(170 * time.Millisecond)
		}
		c.stopAll()
	})
}

// TestVotersChange: the leader itself may lose its vote; what would leave no majority is
// refused; a member that is not there gets no vote.
func TestVotersChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		c.agree()
		old := c.leader()
		if err := old.RemoveVoter(t.Context(), old.o.Node, topic.ID{}); err != nil {
			t.Fatal(err)
		}
		for c.leader() == old {
			time.Sleep(10 * time.Millisecond)
		}
		c.propose(2)
		c.agree()
		now := c.leader()
		refused := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		if err := old.AddVoter(t.Context(), 1, topic.ID{}); !errors.As(err, new(*NotLeaderError)) {
			t.Errorf("asked of a follower: %v", err)
		}
		refused("a voter twice", now.AddVoter(t.Context(), now.o.Node, topic.ID{}), ErrVoterThere)
		refused("a stranger", now.AddVoter(t.Context(), 9, topic.ID{}), ErrVoterNotFound)
		refused("another incarnation", now.AddVoter(t.Context(), old.o.Node, topic.ID{1}), ErrVoterNotFound)
		if err := now.AddVoter(t.Context(), old.o.Node, directory(old.self())); err != nil {
			t.Fatal(err)
		}
		refused("no voter", now.RemoveVoter(t.Context(), 9, topic.ID{}), ErrVoterNotFound)
		var other metadata.BrokerID
		for id := range c.nodes {
			if id != old.o.Node && id != now.o.Node {
				other = id
			}
		}
		c.stop(other)
		time.Sleep(silentFor)
		refused("one of the two that answer", now.RemoveVoter(t.Context(), old.o.Node, topic.ID{}), ErrMajority)
		if err := now.RemoveVoter(t.Context(), other, topic.ID{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		refused("one that is silent", now.AddVoter(ctx, other, topic.ID{}), ErrVoterBehind)
		if err := now.Forget(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if s, ok := now.Status(); !ok || len(s.Voters) != 2 || len(s.Observers) != 0 {
			t.Errorf("status %+v", s)
		}
		c.propose(3)
		c.stopAll()
	})
}

// TestReturnedMemberCatchesUpSoon: however long it was away.
func TestReturnedMemberCatchesUpSoon(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.start(1, 2, 3)
		c.propose(1)
		c.agree()
		away := c.leader().o.Node%3 + 1
		c.stop(away)
		for i := range 40 {
			c.propose(2 + i)
			time.Sleep(time.Second)
		}
		began := time.Now()
		c.start(away)
		if err := c.nodes[away].WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second || c.nodes[away].Image().Topic("t41") == nil {
			t.Errorf("it took %v to catch up", took)
		}
		c.stopAll()
	})
}
