package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Options of a Broker. Zero values mean what stands behind each field.
type Options struct {
	Values *config.Values   // the node's settings; nil: all defaults
	Dirs   []string         // log directories; empty: the setting log.dirs
	FS     disk.FS          // where the logs are; nil: the real file system
	Stats  *stats.Broker    // where the numbers go; nil: a new set
	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// Broker is one node.
type Broker struct {
	node       metadata.BrokerID
	values     *config.Values
	dirs       []string
	fs         disk.FS
	stats      *stats.Broker
	log        *slog.Logger
	now        func() time.Time
	listen     []address
	advertise  []address
	settings   *settings
	membership *membership // nil: this node is alone
	between    string      // the inter-broker listener
	inside     *pipe
	dirFailed  chan struct{}       // capacity 1: a log directory failed, look at them
	announced  []metadata.Endpoint // see Announce

	mu struct {
		sync.Mutex
		state string // what is being done, while not ready
		ready bool
		rooms *rooms // nil before and after Run
		brake string
	}
}

// rooms is what runs between start and stop.
type rooms struct {
	doors    []wire.Listener
	store    *storage.Store
	quorum   *quorum.Quorum
	control  *controller.Controller
	peers    *peer.Client
	news     *publisher
	standing *attendance // nil before it is registered
	set      *replica.Set
	groups   *group.Coordinator
	txns     *txn.Coordinator
	markers  *markers
	api      *api.API
	server   *wire.Server
}

var (
	_ api.Controller   = (*controller.Controller)(nil)
	_ api.Quorum       = (*quorum.Quorum)(nil)
	_ api.Peers        = (*peer.Client)(nil)
	_ replica.Peers    = (*peer.Client)(nil)
	_ api.Groups       = (*group.Coordinator)(nil)
	_ api.TxnOffsets   = (*group.Coordinator)(nil)
	_ api.Transactions = (*txn.Coordinator)(nil)
	_ api.Replicas     = (*replica.Set)(nil)
	_ api.Disks        = (*storage.Store)(nil)
	_ wire.Handler     = (*api.API)(nil)
)

// New checks the settings and wires a node; it starts nothing.
//
// Errors: one line that names the setting and what is wrong with it.
func New(o Options) (*Broker, error) {
	if o.Values == nil {
		o.Values = config.Defaults()
	}
	if o.Stats == nil {
		o.Stats = stats.New()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = disk.Real{}
	}
	if len(o.Dirs) == 0 {
		o.Dirs = o.Values.List("log.dirs")
	}
	listen, advertise, err := addresses(o.Values)
	if err != nil {
		return nil, err
	}
	dirs, err := absolute(o.Dirs)
	if err != nil {
		return nil, err
	}
	between, err := interBroker(o.Values, listen)
	if err != nil {
		return nil, err
	}
	node := metadata.BrokerID(o.Values.Int("node.id"))
	part, err := readMembership(o.Values, node)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		node: node, membership: part, values: o.Values, dirs: dirs, fs: o.FS, stats: o.Stats, log: o.Logger, now: o.Now,
		listen: listen, advertise: advertise, settings: newSettings(node, o.Values),
		between: between, inside: newPipe(), dirFailed: make(chan struct{}, 1),
	}
	b.mu.state = "not started"
	return b, nil
}

// absolute makes the directories independent of the working directory and finds
// one that is named twice.
func absolute(dirs []string) ([]string, error) {
	if len(dirs) == 0 {
		return nil, errors.New("cannot store anything: log.dirs names no directory")
	}
	seen := map[string]bool{}
	out := make([]string, 0, len(dirs))
	for _, d := range dirs {
		abs, err := filepath.Abs(d)
		if err != nil {
			return nil, fmt.Errorf("cannot find log directory %q: %w", d, err)
		}
		if seen[abs] {
			return nil, fmt.Errorf("cannot use log directory %q twice: log.dirs names it more than once", d)
		}
		seen[abs] = true
		out = append(out, abs)
	}
	return out, nil
}

// Node gives the broker's ID.
func (b *Broker) Node() metadata.BrokerID { return b.node }

// Settings gives the node's effective settings of now: the file's with those set at
// run time over them.
func (b *Broker) Settings() *config.Values { return b.settings.values() }

