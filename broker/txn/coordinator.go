package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Markers writes transaction markers on this broker. Safe for concurrent use.
type Markers interface {
	// Write writes a marker into partitions that this broker leads, those of __consumer_offsets
	// among them, and gives one error for each, nil for those that have it for good. version
	// is the transaction.version that the producer works by.
	// Blocks: until they are committed, or ctx ends.
	Write(ctx context.Context, m record.Marker, version int8, parts []topic.Partition) []error
}

// Options of a Coordinator; all are required but Peers.
type Options struct {
	Node     metadata.BrokerID
	Replicas *replica.Set
	Markers  Markers
	Peers    Peers // nil: there are no other brokers
	// Block gives a block of producer IDs [first, first+n) to this broker alone.
	Block    func(ctx context.Context) (first int64, n int, err error)
	Settings func() *config.Values // the broker's effective settings of now
	Logger   *slog.Logger
	Now      func() time.Time
}

// Coordinator serves the transactional IDs whose __transaction_state partition this broker
// leads. The reply funcs are called exactly once, from any goroutine. Safe for concurrent
// use.
type Coordinator struct {
	o     Options
	hosts *journal.Hosts[*shard]
	image atomic.Pointer[metadata.Image]
	ids   producerIDs

	mu struct {
		sync.Mutex
		running context.Context // nil: Run is not running
	}
	tasks sync.WaitGroup // grows only under mu while running
}

// New wires a coordinator that leads nothing; Apply tells it what it leads, Run serves it.
func New(o Options) *Coordinator {
	return newCoordinator(o, func(n int32) (journal.Log, error) {
		p, err := o.Replicas.Partition(topic.Partition{Topic: topic.TransactionState, Partition: n})
		if err != nil {
			return nil, err
		}
		return journal.OverReplica(p, o.Now), nil
	})
}

func newCoordinator(o Options, open func(int32) (journal.Log, error)) *Coordinator {
	c := &Coordinator{o: o}
	c.hosts = journal.NewHosts(journal.HostsOptions[*shard]{
		Node: o.Node, Topic: topic.TransactionState, Open: open, Fresh: c.newShard, Now: o.Now, Logger: o.Logger,
	})
	return c
}

// Apply follows a new metadata image. Called in commit order by one goroutine, after the
// replicas have applied the same image.
func (c *Coordinator) Apply(_, img *metadata.Image) {
	c.image.Store(img)
	c.hosts.Lead(img.Topic(topic.TransactionState))
}

// Run serves the transactions until ctx ends; then everybody who waits is told to look for
// another coordinator, and markers on their way are given up. They are sent again by
// whoever coordinates next.
func (c *Coordinator) Run(ctx context.Context) error {
	c.mu.Lock()
	c.mu.running = ctx
	c.mu.Unlock()
	err := c.hosts.Run(ctx)
	c.mu.Lock()
	c.mu.running = nil
	c.mu.Unlock()
	c.tasks.Wait()
	return err
}

func (c *Coordinator) newShard(h *journal.Host[*shard]) *shard {
	s := newShard()
	s.limits, s.level, s.append, s.logger, s.epoch = c.limits, c.level, h.Append, c.o.Logger, int32(h.Epoch())
	s.send = c.send
	s.reenter = func(f func(*shard)) { h.Do(f) }
	return s
}

