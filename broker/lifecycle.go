package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/api"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/txn"
	"github.com/belfry-mq/belfry/broker/wire"
)

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
	if stopErr := p.stop(); err == nil {
		err = stopErr
	} else if stopErr != nil {
		b.log.Error("the broker could not stop cleanly", "err", stopErr)
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

	b.step("recovering logs")
	if err := b.openStore(r, p); err != nil {
		return err
	}
	if err := b.openQuorum(r, p); err != nil {
		return err
	}
	b.step("reading the metadata log")
	pub, err := b.join(r, p)
	if err != nil {
		return err
	}
	p.run("the metadata log", r.quorum.Run)
	if err := r.quorum.WaitLeading(ctx); err != nil {
		return fmt.Errorf("cannot catch up with the metadata log: %w", err)
	}
	if err := b.fixVersion(ctx, r.quorum); err != nil {
		return err
	}
	if err := r.control.FinalizeFeatures(ctx); err != nil {
		return fmt.Errorf("cannot write the levels of features down: %w", err)
	}
	b.step("registering")
	if err := b.register(ctx, r); err != nil {
		return err
	}
	b.step("taking up partitions")
	pub.start(r.quorum.Image())
	p.run("the partitions that failed", pub.run)
	b.step("opening the doors")
	return b.openDoors(r, p)
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

func (b *Broker) openStore(r *rooms, p *parts) (err error) {
	v := b.values
	r.store, err = storage.Open(storage.Options{
		FS: b.fs, Dirs: b.dirs, NodeID: int32(b.node), Stats: b.stats, Logger: b.log, Now: b.now,
		Checkpoint:     v.Duration("log.flush.offset.checkpoint.interval.ms"),
		RetentionCheck: v.Duration("log.retention.check.interval.ms"),
		Reserve:        v.Int("storage.reserve.bytes"),
		CleanEvery:     v.Duration("log.cleaner.backoff.ms"),
		ProducerExpiry: v.Duration("producer.id.expiration.ms"),
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

func (b *Broker) openQuorum(r *rooms, p *parts) (err error) {
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

// join makes the rooms that follow the metadata and has them told.
func (b *Broker) join(r *rooms, p *parts) (*publisher, error) {
	features, err := api.Features(b.values.String("version"))
	if err != nil {
		return nil, err
	}
	r.set = replica.New(replica.Options{
		Node: b.node, Store: r.store, Stats: b.stats, Logger: b.log, Now: b.now, Settings: b.settings.topic,
	})
	r.groups = group.New(group.Options{
		Node: b.node, Replicas: r.set, Settings: b.settings.values, Logger: b.log, Now: b.now,
		GroupSettings: func(id string) map[string]string {
			return r.quorum.Image().Config(metadata.Resource{Kind: metadata.GroupResource, Name: id})
		},
	})
	r.control = controller.New(controller.Options{
		Node: b.node, Settings: b.values, Now: b.now, Seed: uint64(b.now().UnixNano()),
		Features: features,
	}, r.quorum)
	r.markers = &markers{}
	r.txns = txn.New(txn.Options{
		Node: b.node, Replicas: r.set, Markers: r.markers, Block: r.control.ProducerIDs,
		Settings: b.settings.values, Logger: b.log, Now: b.now,
	})
	b.show(r)
	pub := &publisher{settings: b.settings, set: r.set, groups: r.groups, txns: r.txns, log: b.log}
	r.quorum.Subscribe(pub.image)
	p.run("the partitions", r.set.Run)
	return pub, nil
}

// openDoors makes the rooms that clients see. On the way down the waiting fetches
// and the groups' members are answered first, so that connections end soon.
func (b *Broker) openDoors(r *rooms, p *parts) (err error) {
	r.api, err = api.New(api.Options{
		Node: b.node, Version: b.values.String("version"), File: b.values, Settings: b.settings.values,
		Image: r.quorum.Image, Controller: r.control, Quorum: r.quorum, Replicas: r.set, Groups: r.groups, Disks: r.store, Transactions: r.txns, TxnOffsets: r.groups,
		Logger: b.log, Now: b.now,
	})
	if err != nil {
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

// register makes this start of the node known to the cluster and puts it into
// service, now that it has caught up (R10).
func (b *Broker) register(ctx context.Context, r *rooms) error {
	ends, err := endpoints(r.doors, b.listen, b.advertise)
	if err != nil {
		return err
	}
	for _, e := range ends {
		b.log.Info("clients are told to connect to", "listener", e.Listener, "host", e.Host, "port", e.Port)
	}
	me := metadata.Broker{
		ID: b.node, Incarnation: topic.NewID(), Rack: b.values.String("broker.rack"), Endpoints: ends,
	}
	epoch, err := r.control.RegisterBroker(ctx, me)
	if err != nil {
		return fmt.Errorf("cannot register broker %d: %w", b.node, err)
	}
	if err := r.control.UnfenceBroker(ctx, b.node, epoch); err != nil {
		return fmt.Errorf("cannot put broker %d into service: %w", b.node, err)
	}
	return nil
}