// Stats gives the numbers that the node writes down.
func (b *Broker) Stats() *stats.Broker { return b.stats }

// Ready tells whether the node serves clients, and if not, why.
func (b *Broker) Ready() (bool, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mu.ready {
		return false, []string{b.mu.state}
	}
	var reasons []string
	select {
	case <-b.mu.rooms.quorum.Failed():
		reasons = append(reasons, "the metadata log has failed: no change of topics or settings is taken until this node is restarted")
	default:
	}
	return len(reasons) == 0, reasons
}

// Addr gives the address that a listener ("PLAINTEXT") listens on; nil before Run
// has opened it and after Run.
func (b *Broker) Addr(listener string) net.Addr {
	if r := b.running(); r != nil {
		for _, d := range r.doors {
			if d.Name == listener {
				return d.Net.Addr()
			}
		}
	}
	return nil
}

// ClusterID gives the instance ID; "" while the node is not ready.
func (b *Broker) ClusterID() string {
	if r := b.running(); r != nil && r.quorum != nil {
		return r.quorum.Image().ClusterID()
	}
	return ""
}

// RefuseProduce is the brake: client produce is refused with a retriable error and
// the reason as text until it is called with "". Everything else goes on. The brake
// outlasts a call before the node is ready. Brokers that lead partitions of which this one
// has a replica refuse produce for them, too, as soon as it fetches from them (within
// replica.fetch.wait.max.ms, while it follows).
func (b *Broker) RefuseProduce(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.brake = reason
	if b.mu.rooms != nil && b.mu.rooms.api != nil {
		b.mu.rooms.api.RefuseProduce(reason)
	}
}

// whyFull gives the brake's reason; "" while it is off.
func (b *Broker) whyFull() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.brake
}

// RefusedProduce gives how many produce requests the brake has refused since the
// node became ready.
func (b *Broker) RefusedProduce() int64 {
	if r := b.running(); r != nil && r.api != nil {
		return r.api.RefusedProduce()
	}
	return 0
}

// errStopped is what the agent's wishes meet while nothing runs.
var errStopped = errors.New("the broker is not running")

// FreeOldest deletes the oldest closed segments until so many bytes are freed; see storage.
// Where another broker leads, that one is asked to delete the same first, so that every
// replica begins at the same offset; nothing goes while it does not answer or refuses
// (compacted topics). A leader's followers follow it by themselves.
//
// Errors: the broker is not running; the disk's.
func (b *Broker) FreeOldest(ctx context.Context, bytes int64) (freed int64, err error) {
	r := b.running()
	if r == nil || r.store == nil {
		return 0, errStopped
	}
	return r.store.FreeOldest(ctx, bytes, func(p topic.Partition, below record.Offset) bool {
		return b.mayGo(ctx, r, p, below)
	})
}

// patienceToFree bounds how long a leader may take to delete what is wished here.
const patienceToFree = 5 * time.Second

// mayGo has a partition's leader delete what is below an offset; true when it did, or when
// this broker is the leader.
func (b *Broker) mayGo(ctx context.Context, r *rooms, p topic.Partition, below record.Offset) bool {
	if b.membership == nil {
		return true
	}
	part, err := r.set.Partition(p)
	if err != nil {
		return false
	}
	leader, _ := part.Leader()
	switch leader {
	case b.node:
		return true
	case metadata.NoBroker:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patienceToFree)
	defer cancel()
	if err := r.peers.DeleteBefore(ctx, leader, p, below); err != nil {
		b.log.Warn("a leader did not delete what this broker has no room for", "partition", p.String(), "leader", int(leader), "below", int64(below), "err", err)
		return false
	}
	return true
}

// Dirs gives the state of the log directories; nil while they are not open.
func (b *Broker) Dirs() []storage.Dir {
	if r := b.running(); r != nil && r.store != nil {
		return r.store.Dirs()
	}
	return nil
}

// running gives a copy of the rooms as they are now.
func (b *Broker) running() *rooms {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.rooms == nil {
		return nil
	}
	r := *b.mu.rooms
	return &r
}

// step notes what is being done, for Ready.
func (b *Broker) step(state string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.state = state
	b.log.Debug("broker start", "step", state)
}
