package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groups lists all groups, counts their members and reads what they committed.
func (c *Client) groups(ctx context.Context, s *State) error {
	listed, err := c.admin.ListGroups(ctx)
	s.GroupsKnown = err == nil
	var trouble []error
	if err != nil {
		trouble = append(trouble, fmt.Errorf("cannot list groups: %w", err))
	}
	for _, g := range listed {
		s.Groups = append(s.Groups, Group{Name: g.Group, State: g.State, Coordinator: g.Coordinator, Members: -1})
	}
	slices.SortFunc(s.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	for batch := range slices.Chunk(s.Groups, groupsAtOnce) {
		if err := c.describe(ctx, batch); err != nil {
			trouble = append(trouble, err)
		}
		if err := c.commits(ctx, batch); err != nil {
			trouble = append(trouble, err)
		}
	}
	return first(trouble)
}

// empty is the state of a group without members, whichever protocol it is of.
const empty = "Empty"

// describe fills in states and member counts. A group of the new protocol
// (KIP-848) answers to another request than a classic one; one that was listed as
// empty need not be asked.
func (c *Client) describe(ctx context.Context, batch []Group) error {
	var names []string
	for i := range batch {
		if g := &batch[i]; g.State == empty {
			g.Members = 0
		} else {
			names = append(names, g.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	classic, err := c.admin.DescribeGroups(ctx, names...)
	if err != nil && classic == nil {
		return fmt.Errorf("cannot describe groups: %w", err)
	}
	var modern []string
	for i := range batch {
		g := &batch[i]
		if g.State == empty {
			continue
		}
		d, ok := classic[g.Name]
		if !ok || d.Err != nil || d.State == "Dead" {
			if g.State != "" && g.State != "Dead" {
				modern = append(modern, g.Name)
			}
			continue
		}
		g.State, g.Members = d.State, len(d.Members)
	}
	if len(modern) == 0 {
		return nil
	}
	// A broker that does not know the request does not have such groups: what it
	// answers then costs the member counts only.
	described, _ := c.admin.DescribeConsumerGroups(ctx, modern...)
	for i := range batch {
		if d, ok := described[batch[i].Name]; ok && d.Err == nil {
			batch[i].State, batch[i].Members = d.State, len(d.Members)
		}
	}
	return nil
}

// commits reads the committed offsets of a batch of groups, sorted by name, at once.
func (c *Client) commits(ctx context.Context, batch []Group) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	for i := range batch {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = batch[i].Name // no topic named: all
		req.Groups = append(req.Groups, g)
	}
	failed := make(map[string]error)
	for _, shard := range c.kafka.RequestSharded(ctx, req) {
		if shard.Err != nil {
			for _, g := range shard.Req.(*kmsg.OffsetFetchRequest).Groups {
				failed[g.Group] = shard.Err
			}
			continue
		}
		for _, a := range shard.Resp.(*kmsg.OffsetFetchResponse).Groups {
			i, ok := slices.BinarySearchFunc(batch, a.Group, func(g Group, name string) int { return strings.Compare(g.Name, name) })
			if !ok {
				continue
			}
			switch err := kerr.ErrorForCode(a.ErrorCode); {
			case errors.Is(err, kerr.GroupIDNotFound):
				batch[i].Known = true // deleted since it was listed: it committed nothing
			case err != nil:
				failed[a.Group] = err
			default:
				batch[i].Known, batch[i].Commits = true, commitsOf(a.Topics)
			}
		}
	}
	var trouble []error
	for i := range batch {
		if g := &batch[i]; !g.Known {
			trouble = append(trouble, fmt.Errorf("cannot read offsets of group %q: %w", g.Name, cmp.Or(failed[g.Name], errSilent)))
		}
	}
	return first(trouble)
}

// errSilent is given for a group that the answer left out.
var errSilent = errors.New("no answer")

func commitsOf(topics []kmsg.OffsetFetchResponseGroupTopic) []Commit {
	n := 0
	for _, t := range topics {
		n += len(t.Partitions)
	}
	if n == 0 {
		return nil
	}
	out := make([]Commit, 0, n)
	for _, t := range topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.Offset >= 0 {
				out = append(out, Commit{Topic: t.Topic, Partition: p.Partition, Offset: p.Offset})
			}
		}
	}
	slices.SortFunc(out, func(a, b Commit) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// first says what failed first and how much more did: a thousand groups whose
// coordinator is away are one message.
func first(trouble []error) error {
	switch len(trouble) {
	case 0:
		return nil
	case 1:
		return trouble[0]
	}
	return fmt.Errorf("%w (and %d more)", trouble[0], len(trouble)-1)
}
