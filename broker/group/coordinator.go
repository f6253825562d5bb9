package group

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
	o     Options
	hosts *journal.Hosts[*shard]

	mu struct {
		sync.RWMutex
		known  map[string]*metadata.Topic
		topics *topics                   // the same for the shards
		gone   map[*host]map[string]bool // topics deleted while the host was loading
	}

	settings struct {
		sync.Mutex
		from   *config.Values
		limits limits
	}
}

// host runs one shard.
type host = journal.Host[*shard]

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
	c := &Coordinator{o: o}
	c.hosts = journal.NewHosts(journal.HostsOptions[*shard]{
		Node: o.Node, Topic: topic.ConsumerOffsets, Open: open, Fresh: c.newShard,
		Loaded: c.dropGone, Now: o.Now, Logger: o.Logger,
	})
	c.mu.topics = newTopics(nil, nil)
	c.mu.gone = make(map[*host]map[string]bool)
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
	all := make([]topicInfo, 0, len(topics))
	for _, t := range topics {
		all = append(all, topicInfo{t.ID, t.Name, int32(len(t.Partitions))})
	}
	c.mu.Lock()
	gone := goneTopics(c.mu.known, topics)
	c.mu.known = topics
	c.mu.topics = newTopics(c.mu.topics, all)
	c.mu.Unlock()

	c.hosts.Lead(topics[topic.ConsumerOffsets])
	hosts := c.hosts.All()
	c.mu.Lock()
	for h := range c.mu.gone {
		if !slices.Contains(hosts, h) {
			delete(c.mu.gone, h)
		}
	}
	for _, h := range hosts {
		if len(gone) > 0 && c.mu.gone[h] == nil {
			c.mu.gone[h] = make(map[string]bool)
		}
		maps.Copy(c.mu.gone[h], gone)
	}
	c.mu.Unlock()
	if len(gone) > 0 {
		for _, h := range hosts {
			c.dropGone(h)
		}
	}
}

// dropGone forgets the offsets of deleted topics, unless the host is loading: then it is
// done when they have been read.
func (c *Coordinator) dropGone(h *host) {
	h.Do(func(s *shard) {
		c.mu.Lock()
		gone := c.mu.gone[h]
		delete(c.mu.gone, h)
		c.mu.Unlock()
		if len(gone) > 0 {
			s.dropOffsets(func(p topic.Partition) bool { return gone[p.Topic] })
		}
	})
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

func (c *Coordinator) newShard(h *host) *shard {
	s := newShard()
	s.limits, s.newID, s.topics, s.append, s.logger = c.limits, newUUID, c.topics, h.Append, c.o.Logger
	s.settings, s.partition = c.o.GroupSettings, h.Partition()
	s.reenter = func(f func(*shard)) code { return on(h, f) }
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
func (c *Coordinator) Run(ctx context.Context) error { return c.hosts.Run(ctx) }

// do runs f on the shard of a group, or tells why it cannot.
func (c *Coordinator) do(groupID string, f func(*shard)) code {
	if c.hosts.Partitions() == 0 {
		return notAvailable
	}
	return on(c.hosts.Of(groupID), f)
}

// on runs f on the shard of a host, or tells why it cannot.
func on(h *host, f func(*shard)) code {
	if h == nil {
		return notCoordinator
	}
	switch h.Do(f) {
	case journal.Serving:
		return none
	case journal.Loading:
		return loadInProgress
	}
	return notCoordinator
}
