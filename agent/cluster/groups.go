package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
		names := make([]string, 0, len(batch))
		for _, g := range batch {
			names = append(names, g.Name)
		}
		if err := c.describe(ctx, batch, names); err != nil {
			trouble = append(trouble, err)
		}
		if err := c.commits(ctx, batch, names); err != nil {
			trouble = append(trouble, err)
		}
	}
	return first(trouble)
}

// describe fills in states and member counts. A group of the new protocol
// (KIP-848) answers to another request than a classic one.
func (c *Client) describe(ctx context.Context, batch []Group, names []string) error {
	classic, err := c.admin.DescribeGroups(ctx, names...)
	if err != nil && classic == nil {
		return fmt.Errorf("cannot describe groups: %w", err)
	}
	var modern []string
	for i := range batch {
		g := &batch[i]
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

// commits reads the committed offsets of a batch of groups at once.
func (c *Client) commits(ctx context.Context, batch []Group, names []string) error {
	fetched := c.admin.FetchManyOffsets(ctx, names...)
	var trouble []error
	for i := range batch {
		g := &batch[i]
		f, ok := fetched[g.Name]
		switch {
		case ok && errors.Is(f.Err, kerr.GroupIDNotFound):
			g.Known = true // deleted since it was listed: it committed nothing
		case !ok:
			trouble = append(trouble, fmt.Errorf("cannot read offsets of group %q: no answer", g.Name))
		case f.Err != nil:
			trouble = append(trouble, fmt.Errorf("cannot read offsets of group %q: %w", g.Name, f.Err))
		default:
			g.Known = true
			g.Commits = commitsOf(f.Fetched)
		}
	}
	return first(trouble)
}

func commitsOf(fetched kadm.OffsetResponses) []Commit {
	var out []Commit
	fetched.Each(func(r kadm.OffsetResponse) {
		if r.Err == nil && r.At >= 0 {
			out = append(out, Commit{Topic: r.Topic, Partition: r.Partition, Offset: r.At})
		}
	})
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
