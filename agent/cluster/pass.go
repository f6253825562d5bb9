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

func (c *Client) metadata(ctx context.Context, s *State) error {
	m, err := c.admin.Metadata(ctx)
	if err != nil {
		return err
	}
	s.ClusterID, s.Controller, s.Brokers = m.Cluster, m.Controller, brokersOf(m)
	for _, t := range m.Topics {
		if t.Err != nil {
			continue // being made or deleted, or not for our eyes
		}
		s.Topics = append(s.Topics, topicOf(t))
	}
	slices.SortFunc(s.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return nil
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

func topicOf(d kadm.TopicDetail) Topic {
	t := Topic{Name: d.Topic, ID: d.ID, Internal: d.IsInternal}
	for _, p := range d.Partitions {
		t.Partitions = append(t.Partitions, Partition{
			ID: p.Partition, Leader: p.Leader,
			Replicas: p.Replicas, ISR: p.ISR, Offline: p.OfflineReplicas,
			Start: Unknown, End: Unknown,
		})
	}
	slices.SortFunc(t.Partitions, func(a, b Partition) int { return cmp.Compare(a.ID, b.ID) })
	return t
}

func (c *Client) starts(ctx context.Context, s *State) error {
	return c.offsets(ctx, s, "start", c.admin.ListStartOffsets, func(p *Partition, at int64) { p.Start = at })
}

func (c *Client) ends(ctx context.Context, s *State) error {
	err := c.offsets(ctx, s, "end", c.admin.ListEndOffsets, func(p *Partition, at int64) { p.End = at })
	s.Ended = time.Now()
	return err
}

type lister func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

// offsets asks for one kind of offset of every partition, a bounded number at once.
//
// A partition that has no leader is no error here: it is Unknown, and the count
// of offline partitions tells of it.
func (c *Client) offsets(ctx context.Context, s *State, kind string, list lister, put func(*Partition, int64)) error {
	var trouble error
	for from := 0; from < len(s.Topics); {
		to, n := from, 0
		for to < len(s.Topics) && (to == from || n+len(s.Topics[to].Partitions) <= partitionsAtOnce) {
			n += len(s.Topics[to].Partitions)
			to++
		}
		batch := s.Topics[from:to]
		from = to
		names := make([]string, 0, len(batch))
		for _, t := range batch {
			names = append(names, t.Name)
		}
		listed, err := list(ctx, names...)
		if err != nil && trouble == nil {
			trouble = fmt.Errorf("cannot list %s offsets: %w", kind, err)
		}
		for i := range batch {
			for j := range batch[i].Partitions {
				p := &batch[i].Partitions[j]
				o, ok := listed.Lookup(batch[i].Name, p.ID)
				switch {
				case ok && errors.Is(o.Err, kerr.KafkaStorageError):
					p.Leader = -1 // its log is damaged or its disk has failed: nobody can read or write it
				case ok && o.Err == nil && o.Offset >= 0:
					put(p, o.Offset)
				}
			}
		}
	}
	return trouble
}

func (c *Client) logDirs(ctx context.Context, s *State) error {
	all, err := c.admin.DescribeAllLogDirs(ctx, nil)
	for id, dirs := range all {
		s.LogDirs = append(s.LogDirs, logDirsOf(id, dirs))
	}
	slices.SortFunc(s.LogDirs, func(a, b LogDirs) int { return cmp.Compare(a.Broker, b.Broker) })
	if err != nil {
		return fmt.Errorf("cannot describe log directories: %w", err)
	}
	return nil
}

func logDirsOf(id int32, described kadm.DescribedLogDirs) LogDirs {
	out := LogDirs{Broker: id}
	for path, d := range described {
		dir := LogDir{Path: path, Err: d.Err}
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			dir.Replicas = append(dir.Replicas, Replica{Topic: p.Topic, Partition: p.Partition, Bytes: p.Size, Future: p.IsFuture})
		})
		out.Dirs = append(out.Dirs, dir)
	}
	slices.SortFunc(out.Dirs, func(a, b LogDir) int { return strings.Compare(a.Path, b.Path) })
	return out
}
