package group

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Options of a Coordinator.
type Options struct {
	Node     metadata.BrokerID
	Replicas *replica.Set
	// GroupSettings gives what was set for one group at run time; nil map: nothing.
	GroupSettings func(group string) map[string]string
	Settings      func() *config.Values // the broker's effective settings of now
	Logger        *slog.Logger
	Now           func() time.Time
}

// Coordinator serves the groups whose __consumer_offsets partition this broker leads. The
// reply funcs are called exactly once, from any goroutine; they get a response without
// throttle time. Safe for concurrent use.
type Coordinator struct {
	o    Options
	open func(partition int32) (journal.Log, error)

	kick chan struct{} // capacity 1: there are hosts to start

	mu struct {
		sync.RWMutex
		partitions int // of __consumer_offsets; 0: there is none yet
		hosts      map[int32]*host
		starting   []*host
		known      map[string]*metadata.Topic
		topics     *topics // the same for the shards
	}

	settings struct {
		sync.Mutex
		from   *config.Values
		limits limits
	}
}

// New wires a coordinator that leads nothing; Apply tells it what it leads, Run serves it.
func New(o Options) *Coordinator {
	return newCoordinator(o, func(n int32) (journal.Log, error) {
		p, err := o.Replicas.Partition(topic.Partition{Topic: topic.ConsumerOffsets, Partition: n})
		if err != nil {
			return nil, err
		}
		return journal.OverReplica(p, o.Now), nil
	})
}

func newCoordinator(o Options, open func(int32) (journal.Log, error)) *Coordinator {
	c := &Coordinator{o: o, open: open, kick: make(chan struct{}, 1)}
	c.mu.hosts = make(map[int32]*host)
	c.mu.topics = newTopics(nil, nil)
	return c
}

// Apply follows a new metadata image: which partitions of __consumer_offsets this broker
// leads, and which topics are gone. Called in commit order by one goroutine, after the
// replicas have applied the same image.
func (c *Coordinator) Apply(_, img *metadata.Image) {
	topics := make(map[string]*metadata.Topic)
	for _, t := range img.Topics() {
		topics[t.Name] = t
	}
	c.apply(topics)
}

func (c *Coordinator) apply(topics map[string]*metadata.Topic) {
	c.mu.Lock()
	before := c.mu.known
	c.mu.known = topics
	all := make([]topicInfo, 0, len(topics))
	for _, t := range topics {
		all = append(all, topicInfo{t.ID, t.Name, int32(len(t.Partitions))})
	}
	c.mu.topics = newTopics(c.mu.topics, all)
	closed := c.leadLocked(topics[topic.ConsumerOffsets])
	var cancels []context.CancelFunc
	for _, h := range closed {
		if h.cancel != nil {
			cancels = append(cancels, h.cancel)
		}
	}
	hosts := make([]*host, 0, len(c.mu.hosts))
	for _, h := range c.mu.hosts {
		hosts = append(hosts, h)
	}
	c.mu.Unlock()

	select {
	case c.kick <- struct{}{}:
	default:
	}
	for _, h := range closed {
		h.close()
	}
	for _, cancel := range cancels {
		cancel()
	}
	gone := goneTopics(before, topics)
	if len(gone) == 0 {
		return
	}
	for _, h := range hosts {
		h.topicsGone(gone)
	}
}

// goneTopics gives the names whose topic was deleted, also if another took the name.
func goneTopics(before, now map[string]*metadata.Topic) map[string]bool {
	gone := make(map[string]bool)
	for name, t := range before {
		if n := now[name]; n == nil || n.ID != t.ID {
			gone[name] = true
		}
	}
	return gone
}

// leadLocked makes a host for each partition that this broker leads from now on, and gives
// those whose time is over.
func (c *Coordinator) leadLocked(t *metadata.Topic) (closed []*host) {
	c.mu.partitions = 0
	leads := make(map[int32]*metadata.Partition)
	if t != nil {
		c.mu.partitions = len(t.Partitions)
		for n := range t.Partitions {
			if t.Partitions[n].Leader == c.o.Node {
				leads[int32(n)] = &t.Partitions[n]
			}
		}
	}
	for n, h := range c.mu.hosts {
		if p := leads[n]; p == nil || p.LeaderEpoch != h.epoch {
			delete(c.mu.hosts, n)
			closed = append(closed, h)
		}
	}
	for n, p := range leads {
		if c.mu.hosts[n] != nil {
			continue
		}
		h := newHost(n, p.LeaderEpoch)
		h.open, h.now, h.fresh = c.open, c.o.Now, c.newShard
		h.logger = c.o.Logger.With("partition", topic.Partition{Topic: topic.ConsumerOffsets, Partition: n}.String())
		c.mu.hosts[n] = h
		c.mu.starting = append(c.mu.starting, h)
	}
	return closed
}

