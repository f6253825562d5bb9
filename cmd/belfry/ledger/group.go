package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Join reads as a member of a group until ctx ends; the members share r, one at a time holding the lock.
// What was read is committed after it was taken down. An oracle, if there is one, is told what the member is told.
func (l *Ledger) Join(ctx context.Context, seeds []string, group string, r *Shared, o *Oracle, opts ...kgo.Opt) {
	all := append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(200 * time.Millisecond),
		kgo.SessionTimeout(10 * time.Second), kgo.RebalanceTimeout(20 * time.Second)}, append(l.isolation(), opts...)...)
	if o != nil {
		all = append(all, (&member{oracle: o, topic: l.Topic, owned: map[int32]bool{}}).options()...)
	}
	c, err := Client(seeds, all...)
	if err != nil {
		l.Find(Refused, "a member of group %s: %v", group, err)
		return
	}
	defer c.CloseAllowingRebalance()
	l.poll(ctx, c, nil, r)
}

// member tells an oracle what one member of a group is told.
type member struct {
	oracle *Oracle
	topic  string
	lost   atomic.Bool // a commit was sent and not answered, since the last one that was told of

	mu    sync.Mutex
	owned map[int32]bool
}

func (m *member) options() []kgo.Opt {
	gone := func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range ps[m.topic] {
			delete(m.owned, p)
		}
	}
	return []kgo.Opt{
		kgo.OnPartitionsAssigned(func(_ context.Context, c *kgo.Client, ps map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range ps[m.topic] {
				m.owned[p] = true
			}
			id, generation := c.GroupMetadata()
			m.oracle.Owns(id, generation, slices.Collect(maps.Keys(m.owned)))
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, c *kgo.Client, ps map[string][]int32) {
			// Why here: a client that is told itself what it loses leaves the commit to who is told.
			if marked := c.MarkedOffsets(); len(marked) > 0 {
				c.CommitOffsetsSync(ctx, marked, m.committed)
			}
			gone(ctx, c, ps)
		}),
		kgo.OnPartitionsLost(gone),
		kgo.AutoCommitCallback(m.committed),
		// Why no second try of a commit: the first may still be on its way, and come after a later one; with one try
		// what the callback is told is all there is to know.
		kgo.RetryTimeoutFn(func(key int16) time.Duration {
			switch key {
			case int16(kmsg.OffsetCommit):
				return time.Nanosecond
			case int16(kmsg.JoinGroup), int16(kmsg.SyncGroup), int16(kmsg.Heartbeat):
				return 10 * time.Second
			}
			return 30 * time.Second
		}),
		kgo.WithHooks(m),
	}
}

// OnBrokerE2E is told of each request by the client; a commit without an answer may still be on its way when the one
// that the client sent after it is answered.
func (m *member) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == int16(kmsg.OffsetCommit) && e.Err() != nil {
		m.lost.Store(true)
	}
}

// committed is told what became of a commit.
func (m *member) committed(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
	lost := m.lost.Swap(false)
	codes := map[int32]int16{}
	if err == nil && resp != nil {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				codes[p.Partition] = p.ErrorCode
			}
		}
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			code, answered := codes[p.Partition]
			if answered && code == 0 {
				m.oracle.Committed(p.Partition, p.Offset)
			}
			if lost || !answered || code != 0 && !fenced(code) {
				m.oracle.Unsure(p.Partition, p.Offset)
			}
		}
	}
}

// fenced tells whether a commit was refused for good: nothing of it was written.
func fenced(code int16) bool {
	switch kerr.ErrorForCode(code) {
	case kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.RebalanceInProgress:
		return true
	}
	return false
}

// Watch asks every now and then, until ctx ends, what the group has committed, and sends a commit of a generation that
// is over, which must be refused.
func (o *Oracle) Watch(ctx context.Context, c *kgo.Client) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		o.ask(ctx, c)
		if i%8 == 7 {
			o.late(ctx, c)
		}
	}
}

// ask asks the coordinator once. What it refuses to say, as it is none or is loading, it does not say wrongly.
func (o *Oracle) ask(ctx context.Context, c *kgo.Client) {
	promised := o.Promised()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = o.group // and all that it has committed: it reads one topic
	for _, shard := range c.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.OffsetFetchResponse)
		if shard.Err != nil || !ok || resp.ErrorCode != 0 || len(resp.Groups) == 1 && resp.Groups[0].ErrorCode != 0 {
			continue
		}
		where := fmt.Sprintf("node %d at %s", shard.Meta.NodeID, time.Now().Format("15:04:05.000"))
		at, refused := committedIn(resp)
		below := false
		for p, floor := range promised {
			if _, there := at[int32(p)]; !there {
				at[int32(p)] = -1
			}
			below = below || at[int32(p)] < floor
		}
		if refused {
			continue
		}
		if below && o.deposed(ctx, c, shard.Meta.NodeID) {
			o.Late()
			continue
		}
		for p, floor := range promised {
			o.Observe(int32(p), at[int32(p)], floor, where)
		}
	}
}

// deposed tells whether another node than this one is the coordinator by now, as some node says. One that is cut off
// from the others does not know that it is none any more, and says what it knew; what it is told to write down it
// cannot acknowledge.
func (o *Oracle) deposed(ctx context.Context, c *kgo.Client, node int32) bool {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = o.group, []string{o.group}
	for _, b := range c.SeedBrokers() {
		// Why not all that the client knows: a node's answer must not change where the client looks for the group.
		resp, err := b.Request(ctx, req)
		if err != nil {
			continue
		}
		found := resp.(*kmsg.FindCoordinatorResponse)
		if len(found.Coordinators) == 1 && found.Coordinators[0].ErrorCode == 0 && found.Coordinators[0].NodeID != node ||
			len(found.Coordinators) == 0 && found.ErrorCode == 0 && found.NodeID != node {
			return true
		}
	}
	return false
}

// committedIn gives the offsets in an answer, by partition; refused: there is an error among them.
func committedIn(resp *kmsg.OffsetFetchResponse) (at map[int32]int64, refused bool) {
	at = map[int32]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			at[p.Partition], refused = p.Offset, refused || p.ErrorCode != 0
		}
	}
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				at[p.Partition], refused = p.Offset, refused || p.ErrorCode != 0
			}
		}
	}
	return at, refused
}

// late plays a packet of an earlier generation that comes late: its sender is a member by now of the next one.
func (o *Oracle) late(ctx context.Context, c *kgo.Client) {
	o.mu.Lock()
	member, generation, partition := "", int32(-1), int32(0)
	for p, owners := range o.mu.owners {
		for g, m := range owners {
			if g > generation {
				member, generation, partition = m, g, int32(p)
			}
		}
	}
	o.mu.Unlock()
	if generation < 1 {
		return
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = o.group, member, generation-1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = o.l.Topic
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	topics, err := kadm.NewClient(c).ListTopics(asking, o.l.Topic)
	if err != nil {
		return
	}
	t.TopicID = [16]byte(topics[o.l.Topic].ID) // newer versions go by it
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch = partition, 0, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(asking, c)
	if err != nil {
		return
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			o.Played(fenced(p.ErrorCode))
			if p.ErrorCode == 0 {
				o.l.Find(Unfenced, "group %s: a commit of partition %d in generation %d by %s was taken, whose generation is %d or later", o.group, partition, generation-1, member, generation)
			}
		}
	}
}