func (c *Coordinator) limits() limits {
	v := c.o.Settings()
	return limits{
		maxTimeout:    v.Duration("transaction.max.timeout.ms"),
		abortInterval: v.Duration("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
		expiry:        v.Duration("transactional.id.expiration.ms"),
		removeEvery:   v.Duration("transaction.remove.expired.transaction.cleanup.interval.ms"),
	}
}

// level gives the cluster's transaction.version.
func (c *Coordinator) level() int16 {
	if img := c.image.Load(); img != nil {
		return img.Features()[metadata.FeatureTransactionVersion]
	}
	return 0
}

// do runs f on the shard of a transactional ID, or tells why it cannot.
func (c *Coordinator) do(id string, f func(*shard)) code {
	if id == "" || len(id) > MaxID {
		return invalidRequest
	}
	if c.hosts.Partitions() == 0 {
		return notAvailable
	}
	h := c.hosts.Of(id)
	if h == nil {
		return notCoordinator
	}
	return statusCode(h.Do(f))
}

// partition gives the partition of __transaction_state that an ID lives in. Requires: the
// topic is there.
func (c *Coordinator) partition(id string) topic.Partition {
	return topic.Partition{Topic: topic.TransactionState, Partition: journal.PartitionOf(id, c.hosts.Partitions())}
}

func statusCode(s journal.Status) code {
	switch s {
	case journal.Serving:
		return none
	case journal.Loading:
		return loadInProgress
	}
	return notCoordinator
}

// Init is a request for a producer ID and an epoch.
type Init struct {
	ID       string
	Timeout  time.Duration // of its transactions; whole milliseconds
	Producer int64         // that the client has already; -1: none (KIP-360)
	Epoch    int16
}

// Init gives the producer of a transactional ID its producer ID and the next epoch, after
// everything that a former one left is aborted; the code says why not. With CONCURRENT_TRANSACTIONS
// that is being done: ask again.
func (c *Coordinator) Init(r Init, reply func(producer int64, epoch int16, code int16)) {
	c.init(r, -1, reply)
}

func (c *Coordinator) init(r Init, fresh int64, reply func(int64, int16, code)) {
	ir := initRequest{timeout: int32(min(r.Timeout.Milliseconds(), 1<<31-1)), producer: r.Producer, epoch: r.Epoch, fresh: fresh}
	why := c.do(r.ID, func(s *shard) {
		s.initProducer(r.ID, ir, func(a change) {
			if !a.needID {
				reply(a.producer, a.epoch, a.code)
				return
			}
			c.fresh(func(fresh int64) { c.init(r, fresh, reply) }, func(why code) { reply(-1, -1, why) })
		})
	})
	if why != none {
		reply(-1, -1, why)
	}
}

// Add takes partitions into a producer's transaction; the reply comes when that is
// committed. version is the transaction.version that the request stands for.
func (c *Coordinator) Add(id string, producer int64, epoch int16, parts []topic.Partition, version int16, reply func(code int16)) {
	version = min(version, c.level())
	if why := c.do(id, func(s *shard) { s.add(id, producer, epoch, parts, version, reply) }); why != none {
		reply(why)
	}
}

// Verify tells of each partition whether it is in the producer's ongoing transaction, by a
// Kafka code; the first result says why that cannot be told. With
// transaction.partition.verification.enable=false it is true of all.
func (c *Coordinator) Verify(id string, producer int64, epoch int16, parts []topic.Partition) (why int16, of map[topic.Partition]int16) {
	if !c.o.Settings().Bool("transaction.partition.verification.enable") {
		return none, nil
	}
	verdict := none
	why = c.do(id, func(s *shard) { verdict, of = s.verify(id, producer, epoch, parts) })
	return max(why, verdict), of
}

// AddPartitions is Add, for the protocol of KIP-890, part 2, or with verifyOnly Verify, for
// who may wait, whichever broker coordinates the ID.
//
// Errors: a *Refusal for all, or for each partition.
func (c *Coordinator) AddPartitions(ctx context.Context, id string, producer int64, epoch int16, parts []topic.Partition, verifyOnly bool) (map[topic.Partition]error, error) {
	verifies := c.o.Settings().Bool("transaction.partition.verification.enable")
	if to := c.elsewhere(id); to != metadata.NoBroker && (verifies || !verifyOnly) {
		return c.askPeer(ctx, to, id, producer, epoch, parts, verifyOnly)
	}
	out := make(map[topic.Partition]error, len(parts))
	if verifyOnly {
		why, of := c.Verify(id, producer, epoch, parts)
		for _, p := range parts {
			out[p] = refusal(of[p])
		}
		return out, refusal(why)
	}
	done := make(chan code, 1)
	c.Add(id, producer, epoch, parts, 2, func(code int16) { done <- code })
	select {
	case why := <-done:
		for _, p := range parts {
			out[p] = nil
		}
		return out, refusal(why)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// End is the wish to commit or abort.
type End struct {
	ID       string
	Producer int64
	Epoch    int16
	Commit   bool
	Version  int16 // transaction.version that the request stands for: 2 raises the epoch (KIP-890)
}

// End decides a transaction; the reply comes when the decision is committed, and gives what
// the producer goes on with. The markers follow.
func (c *Coordinator) End(r End, reply func(producer int64, epoch int16, code int16)) {
	r.Version = min(r.Version, c.level())
	c.end(r, -1, reply)
}

func (c *Coordinator) end(r End, fresh int64, reply func(int64, int16, code)) {
	er := endRequest{producer: r.Producer, epoch: r.Epoch, commit: r.Commit, version: r.Version, fresh: fresh}
	why := c.do(r.ID, func(s *shard) {
		s.end(r.ID, er, func(a change) {
			if !a.needID {
				reply(a.producer, a.epoch, a.code)
				return
			}
			c.fresh(func(fresh int64) { c.end(r, fresh, reply) }, func(why code) { reply(-1, -1, why) })
		})
	})
	if why != none {
		reply(-1, -1, why)
	}
}

// fresh fetches a producer ID and goes on with it, or fails. Why in the background: the
// controller may have to be asked, and who calls may be a journal.
func (c *Coordinator) fresh(on func(id int64), fail func(code)) {
	if !c.background(func(ctx context.Context) {
		id, err := c.ProducerID(ctx)
		if err != nil {
			c.o.Logger.Warn("cannot get a producer ID", "err", err)
			fail(notAvailable)
			return
		}
		on(id)
	}) {
		fail(notCoordinator)
	}
}

// background runs f in a goroutine that Run waits for; false: Run is not running.
func (c *Coordinator) background(f func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := c.mu.running
	if ctx == nil {
		return false
	}
	c.tasks.Go(func() { f(ctx) })
	return true
}

// ProducerID gives a producer ID that nobody ever had.
//
// Errors: the controller's.
// Blocks: now and then, for the controller.
func (c *Coordinator) ProducerID(ctx context.Context) (int64, error) {
	return c.ids.next(ctx, c.o.Block)
}

// send has markers written where the partitions are led, and tells which need them no more.
// While the coordinator does not run nothing is sent: whoever coordinates next does it.
func (c *Coordinator) send(m record.Marker, version int8, parts []topic.Partition, done func([]topic.Partition)) {
	c.background(func(ctx context.Context) {
		var mu sync.Mutex
		var written []topic.Partition
		var wg sync.WaitGroup
		for to, ps := range c.leaders(parts) {
			if to == metadata.NoBroker {
				continue // asked for again later
			}
			wg.Go(func() {
				got := c.written(ctx, to, m, version, ps)
				mu.Lock()
				defer mu.Unlock()
				written = append(written, got...)
			})
		}
		wg.Wait()
		if ctx.Err() == nil {
			done(append(written, c.gone(parts)...))
		}
	})
}

// markerPatience is how long one attempt to write markers may take.
const markerPatience = 10 * time.Second

func (c *Coordinator) written(ctx context.Context, to metadata.BrokerID, m record.Marker, version int8, parts []topic.Partition) (out []topic.Partition) {
	ctx, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	var errs []error
	switch {
	case to == c.o.Node:
		errs = c.o.Markers.Write(ctx, m, version, parts)
	case c.o.Peers != nil:
		errs = c.remoteMarkers(ctx, to, m, version, parts)
	}
	for i, err := range errs {
		switch {
		case err == nil:
			out = append(out, parts[i])
		case errors.Is(err, storage.ErrInvalidProducerEpoch):
			// The partition has seen a newer epoch: this transaction is over there.
			c.o.Logger.Warn("transaction marker is refused as too old and given up", "partition", parts[i].String(), "producer", m.ProducerID, "epoch", m.ProducerEpoch)
			out = append(out, parts[i])
		default:
			c.o.Logger.Debug("cannot write a transaction marker, trying again", "partition", parts[i].String(), "producer", m.ProducerID, "err", err)
		}
	}
	return out
}

// leaders sorts partitions by who leads them; those that are gone are left out.
func (c *Coordinator) leaders(parts []topic.Partition) map[metadata.BrokerID][]topic.Partition {
	img := c.image.Load()
	out := make(map[metadata.BrokerID][]topic.Partition)
	for _, p := range parts {
		if mp := partition(img, p); mp != nil {
			out[mp.Leader] = append(out[mp.Leader], p)
		}
	}
	return out
}

// gone gives the partitions that are no more.
func (c *Coordinator) gone(parts []topic.Partition) (out []topic.Partition) {
	img := c.image.Load()
	for _, p := range parts {
		if partition(img, p) == nil {
			out = append(out, p)
		}
	}
	return out
}

func partition(img *metadata.Image, p topic.Partition) *metadata.Partition {
	t := img.Topic(p.Topic)
	if t == nil || p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
		return nil
	}
	return &t.Partitions[p.Partition]
}
