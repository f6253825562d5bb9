package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
)

// ErrUnreachable is given when no broker of the cluster answered at all.
var ErrUnreachable = errors.New("cluster cannot be reached")

// Pass looks at the whole cluster once: metadata, groups and what they committed,
// then start offsets, then end offsets, then sizes on disk.
//
// Blocks: each step at most a share of what ctx leaves, so that one that hangs
// does not cost the others; the first, without which there is nothing, half of it.
// Errors: ErrUnreachable and no State; or a State and
// the joined errors of the parts that are unknown in it.
func (c *Client) Pass(ctx context.Context) (*State, error) {
	s := &State{}
	if err := c.within(ctx, 2, func(ctx context.Context) error { return c.metadata(ctx, s) }); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	s.Committed = time.Now()
	var trouble []error
	for i, step := range []func(context.Context, *State) error{c.groups, c.starts, c.ends, c.logDirs} {
		err := c.within(ctx, 4-i, func(ctx context.Context) error { return step(ctx, s) })
		if err != nil {
			trouble = append(trouble, err)
		}
	}
	return s, errors.Join(trouble...)
}

// within runs one step with one of so many parts of the time that is left.
func (c *Client) within(ctx context.Context, parts int, step func(context.Context) error) error {
	limit := c.timeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) / time.Duration(parts)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return step(ctx)
}

// metadata takes the answer as it came. Why not by kadm, here and for offsets, commits and sizes:
// it makes maps of what are sorted lists and asks for metadata again in each step, which was
// half of what a pass cost.
func (c *Client) metadata(ctx context.Context, s *State) error {
	m, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, c.kafka) // no topic named: all
	if err != nil {
		return err
	}
	if m.ClusterID != nil {
		s.ClusterID = *m.ClusterID
	}
	s.Controller = m.ControllerID
	for _, b := range m.Brokers {
		broker := Broker{ID: b.NodeID, Host: b.Host, Port: b.Port}
		if b.Rack != nil {
			broker.Rack = *b.Rack
		}
		s.Brokers = append(s.Brokers, broker)
	}
	slices.SortFunc(s.Brokers, func(a, b Broker) int { return cmp.Compare(a.ID, b.ID) })
	s.Topics = make([]Topic, 0, len(m.Topics))
	for i := range m.Topics {
		if t := &m.Topics[i]; t.ErrorCode == 0 && t.Topic != nil { // else being made or deleted, or not for our eyes
			s.Topics = append(s.Topics, topicOf(t))
		}
	}
	slices.SortFunc(s.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func topicOf(d *kmsg.MetadataResponseTopic) Topic {
	t := Topic{Name: *d.Topic, ID: d.TopicID, Internal: d.IsInternal, Partitions: make([]Partition, len(d.Partitions))}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		t.Partitions[i] = Partition{
			ID: p.Partition, Leader: p.Leader,
			Replicas: p.Replicas, ISR: p.ISR, Offline: p.OfflineReplicas,
			Start: Unknown, End: Unknown,
		}
	}
	slices.SortFunc(t.Partitions, func(a, b Partition) int { return cmp.Compare(a.ID, b.ID) })
	return t
}

// Brokers asks for the brokers that are alive and for nothing else: the cheapest
// question that a cluster answers only when it works.
//
// Blocks: until ctx ends or the request times out. Errors: ErrUnreachable.
func (c *Client) Brokers(ctx context.Context) ([]Broker, error) {
	// Why with authorized operations, which nobody reads: without them the client
	// library answers by itself, from what it remembers, and the dead live on.
	m, err := c.admin.BrokerMetadata(kadm.WithAuthorizedOps(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return brokersOf(m), nil
}

func brokersOf(m kadm.Metadata) []Broker {
	var all []Broker
	for _, b := range m.Brokers {
		broker := Broker{ID: b.NodeID, Host: b.Host, Port: b.Port}
		if b.Rack != nil {
			broker.Rack = *b.Rack
		}
		all = append(all, broker)
	}
	slices.SortFunc(all, func(a, b Broker) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (c *Client) logDirs(ctx context.Context, s *State) error {
	var trouble []error
	req := kmsg.NewPtrDescribeLogDirsRequest() // no topic named: all
	req.UnknownTags.Set(stats.TagTraffic, nil)
	for _, shard := range c.kafka.RequestSharded(ctx, req) {
		err := shard.Err
		if err == nil {
			err = kerr.ErrorForCode(shard.Resp.(*kmsg.DescribeLogDirsResponse).ErrorCode)
		}
		if err != nil {
			trouble = append(trouble, fmt.Errorf("cannot describe log directories of broker %d: %w", shard.Meta.NodeID, err))
			continue
		}
		s.LogDirs = append(s.LogDirs, logDirsOf(shard.Meta.NodeID, shard.Resp.(*kmsg.DescribeLogDirsResponse)))
	}
	slices.SortFunc(s.LogDirs, func(a, b LogDirs) int { return cmp.Compare(a.Broker, b.Broker) })
	return first(trouble)
}

func logDirsOf(id int32, described *kmsg.DescribeLogDirsResponse) LogDirs {
	out := LogDirs{Broker: id}
	for i := range described.Dirs {
		d := &described.Dirs[i]
		dir := LogDir{Path: d.Dir, Err: kerr.ErrorForCode(d.ErrorCode)}
		n := 0
		for _, t := range d.Topics {
			n += len(t.Partitions)
		}
		dir.Replicas = make([]Replica, 0, n)
		for _, t := range d.Topics {
			for _, p := range t.Partitions {
				dir.Replicas = append(dir.Replicas, Replica{Topic: t.Topic, Partition: p.Partition, Bytes: p.Size, Lag: p.OffsetLag, Future: p.IsFuture})
			}
		}
		out.Dirs = append(out.Dirs, dir)
	}
	described.UnknownTags.Each(func(tag uint32, v []byte) {
		if tag != stats.TagTraffic {
			return
		}
		if t, err := stats.ReadTraffic(v); err == nil {
			out.Traffic = &t
		}
	})
	slices.SortFunc(out.Dirs, func(a, b LogDir) int { return strings.Compare(a.Path, b.Path) })
	return out
}
