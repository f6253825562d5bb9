package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func groupCommand(c *client) *cobra.Command {
	return noun("group", "List, describe, reset and delete consumer groups",
		groupList(c), groupDescribe(c), groupReset(c), groupDelete(c))
}

type groupBody struct {
	Group       string       `json:"group_id"`
	State       string       `json:"state"`
	Protocol    string       `json:"protocol"`
	Coordinator int32        `json:"coordinator_id"`
	Members     int          `json:"members"`
	Lag         string       `json:"lag"`
	Progress    []lagBody    `json:"group_message_offsets,omitempty"`
	Member      []memberBody `json:"group_members,omitempty"`
}

type lagBody struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed string `json:"message_current_offset"`
	End       string `json:"message_log_end_offset"`
	Lag       string `json:"lag"`
	Member    string `json:"consumer_id"`
	Host      string `json:"host"`
	ClientID  string `json:"client_id"`
}

type memberBody struct {
	ID       string `json:"consumer_id"`
	Host     string `json:"host"`
	ClientID string `json:"client_id"`
	Instance string `json:"instance_id,omitempty"`
}

func groupList(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List groups with state and lag", Args: noArgs,
		Example: "  belfry group list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				body, err := lags(ctx, a)
				if err != nil {
					return err
				}
				v := view{columns: columns("GROUP", "STATE", "MEMBERS", "LAG", "+COORDINATOR", "+PROTOCOL")}
				for i := range body {
					b := &body[i]
					b.Progress, b.Member = nil, nil
					v.rows = append(v.rows, []string{b.Group, b.State, strconv.Itoa(b.Members), b.Lag, strconv.Itoa(int(b.Coordinator)), b.Protocol})
				}
				if v.body = body; body == nil {
					v.body = []groupBody{}
				}
				return c.show(cmd.OutOrStdout(), v)
			})
		},
	}
}

func groupDescribe(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "describe GROUP", Short: "Show a group's progress in every partition, with its members", Args: exactly(1, "one group name"),
		Example:           "  belfry group describe audit",
		ValidArgsFunction: c.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				found, err := lags(ctx, a, args[0])
				if err != nil {
					return err
				}
				if len(found) == 0 {
					return fmt.Errorf("there is no group %s", args[0])
				}
				return c.showGroup(cmd, found[0])
			})
		},
	}
}

func (c *client) showGroup(cmd *cobra.Command, b groupBody) error {
	v := view{columns: columns("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST", "+CLIENT")}
	for _, r := range b.Progress {
		v.rows = append(v.rows, []string{r.Topic, strconv.Itoa(int(r.Partition)), r.Committed, r.End, r.Lag, r.Member, r.Host, r.ClientID})
	}
	v.body = b
	if c.output == "table" || c.output == "wide" {
		fmt.Fprintf(cmd.OutOrStdout(), "group %s: %s, %d members, lag %s\n", b.Group, b.State, b.Members, b.Lag)
	}
	return c.show(cmd.OutOrStdout(), v)
}

func groupDelete(c *client) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete GROUP…", Short: "Delete groups without members, with their committed offsets", Args: atLeastOne("group name"),
		Example:           "  belfry group delete audit --yes",
		ValidArgsFunction: c.completeGroups,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := confirm(cmd, yes, fmt.Sprintf("The committed offsets of %s will be lost.", strings.Join(names, ", ")), names[0]); err != nil {
				return err
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				rs, err := a.DeleteGroups(ctx, names...)
				if err != nil && rs == nil {
					return err
				}
				return each(cmd, names, func(n string) error {
					r, ok := rs[n]
					if !ok {
						return errors.New("the coordinator did not answer")
					}
					if r.Err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "deleted group %s\n", n)
					}
					return r.Err
				})
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

type resetFlags struct {
	to          string
	topic       string
	partition   int32
	dryRun, yes bool
}

type resetBody struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Before    string `json:"before"`
	After     string `json:"after"`
}

