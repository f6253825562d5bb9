package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

// ErrAtOnce as the cause of the context's end stops a node without waiting until others
// lead what it led.
var ErrAtOnce = errors.New("stop at once")

// Run is the node's life: it opens its doors and its logs, takes part in the
// quorum, registers, catches up, serves until ctx ends, answers what is in flight,
// flushes and closes. All its goroutines are over when it returns.
//
// Errors: what kept the node from starting or made it stop, one line where it can
// be said in one; nil after a wished and clean end. It is called once.
func (b *Broker) Run(ctx context.Context) error {
	p := newParts(b.log)
	err := b.start(ctx, p)
	if err == nil {
		err = b.serve(ctx, p)
	}
	b.mu.Lock()
	b.mu.ready, b.mu.state = false, "stopping"
	b.mu.Unlock()
	if !errors.Is(context.Cause(ctx), ErrAtOnce) {
		b.leave(err == nil)
	}
	epoch, whole := b.standing()
	if stopErr := p.stop(); err == nil {
		err = stopErr
	} else if stopErr != nil {
		b.log.Error("the broker could not stop cleanly", "err", stopErr)
	}
	if err == nil && whole {
		err = b.stoppedWell(epoch)
	}
	b.mu.Lock()
	b.mu.rooms, b.mu.state = nil, "stopped"
	b.mu.Unlock()
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // the wish to stop came while it started
	}
	return err
}

// serve waits for the end.
func (b *Broker) serve(ctx context.Context, p *parts) error {
	b.mu.Lock()
	b.mu.ready, b.mu.state = true, ""
	b.mu.Unlock()
	b.log.Info("the broker is ready", "node", int(b.node), "cluster", b.ClusterID())
	for {
		select {
		case <-ctx.Done():
			b.log.Info("the broker stops")
			return nil
		case err := <-p.failed:
			return err
		case <-b.dirFailed:
			b.dirGone()
			if err := b.lastDirGone(); err != nil {
				return err
			}
		}
	}
}

// lastDirGone tells that no log directory is left (R19).
func (b *Broker) lastDirGone() error {
	var why []string
	for _, d := range b.Dirs() {
		if d.Err == nil {
			return nil
		}
		why = append(why, d.Err.Error())
	}
	return fmt.Errorf("cannot go on: every log directory has failed: %s", strings.Join(why, "; "))
}

// start brings the node up. What it has started is in p, also when it fails.
func (b *Broker) start(ctx context.Context, p *parts) error {
	r := &rooms{}
	b.step("opening listeners")
	var err error
	if r.doors, err = open(b.listen); err != nil {
		return err
	}
	p.add("listeners", func() error { shut(r.doors); return b.inside.Close() })
	b.show(r)

	if b.membership != nil {
		err = b.enter(ctx, r, p)
	} else {
		err = b.openAlone(r, p)
	}
	if err != nil {
		return err
	}
	b.step("reading the metadata log")
	road, err := b.join(r, p)
	if err != nil {
		return err
	}
	p.run("the metadata log", r.quorum.Run)
	if err := b.catchUp(ctx, r, p); err != nil {
		return err
	}
	b.step("registering")
	if err := b.register(ctx, r, road); err != nil {
		return err
	}
	b.step("taking up partitions")
	r.news.start(r.quorum.Image())
	p.run("the partitions that failed", r.news.run)
	b.step("waiting to be put into service")
	if err := r.standing.serve(ctx); err != nil {
		return fmt.Errorf("cannot put broker %d into service: %w", b.node, err)
	}
	p.run("the heartbeats", r.standing.run)
	b.step("opening the doors")
	return b.openDoors(r, p)
}

// catchUp waits until this node has the cluster's metadata of now, and a version of
// the cluster that it can serve.
func (b *Broker) catchUp(ctx context.Context, r *rooms, p *parts) error {
	if b.membership == nil {
		if err := r.quorum.WaitLeading(ctx); err != nil {
			return fmt.Errorf("cannot catch up with the metadata log: %w", err)
		}
		return b.firstDuties(ctx, r)
	}
	p.run("the metadata log's disk", func(ctx context.Context) error { return b.watchMetadata(ctx, r.quorum) })
	if err := b.follow(ctx, r.quorum); err != nil {
		return fmt.Errorf("cannot catch up with the metadata log: %w", err)
	}
	p.run("the leader's first duties", func(ctx context.Context) error { return b.reign(ctx, r) })
	return b.awaitDuties(ctx, r)
}