func (c *Coordinator) newShard(h *host) *shard {
	s := newShard()
	s.limits, s.newID, s.topics, s.append, s.logger = c.limits, newUUID, c.topics, h.append, c.o.Logger
	s.settings = c.o.GroupSettings
	return s
}

// newUUID gives a random UUID, version 4, as text.
func newUUID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("BUG: no randomness: " + err.Error())
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (c *Coordinator) topics() *topics {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.topics
}

// limits reads the settings, again only when they changed.
func (c *Coordinator) limits() limits {
	v := c.o.Settings()
	c.settings.Lock()
	defer c.settings.Unlock()
	if c.settings.from != v {
		c.settings.from = v
		c.settings.limits = limits{
			minSession:     v.Duration("group.min.session.timeout.ms"),
			maxSession:     v.Duration("group.max.session.timeout.ms"),
			initialDelay:   v.Duration("group.initial.rebalance.delay.ms"),
			maxSize:        int(v.Int("group.max.size")),
			offsetMetadata: int(v.Int("offset.metadata.max.bytes")),
			retention:      v.Duration("offsets.retention.minutes"),
			expiryInterval: v.Duration("offsets.retention.check.interval.ms"),
			commitTimeout:  v.Duration("offsets.commit.timeout.ms"),
			consumer:       consumerSettings(v),
		}
	}
	return c.settings.limits
}

func consumerSettings(v *config.Values) consumerLimits {
	policy := v.String("group.consumer.migration.policy")
	return consumerLimits{
		session:     v.Duration("group.consumer.session.timeout.ms"),
		minSession:  v.Duration("group.consumer.min.session.timeout.ms"),
		maxSession:  v.Duration("group.consumer.max.session.timeout.ms"),
		interval:    v.Duration("group.consumer.heartbeat.interval.ms"),
		minInterval: v.Duration("group.consumer.min.heartbeat.interval.ms"),
		maxInterval: v.Duration("group.consumer.max.heartbeat.interval.ms"),
		maxSize:     int(v.Int("group.consumer.max.size")),
		assignors:   v.List("group.consumer.assignors"),
		upgrade:     policy == "bidirectional" || policy == "upgrade",
		downgrade:   policy == "bidirectional" || policy == "downgrade",
	}
}

// Run serves the groups until ctx ends; then everybody who waits is told to look for
// another coordinator.
func (c *Coordinator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for ctx.Err() == nil {
		c.start(ctx, &wg)
		select {
		case <-ctx.Done():
		case <-c.kick:
		}
	}
	wg.Wait()
	c.mu.Lock()
	starting := c.mu.starting
	c.mu.starting = nil
	c.mu.Unlock()
	for _, h := range starting {
		h.close()
	}
	return nil
}

// start runs the hosts that Apply made.
func (c *Coordinator) start(ctx context.Context, wg *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.mu.starting {
		if c.mu.hosts[h.partition] != h {
			continue // closed before it began
		}
		hostCtx, cancel := context.WithCancel(ctx)
		h.cancel = cancel
		wg.Go(func() { h.run(hostCtx) })
	}
	c.mu.starting = nil
}

// host finds who serves a group, or why nobody does.
func (c *Coordinator) host(groupID string) (*host, code) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.mu.partitions == 0 {
		return nil, notAvailable
	}
	h := c.mu.hosts[PartitionOf(groupID, c.mu.partitions)]
	if h == nil {
		return nil, notCoordinator
	}
	return h, none
}

// do runs f on the shard of a group, or tells why it cannot.
func (c *Coordinator) do(groupID string, f func(*shard)) code {
	h, why := c.host(groupID)
	if why != none {
		return why
	}
	return h.do(f)
}
