// Package gossip lets the agents of a cluster's nodes tell each other small states:
// which alarms fire, what was told, what is silenced. It is Alertmanager's way of
// doing so – the same library below it, states that are merged, a full exchange now
// and then – with three differences: it can be stopped, its peers are those that the
// cluster knows at the moment, and a shared secret encrypts it.
//
// It knows nothing of what it carries. A state is told to everybody when it changes
// (Tell) and exchanged as a whole with one other node every half minute and with
// everybody that is met for the first time, so that whoever missed something gets it
// then. Nothing is promised about order: what is merged has to say itself which of
// two is newer.
//
// Invariant: Tell never waits, whatever hangs; what does not fit is counted and
// comes with the next full exchange.
//
// Road in: Tell, and the network. Road out: State.Merge.
package gossip

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what nodes tell each other under one name.
type State interface {
	// Share gives all of it, for a node that may have missed something; nil when there
	// is nothing to tell.
	Share() []byte
	// Merge takes what another node told or shared. It does not keep b. It must not wait
	// for the network.
	Merge(b []byte) error
}

// Options of a Mesh.
type Options struct {
	Listen  string          // HOST:PORT, TCP and UDP; the host is an address or resolves to one; port 0 = any free
	Node    string          // this node's ID
	Cluster func() string   // the cluster's ID, "" until it is known; nodes of another one are not let in
	Peers   func() []string // where the other nodes' meshes listen, HOST:PORT each, as far as the cluster knows
	Secret  string          // shared by all nodes; encrypts and authenticates what is said. Required beyond loopback
	Logger  *slog.Logger    // required
}

const (
	// lookEvery is how often the cluster's ID is asked for until it is known; joinSoon and
	// joinEvery how often peers are looked for that are not met yet, at first and later.
	lookEvery = 50 * time.Millisecond
	joinSoon  = 200 * time.Millisecond
	joinEvery = 2 * time.Second
	// settleLimit is how long a node that meets nobody is unsettled.
	settleLimit = 10 * time.Second
	// exchangeEvery is the pause between full exchanges with one other node.
	exchangeEvery = 30 * time.Second
	// sendLimit bounds one transmission, leaveLimit a farewell.
	sendLimit  = 3 * time.Second
	leaveLimit = time.Second
	// inboxSize bounds what was heard and is not merged yet; outboxSize the transmissions
	// under way. A period and a delivery make one each, for at most some dozens of nodes.
	inboxSize  = 1024
	outboxSize = 256
)

// Mesh is one node's part. Made by Open, driven by Run.
type Mesh struct {
	o         Options
	log       *slog.Logger
	door      *net.TCPAddr
	transport *memberlist.NetTransport // of the first Run; nil later
	states    map[string]State
	inbox     chan delivery
	outbox    chan struct{} // one token a transmission under way
	settled   chan struct{}
	settle    sync.Once
	dropped   atomic.Int64
	sends     sync.WaitGroup

	mu struct {
		sync.RWMutex
		list *memberlist.Memberlist // nil unless Run runs
	}
}

// delivery is what came from another node; merged, if set, is called once it is merged.
type delivery struct {
	frames []frame
	merged func()
}

// ErrNoSecret says that one is needed: whoever reached the port could silence alarms.
var ErrNoSecret = errors.New("beyond loopback they need a secret")

// Open checks the options and takes the port. Nothing is said before Run.
//
// Errors: an address that cannot be listened on, or that needs a secret.
func Open(o Options) (*Mesh, error) {
	door, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot use %q as address for the agents of other nodes: %w", o.Listen, err)
	}
	if door.IP == nil || door.IP.IsUnspecified() {
		return nil, fmt.Errorf("cannot use %q as address for the agents of other nodes: name the address at which they reach this one", o.Listen)
	}
	if !door.IP.IsLoopback() && o.Secret == "" {
		return nil, fmt.Errorf("cannot listen on %q for the agents of other nodes: %w", o.Listen, ErrNoSecret)
	}
	m := &Mesh{
		o: o, log: o.Logger, door: door, states: map[string]State{},
		inbox: make(chan delivery, inboxSize), outbox: make(chan struct{}, outboxSize), settled: make(chan struct{}),
	}
	if m.transport, err = m.listen(); err != nil {
		return nil, err
	}
	door.Port = m.transport.GetAutoBindPort()
	return m, nil
}