// show lets the outside see the rooms there are.
func (b *Broker) show(r *rooms) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := *r
	b.mu.rooms = &seen
	if r.api != nil {
		r.api.RefuseProduce(b.mu.brake)
	}
}

// openAlone opens the logs and the metadata log of a node that is its own cluster.
func (b *Broker) openAlone(r *rooms, p *parts) (err error) {
	b.step("recovering logs")
	if err := b.openStore(r, p, ""); err != nil {
		return err
	}
	r.quorum, err = quorum.Open(quorum.Options{
		Dir: filepath.Join(b.dirs[0], quorum.DirName), Node: b.node, ClusterID: r.store.ClusterID(),
		// Why: to a new, empty cluster every log would be one of a deleted topic (R25).
		MustExist: len(r.store.Logs()) > 0, Logger: b.log, Now: b.now,
	})
	if err != nil {
		return err
	}
	p.add("the metadata log's files", r.quorum.Close)
	return nil
}

// openStore opens the logs; cluster is the ID that they must have, "" for what they have.
func (b *Broker) openStore(r *rooms, p *parts, cluster string) (err error) {
	v := b.values
	kept := false // Why not alone: there is nobody to fetch anew from what is taken for damaged
	if b.membership != nil {
		previous, err := previousEpoch(b.fs, b.dirs[0], bootID(b.fs))
		if err != nil {
			return err
		}
		kept = previous != controller.NoEpoch
	}
	r.store, err = storage.Open(storage.Options{
		FS: b.fs, Dirs: b.dirs, NodeID: int32(b.node), ClusterID: cluster, Stats: b.stats, Logger: b.log, Now: b.now,
		Checkpoint:     v.Duration("log.flush.offset.checkpoint.interval.ms"),
		RetentionCheck: v.Duration("log.retention.check.interval.ms"),
		Reserve:        v.Int("storage.reserve.bytes"),
		Kept:           kept,
		CleanEvery:     v.Duration("log.cleaner.backoff.ms"),
		ProducerExpiry: v.Duration("producer.id.expiration.ms"),
		MovePace: func() int64 {
			return b.settings.values().Int("replica.alter.log.dirs.io.max.bytes.per.second")
		},
		DirFailed: func(dir string, err error) {
			b.log.Error("a log directory has failed and is out of service", "dir", dir, "err", err)
			if set := b.replicas(); set != nil {
				set.DirFailed(dir, err)
			}
			select {
			case b.dirFailed <- struct{}{}:
			default: // Run will look at all of them
			}
		},
	})
	if err != nil {
		return err
	}
	p.add("the logs", r.store.Close)
	p.run("the work on the logs", r.store.Run)
	return nil
}

// replicas gives the set of partitions if there is one already.
func (b *Broker) replicas() *replica.Set {
	if r := b.running(); r != nil {
		return r.set
	}
	return nil
}

// join makes the rooms that follow the metadata and has them told; it gives the road to
// the controller.
func (b *Broker) join(r *rooms, p *parts) (*controllerRoad, error) {
	features, err := api.Features(b.values.String("version"))
	if err != nil {
		return nil, err
	}
	r.peers = peer.New(peer.Options{Node: b.node, Listener: b.between, Image: r.quorum.Image, Dial: b.dialPeer, Full: b.whyFull})
	p.add("the connections to other brokers", r.peers.Close)
	r.control = controller.New(controller.Options{
		Node: b.node, Settings: b.values, Now: b.now, Seed: uint64(b.now().UnixNano()),
		Features: features, Logger: b.log, Gone: gone(b.between),
	}, r.quorum)
	road := &controllerRoad{node: b.node, quorum: r.quorum, control: r.control, peers: r.peers, image: r.quorum.Image}
	replicas := replica.Options{
		Node: b.node, Store: r.store, Stats: b.stats, Logger: b.log, Now: b.now, Settings: b.settings.topic,
		Replication: replica.ReplicationOf(b.values),
	}
	if b.membership != nil {
		replicas.Peers, replicas.ISR, replicas.Replication = r.peers, road, replica.ReplicationOf(b.values)
		replicas.Hurry = func() {
			if r := b.running(); r != nil && r.standing != nil {
				r.standing.soon()
			}
		}
	}
	r.set = replica.New(replicas)
	r.groups = group.New(group.Options{
		Node: b.node, Replicas: r.set, Settings: b.settings.values, Logger: b.log, Now: b.now,
		GroupSettings: func(id string) map[string]string {
			return r.quorum.Image().Config(metadata.Resource{Kind: metadata.GroupResource, Name: id})
		},
	})
	r.markers = &markers{}
	r.txns = txn.New(txn.Options{
		Node: b.node, Replicas: r.set, Markers: r.markers, Block: road.ProducerIDs, Peers: r.peers,
		Settings: b.settings.values, Logger: b.log, Now: b.now,
	})
	p.run("the watch over the brokers", r.control.Run)
	b.show(r)
	r.news = newPublisher()
	r.news.settings, r.news.set, r.news.groups, r.news.txns, r.news.peers, r.news.log = b.settings, r.set, r.groups, r.txns, r.peers, b.log
	r.quorum.Subscribe(r.news.image)
	p.run("the partitions", r.set.Run)
	return road, nil
}

