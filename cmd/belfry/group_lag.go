package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// lags gives groups with members and progress: those named, else all. A group that is not
// there is left out. Groups of the classic protocol and of the new one (KIP-848) are asked
// for in different ways.
func lags(ctx context.Context, a *kadm.Client, names ...string) ([]groupBody, error) {
	classic, err := a.Lag(ctx, names...)
	if err != nil {
		return nil, err
	}
	var out []groupBody
	modern := slices.Clone(names)
	for _, l := range classic.Sorted() {
		err := l.Error()
		if l.State == "Dead" || errors.Is(err, kerr.GroupIDNotFound) {
			continue
		}
		if err != nil && len(names) > 0 {
			return nil, fmt.Errorf("group %s: %w", l.Group, err)
		}
		modern = slices.DeleteFunc(modern, func(n string) bool { return n == l.Group })
		out = append(out, classicBody(l))
	}
	if len(names) == 0 {
		// A broker that knows no types of groups has none of the new protocol.
		if listed, err := a.ListGroupsByType(ctx, []string{"consumer"}); err == nil {
			modern = listed.Groups()
		}
	}
	more, err := modernLags(ctx, a, modern)
	if err != nil {
		return nil, err
	}
	out = append(out, more...)
	slices.SortFunc(out, func(x, y groupBody) int { return strings.Compare(x.Group, y.Group) })
	return slices.CompactFunc(out, func(x, y groupBody) bool { return x.Group == y.Group }), nil
}

// classicBody shows a group of the classic protocol.
func classicBody(l kadm.DescribedGroupLag) groupBody {
	b := groupBody{Group: l.Group, State: l.State, Protocol: l.Protocol, Coordinator: l.Coordinator.NodeID, Members: len(l.Members), Lag: strconv.FormatInt(l.Lag.Total(), 10)}
	for _, m := range l.Members {
		b.Member = append(b.Member, memberBody{ID: m.MemberID, Host: m.ClientHost, ClientID: m.ClientID, Instance: value(m.InstanceID)})
	}
	for _, p := range l.Lag.Sorted() {
		r := progress(p.Topic, p.Partition, p.Commit.At, p.End.Offset, p.Lag)
		if p.Member != nil {
			r.Member, r.Host, r.ClientID = p.Member.MemberID, p.Member.ClientHost, p.Member.ClientID
		}
		b.Progress = append(b.Progress, r)
	}
	return b
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func progress(topic string, partition int32, committed, end, lag int64) lagBody {
	r := lagBody{Topic: topic, Partition: partition, Committed: "-", End: strconv.FormatInt(end, 10), Lag: strconv.FormatInt(lag, 10)}
	if committed >= 0 {
		r.Committed = strconv.FormatInt(committed, 10)
	}
	return r
}

// modernLags gives groups of the new protocol; names of others are left out.
func modernLags(ctx context.Context, a *kadm.Client, names []string) ([]groupBody, error) {
	if len(names) == 0 {
		return nil, nil
	}
	described, err := a.DescribeConsumerGroups(ctx, names...)
	if err != nil && described == nil {
		if errors.Is(err, kerr.UnsupportedVersion) {
			return nil, nil
		}
		return nil, err
	}
	fetched := a.FetchManyOffsets(ctx, names...)
	wanted := fetched.CommittedPartitions()
	wanted.Merge(described.AssignedPartitions())
	var starts, ends kadm.ListedOffsets
	if topics := wanted.Topics(); len(topics) > 0 {
		if starts, err = a.ListStartOffsets(ctx, topics...); err == nil {
			ends, err = a.ListEndOffsets(ctx, topics...)
		}
		if err != nil {
			return nil, err
		}
	}
	var out []groupBody
	for _, g := range described.Sorted() {
		switch {
		case errors.Is(g.Err, kerr.GroupIDNotFound), errors.Is(g.Err, kerr.UnsupportedVersion):
		case g.Err != nil:
			return nil, fmt.Errorf("group %s: %w", g.Group, g.Err)
		default:
			out = append(out, modernBody(g, fetched[g.Group].Fetched, starts, ends))
		}
	}
	return out, nil
}

// modernBody shows a group of the new protocol: every partition that has an offset or an owner.
func modernBody(g kadm.DescribedConsumerGroup, fetched kadm.OffsetResponses, starts, ends kadm.ListedOffsets) groupBody {
	b := groupBody{Group: g.Group, State: g.State, Protocol: g.AssignorName, Coordinator: g.Coordinator.NodeID, Members: len(g.Members)}
	type at struct {
		topic     string
		partition int32
	}
	rows := make(map[at]*lagBody)
	total := int64(0)
	add := func(topic string, partition int32) *lagBody {
		if r := rows[at{topic, partition}]; r != nil {
			return r
		}
		committed, lag := int64(-1), int64(-1)
		if o, ok := fetched.Lookup(topic, partition); ok && o.Err == nil {
			committed = o.At
		}
		end, ok := ends.Lookup(topic, partition)
		if !ok || end.Err != nil {
			end.Offset = -1
		} else if lag = end.Offset - committed; committed < 0 {
			start, _ := starts.Lookup(topic, partition)
			lag = end.Offset - start.Offset
		}
		total += max(lag, 0)
		r := progress(topic, partition, committed, end.Offset, lag)
		rows[at{topic, partition}] = &r
		return &r
	}
	fetched.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At >= 0 {
			add(o.Topic, o.Partition)
		}
	})
	for _, m := range g.Members {
		b.Member = append(b.Member, memberBody{ID: m.MemberID, Host: m.ClientHost, ClientID: m.ClientID, Instance: value(m.InstanceID)})
		m.Assignment.Each(func(topic string, partition int32) {
			r := add(topic, partition)
			r.Member, r.Host, r.ClientID = m.MemberID, m.ClientHost, m.ClientID
		})
	}
	for _, r := range rows {
		b.Progress = append(b.Progress, *r)
	}
	slices.SortFunc(b.Progress, func(x, y lagBody) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	b.Lag = strconv.FormatInt(total, 10)
	return b
}