// attempts is how often a free port is looked for: TCP's may be taken for UDP.
const attempts = 10

func (m *Mesh) listen() (*memberlist.NetTransport, error) {
	var err error
	for range attempts {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{m.door.IP.String()}, BindPort: m.door.Port, Logger: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
		})
		if err == nil {
			return t, nil
		}
		if m.door.Port != 0 {
			break
		}
	}
	return nil, fmt.Errorf("cannot listen for the agents of other nodes: %w", err)
}

// Close gives the port back where Run was never called.
func (m *Mesh) Close() error {
	if m.transport == nil {
		return nil
	}
	return m.transport.Shutdown()
}

// Addr is where other nodes reach this one, HOST:PORT.
func (m *Mesh) Addr() string { return m.door.String() }

// Add makes a state known. Requires: Run was not called yet.
func (m *Mesh) Add(name string, s State) {
	if len(name) == 0 || len(name) > maxName || m.states[name] != nil {
		panic("BUG: gossip state " + name + " has no name, a long one, or one that is taken")
	}
	m.states[name] = s
}

// Settled tells whether this node has heard from another one since Run began, or has waited
// for that in vain long enough to go on alone.
func (m *Mesh) Settled() bool {
	select {
	case <-m.settled:
		return true
	default:
		return false
	}
}

// AwaitSettled gives a channel that is closed then.
func (m *Mesh) AwaitSettled() <-chan struct{} { return m.settled }

// Dropped counts what was neither sent nor merged because too much was under way.
func (m *Mesh) Dropped() int64 { return m.dropped.Load() }

// Nodes gives the IDs of the nodes that are met at the moment, this one included; sorted.
func (m *Mesh) Nodes() []string {
	m.mu.RLock()
	list := m.mu.list
	m.mu.RUnlock()
	if list == nil {
		return nil
	}
	var all []string
	for _, n := range list.Members() {
		all = append(all, string(n.Meta))
	}
	slices.Sort(all)
	return all
}

// Tell sends part of a state to every node that is met. It does not wait; sent is closed when it
// has left for all of them, or was given up.
func (m *Mesh) Tell(name string, b []byte) (sent <-chan struct{}) {
	done := make(chan struct{})
	m.mu.RLock() // until all have begun, so that Run waits for them
	defer m.mu.RUnlock()
	list := m.mu.list
	if list == nil {
		close(done)
		return done // nobody is met yet: the first exchange brings it
	}
	var under sync.WaitGroup
	message := appendFrame(nil, name, b)
	self := list.LocalNode().Name
	for _, n := range list.Members() {
		if n.Name == self {
			continue
		}
		select {
		case m.outbox <- struct{}{}:
		default:
			m.dropped.Add(1)
			continue
		}
		under.Add(1)
		m.sends.Go(func() {
			defer under.Done()
			defer func() { <-m.outbox }()
			if err := list.SendReliable(n, message); err != nil {
				m.log.Debug("the agent of another node was not told", "node", string(n.Meta), "state", name, "err", err)
			}
		})
	}
	m.sends.Go(func() {
		under.Wait()
		close(done)
	})
	return done
}

// Run meets the other nodes and merges what they say until ctx ends. It may be called again
// after it returned.
func (m *Mesh) Run(ctx context.Context) error {
	id := m.awaitCluster(ctx)
	if id == "" {
		return nil // it ended before
	}
	list, err := m.create(id)
	if err != nil {
		return err
	}
	m.setList(list)
	var merging sync.WaitGroup
	mergeCtx, stopMerging := context.WithCancel(context.WithoutCancel(ctx))
	merging.Go(func() { m.merge(mergeCtx) })
	m.meet(ctx, list)
	m.setList(nil)
	m.sends.Wait()
	// Why the error is not told: who did not hear the farewell finds out by itself.
	_ = list.Leave(leaveLimit)
	err = list.Shutdown()
	stopMerging()
	merging.Wait()
	return err
}

func (m *Mesh) setList(list *memberlist.Memberlist) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.list = list
}

// awaitCluster waits until the cluster's ID is known; "" when ctx ended.
func (m *Mesh) awaitCluster(ctx context.Context) string {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if id := m.o.Cluster(); id != "" {
			return id
		}
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
	}
}