// openDoors makes the rooms that clients see. On the way down the waiting fetches
// and the groups' members are answered first, so that connections end soon.
func (b *Broker) openDoors(r *rooms, p *parts) (err error) {
	o := api.Options{
		Node: b.node, Version: b.values.String("version"), File: b.values, Settings: b.settings.values,
		Image: r.news.Image, Controller: r.control, Quorum: r.quorum, Replicas: r.set, Groups: r.groups, Disks: r.store, Transactions: r.txns, TxnOffsets: r.groups,
		Traffic: b.stats.Traffic, Logger: b.log, Now: b.now,
	}
	if b.membership != nil {
		o.Peers, o.Seen = r.peers, r.news.Seen
	}
	if r.api, err = api.New(o); err != nil {
		return err
	}
	r.markers.local.Store(r.api)
	v := b.values
	idle := v.Duration("connections.max.idle.ms")
	r.server, err = wire.New(wire.Options{
		Listeners: append(slices.Clone(r.doors), wire.Listener{Name: r.doors[0].Name, Internal: true, Net: b.inside}), Handler: r.api, Versions: r.api.Versions, Stats: b.stats, Logger: b.log,
		MaxRequestBytes: int(v.Int("socket.request.max.bytes")),
		RequestMemory:   v.Int("queued.max.request.bytes"),
		IdleTimeout:     func() time.Duration { return idle },
		MaxPerIP:        func() int { return int(b.settings.values().Int("max.connections.per.ip")) },
		MaxConnections:  b.maxConnections,
	})
	if err != nil {
		return err
	}
	b.show(r)
	endGroups := p.run("the consumer groups", r.groups.Run)
	endTxns := p.run("the transactions", r.txns.Run)
	endDoors := p.run("the connections", r.server.Run)
	p.add("what is in flight", func() error {
		r.api.Close() // Why first: a fetch that waits would keep its connection until its time is up
		endDoors()
		endTxns()
		endGroups()
		return nil
	})
	return nil
}

// maxConnections is the smaller of the setting and the flavor's limit.
func (b *Broker) maxConnections() int {
	v := b.settings.values()
	return int(min(v.Int("max.connections"), int64(config.FlavorOf(v).Connections)))
}

// dialPeer connects to another broker, or to this one within the process.
func (b *Broker) dialPeer(ctx context.Context, to metadata.BrokerID, address string) (net.Conn, error) {
	if to == b.node {
		return b.inside.dial(ctx)
	}
	return peer.Dial(ctx, address)
}