func groupReset(c *client) *cobra.Command {
	var f resetFlags
	cmd := &cobra.Command{
		Use: "reset GROUP", Short: "Move a group's committed offsets, while it has no members", Args: exactly(1, "one group name"),
		Example:           "  belfry group reset audit --to earliest --dry-run\n  belfry group reset audit --to 2026-05-01T00:00:00Z --topic orders --partition 2 --yes",
		ValidArgsFunction: c.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				return c.reset(ctx, cmd, a, args[0], f)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "earliest, latest, an offset, +N or -N (shift), or a time (RFC 3339)")
	flags.StringVar(&f.topic, "topic", "", "only this topic")
	flags.Int32Var(&f.partition, "partition", -1, "only this partition")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show before and after, change nothing")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func (c *client) reset(ctx context.Context, cmd *cobra.Command, a *kadm.Client, group string, f resetFlags) error {
	found, err := lags(ctx, a, group)
	if err != nil {
		return err
	}
	if len(found) > 0 && found[0].Members > 0 {
		return fmt.Errorf("group %s is %s with %d members: stop its consumers first", group, found[0].State, found[0].Members)
	}
	before, err := a.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	topics := before.Offsets().TopicsSet().Topics()
	if f.topic != "" {
		topics = []string{f.topic}
	}
	if len(topics) == 0 {
		return fmt.Errorf("group %s has no committed offsets: name a topic with --topic", group)
	}
	after, err := resetTarget(ctx, a, before, topics, f)
	if err != nil {
		return err
	}
	if err := c.showReset(cmd, before, after); err != nil || f.dryRun {
		return err
	}
	if err := confirm(cmd, f.yes, "The group's committed offsets will be moved as shown.", group); err != nil {
		return err
	}
	rs, err := a.CommitOffsets(ctx, group, after)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		return fmt.Errorf("cannot commit the offsets of group %s: %w", group, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "moved %d partitions of group %s\n", len(rs.Sorted()), group)
	return nil
}

// resetTarget computes the new offset of every partition that is meant; each stays within what
// the partition holds.
func resetTarget(ctx context.Context, a *kadm.Client, before kadm.OffsetResponses, topics []string, f resetFlags) (kadm.Offsets, error) {
	starts, err := a.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, err
	}
	ends, err := a.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	pick, err := picker(ctx, a, before, topics, f.to)
	if err != nil {
		return nil, err
	}
	after := kadm.Offsets{}
	starts.Each(func(s kadm.ListedOffset) {
		end, ok := ends.Lookup(s.Topic, s.Partition)
		if !ok || f.partition >= 0 && s.Partition != f.partition {
			return
		}
		at := min(max(pick(s, end), s.Offset), end.Offset)
		after.AddOffset(s.Topic, s.Partition, at, -1)
	})
	if len(after) == 0 {
		return nil, fmt.Errorf("no partition %d in %s", f.partition, strings.Join(topics, ", "))
	}
	return after, nil
}

// picker reads --to.
func picker(ctx context.Context, a *kadm.Client, before kadm.OffsetResponses, topics []string, to string) (func(start, end kadm.ListedOffset) int64, error) {
	switch to {
	case "earliest":
		return func(s, _ kadm.ListedOffset) int64 { return s.Offset }, nil
	case "latest":
		return func(_, e kadm.ListedOffset) int64 { return e.Offset }, nil
	}
	n, err := strconv.ParseInt(to, 10, 64)
	if err == nil && (to[0] == '+' || to[0] == '-') {
		return func(s, _ kadm.ListedOffset) int64 {
			if o, ok := before.Lookup(s.Topic, s.Partition); ok && o.At >= 0 {
				return o.At + n
			}
			return s.Offset
		}, nil
	}
	if err == nil {
		return func(kadm.ListedOffset, kadm.ListedOffset) int64 { return n }, nil
	}
	t, err := time.Parse(time.RFC3339, to)
	if err != nil {
		return nil, usageError{fmt.Errorf("--to %q: want earliest, latest, an offset of 0 or more, +N, -N, or a time such as 2026-05-01T12:00:00Z", to)}
	}
	at, err := a.ListOffsetsAfterMilli(ctx, t.UnixMilli(), topics...)
	if err != nil {
		return nil, err
	}
	return func(s, e kadm.ListedOffset) int64 {
		if o, ok := at.Lookup(s.Topic, s.Partition); ok && o.Offset >= 0 {
			return o.Offset
		}
		return e.Offset
	}, nil
}

func (c *client) showReset(cmd *cobra.Command, before kadm.OffsetResponses, after kadm.Offsets) error {
	v := view{columns: columns("TOPIC", "PARTITION", "BEFORE", "AFTER")}
	body := []resetBody{}
	sorted := after.Sorted()
	slices.SortFunc(sorted, func(x, y kadm.Offset) int {
		if x.Topic != y.Topic {
			return strings.Compare(x.Topic, y.Topic)
		}
		return int(x.Partition - y.Partition)
	})
	for _, o := range sorted {
		b := resetBody{Topic: o.Topic, Partition: o.Partition, Before: "-", After: strconv.FormatInt(o.At, 10)}
		if was, ok := before.Lookup(o.Topic, o.Partition); ok && was.At >= 0 {
			b.Before = strconv.FormatInt(was.At, 10)
		}
		body = append(body, b)
		v.rows = append(v.rows, []string{b.Topic, strconv.Itoa(int(b.Partition)), b.Before, b.After})
	}
	v.body = body
	return c.show(cmd.OutOrStdout(), v)
}