// create joins the library's parts.
func (m *Mesh) create(cluster string) (*memberlist.Memberlist, error) {
	transport := m.transport
	m.transport = nil
	if transport == nil {
		var err error
		if transport, err = m.listen(); err != nil {
			return nil, err
		}
	}
	life := make([]byte, 4)
	if _, err := rand.Read(life); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot name this node: %w", err), transport.Shutdown())
	}
	conf := memberlist.DefaultLANConfig()
	// Why a name for each life: the library takes a node that comes back at another address for
	// an impostor until it has given the old one up.
	conf.Name = m.o.Node + "/" + hex.EncodeToString(life)
	conf.Label = "belfry " + cluster
	conf.BindAddr, conf.BindPort = m.door.IP.String(), m.door.Port
	conf.AdvertiseAddr, conf.AdvertisePort = conf.BindAddr, conf.BindPort
	conf.Transport, conf.Delegate = transport, delegate{m}
	conf.TCPTimeout, conf.PushPullInterval = sendLimit, exchangeEvery
	conf.Logger = slog.NewLogLogger(m.log.Handler(), slog.LevelDebug)
	if m.o.Secret != "" {
		key := sha256.Sum256([]byte(m.o.Secret))
		conf.SecretKey = key[:]
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return nil, fmt.Errorf("cannot meet the agents of other nodes: %w", err)
	}
	return list, nil
}

// meet joins whom the cluster knows and this node has not met, again and again, until ctx ends.
func (m *Mesh) meet(ctx context.Context, list *memberlist.Memberlist) {
	met := map[string]bool{} // whom this node has exchanged all with; others may have told it of more nodes
	tick := time.NewTicker(joinSoon)
	defer tick.Stop()
	limit := time.NewTimer(settleLimit)
	defer limit.Stop()
	for {
		for _, at := range m.o.Peers() {
			there := slices.ContainsFunc(list.Members(), func(n *memberlist.Node) bool { return n.Address() == at })
			if ctx.Err() != nil || at == m.Addr() || there && met[at] {
				continue
			}
			_, err := list.Join([]string{at})
			if met[at] = err == nil; !met[at] {
				m.log.Debug("the agent of another node is not met yet", "at", at, "err", err)
			}
		}
		if m.Settled() {
			tick.Reset(joinEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			m.settle.Do(func() { close(m.settled) })
		case <-tick.C:
		}
	}
}

// merge hands on what was heard, until ctx ends.
func (m *Mesh) merge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-m.inbox:
			for _, f := range d.frames {
				s := m.states[f.name]
				if s == nil {
					continue // of a newer program
				}
				if err := s.Merge(f.body); err != nil {
					m.log.Warn("what the agent of another node said is not understood", "state", f.name, "err", err)
				}
			}
			if d.merged != nil {
				d.merged()
			}
		}
	}
}

// hear takes a message of another node without waiting.
func (m *Mesh) hear(b []byte, merged func()) {
	frames, err := readFrames(slices.Clone(b)) // the library uses b again
	if err != nil {
		m.log.Warn("a message of another node's agent is damaged", "err", err)
		return
	}
	select {
	case m.inbox <- delivery{frames, merged}:
	default:
		m.dropped.Add(1)
	}
}

// delegate is the Mesh as the library sees it.
type delegate struct{ m *Mesh }

var _ memberlist.Delegate = delegate{}

// NodeMeta tells others this node's ID.
func (d delegate) NodeMeta(limit int) []byte { return []byte(d.m.o.Node)[:min(len(d.m.o.Node), limit)] }

// NotifyMsg takes what another node tells.
func (d delegate) NotifyMsg(b []byte) { d.m.hear(b, nil) }

// GetBroadcasts has nothing: what is told goes to each node by itself.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState gives all states for a full exchange.
func (d delegate) LocalState(bool) []byte {
	var b []byte
	for name, s := range d.m.states {
		if part := s.Share(); part != nil {
			b = appendFrame(b, name, part)
		}
	}
	return b
}

// MergeRemoteState takes all states of another node.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	d.m.hear(b, func() { d.m.settle.Do(func() { close(d.m.settled) }) })
}