// register makes this start of the node known to the cluster, now that it has caught
// up (R10).
func (b *Broker) register(ctx context.Context, r *rooms, road *controllerRoad) error {
	ends, err := endpoints(r.doors, b.listen, b.advertise)
	if err != nil {
		return err
	}
	for _, e := range ends {
		b.log.Info("clients are told to connect to", "listener", e.Listener, "host", e.Host, "port", e.Port)
	}
	boot, previous := bootID(b.fs), controller.NoEpoch
	every := b.values.Duration("broker.heartbeat.interval.ms")
	look := every
	if b.membership != nil { // alone, nobody would ask, and nobody else decides
		look = min(every, max(every/8, lookAtLeast))
		if previous, err = previousEpoch(b.fs, b.dirs[0], boot); err != nil {
			return err
		}
	}
	session := b.values.Duration("broker.session.timeout.ms")
	r.standing = newAttendance(attendanceOptions{
		me:       metadata.Broker{ID: b.node, Incarnation: topic.NewID(), Rack: b.values.String("broker.rack"), Endpoints: ends},
		cluster:  r.quorum.Image().ClusterID(),
		previous: previous,
		every:    every, look: look, session: session, nobody: 3 * b.values.Duration("controller.quorum.fetch.timeout.ms"),
		road: road, news: r.news, offline: func() []controller.Replica { return offlineReplicas(r.set) },
		damaged: func() []controller.DamagedReplica { return b.damagedReplicas(r.set) },
		heard: func(sent time.Time) {
			if b.membership != nil { // alone, nobody else could lead in its place
				r.set.Lease(sent.Add(session))
			}
		},
		step: b.step, log: b.log, now: b.now,
	})
	if err := r.standing.register(ctx); err != nil {
		return err
	}
	b.show(r)
	r.set.Registered(r.standing.epoch.Load())
	if b.membership == nil {
		return nil
	}
	return noteEpoch(b.fs, b.dirs[0], r.standing.epoch.Load(), boot)
}

// lookAtLeast bounds how often a node looks who the controller is.
const lookAtLeast = 50 * time.Millisecond

// leave has others lead what this node leads before it stops (R14). Wished tells that
// the stop is a wish and not a failure, after which there may be nothing to wait for.
func (b *Broker) leave(wished bool) {
	r := b.running()
	if r == nil || r.standing == nil || r.standing.epoch.Load() == controller.NoEpoch || r.standing.alone() {
		return
	}
	patience := b.values.Duration("controlled.shutdown.timeout.ms")
	if !wished {
		patience = min(patience, time.Second)
	}
	if patience == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.standing.leave(ctx); err != nil {
		b.log.Warn("this broker stops before others lead its partitions", "err", err)
	}
}

// standing gives the epoch of this start's registration, and whether all disks are good.
func (b *Broker) standing() (epoch int64, whole bool) {
	r := b.running()
	if r == nil || r.standing == nil {
		return controller.NoEpoch, false
	}
	whole = true
	for _, d := range b.Dirs() {
		whole = whole && d.Err == nil
	}
	return r.standing.epoch.Load(), whole
}

// dirGone tells the controller of the replicas on a failed disk, and the next start that
// something may be missing.
func (b *Broker) dirGone() {
	if err := forgetEpoch(b.fs, b.dirs[0]); err != nil {
		b.log.Warn("cannot note that a disk has failed", "err", err) // it may be that very disk
	}
	if r := b.running(); r != nil && r.standing != nil {
		r.standing.soon()
	}
}

// stoppedWell notes for the next start that nothing is missing.
func (b *Broker) stoppedWell(epoch int64) error {
	if epoch == controller.NoEpoch || b.membership == nil {
		return nil
	}
	return noteEpoch(b.fs, b.dirs[0], epoch, endedWell)
}

// maxOffline is how many replicas on failed disks a heartbeat names: its frame is bounded.
// What is beyond it is led elsewhere when the broker starts again.
const maxOffline = 40_000

// offlineReplicas gives the replicas whose log directories have failed.
func offlineReplicas(set *replica.Set) (rs []controller.Replica) {
	for _, p := range set.Offline() {
		if len(rs) == maxOffline {
			break
		}
		rs = append(rs, controller.Replica{Topic: p.TopicID(), Number: p.Name().Partition})
	}
	return rs
}

// maxDamaged is how many damaged replicas a heartbeat names; the others follow when these
// have begun anew.
const maxDamaged = 4000

// damagedReplicas gives the replicas whose data is damaged. A node alone has nobody to fetch
// them from: there they are offline and no more.
func (b *Broker) damagedReplicas(set *replica.Set) (rs []controller.DamagedReplica) {
	if b.membership == nil {
		return nil
	}
	for _, d := range set.Damaged() {
		if len(rs) == maxDamaged {
			break
		}
		rs = append(rs, controller.DamagedReplica{Replica: controller.Replica{Topic: d.Topic, Number: d.Partition}, Epoch: d.Epoch})
	}
	return rs
}
