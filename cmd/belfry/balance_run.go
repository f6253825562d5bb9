package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/belfry-mq/belfry/agent/balance"
)

func balanceRun(c *client) *cobra.Command {
	var w balanceWish
	var yes, wait bool
	cmd := &cobra.Command{
		Use: "run", Short: "Move what a plan says", Args: noArgs,
		Long: "Compute a plan as `belfry balance plan` does, or take one from a file, and have the cluster carry it out.\n" +
			"The cluster goes on by itself; `belfry balance status` says how far it is.",
		Example: "  belfry balance run --yes --wait\n  belfry balance plan -o json > plan.json && belfry balance run --plan plan.json --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				ms, l, err := w.moves(ctx, cmd.InOrStdin(), a)
				if err != nil {
					return err
				}
				tellCosts(cmd.OutOrStdout(), ms, l, w.within)
				if len(ms) == 0 {
					return nil
				}
				if err := confirm(cmd, yes, fmt.Sprintf("%d partitions get other replicas or another order of them.", len(ms)), "balance"); err != nil {
					return err
				}
				if err := submit(ctx, cmd, a, ms); err != nil || !wait {
					return err
				}
				return follow(cmd.Context(), cmd.OutOrStdout(), a)
			})
		},
	}
	w.flags(cmd, c)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&wait, "wait", false, "stay until everything is moved, and say how far it is")
	return cmd
}

// submit asks the cluster to move; what it refuses is told partition by partition.
func submit(ctx context.Context, cmd *cobra.Command, a *kadm.Client, ms []balance.Move) error {
	var req kadm.AlterPartitionAssignmentsReq
	names := make([]string, len(ms))
	for i, m := range ms {
		req.Assign(m.Topic, m.Number, m.To)
		names[i] = m.Topic + "-" + strconv.Itoa(int(m.Number))
	}
	rs, err := a.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	at := 0
	taken := 0
	err = each(cmd, names, func(string) error {
		r := rs[ms[at].Topic][ms[at].Number]
		if at++; r.Err == nil {
			taken++
		}
		return explain(r.Err, r.ErrMessage)
	})
	if taken > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "the cluster has taken %d moves\n", taken)
	}
	return err
}

// moving is one partition on its way.
type moving struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Adding    []int32 `json:"adding_replicas"`
	Removing  []int32 `json:"removing_replicas"`
	Bytes     int64   `json:"bytes"`      // that the new replicas will have
	Left      int64   `json:"bytes_left"` // that they do not have yet
}

// underway asks for what is being moved, and how much of it is left.
func underway(ctx context.Context, a *kadm.Client) ([]moving, error) {
	rs, err := a.ListPartitionReassignments(ctx, nil)
	if err != nil {
		return nil, err
	}
	sorted := rs.Sorted()
	if len(sorted) == 0 {
		return nil, nil
	}
	topics := map[string]bool{}
	var names []string
	for _, r := range sorted {
		if !topics[r.Topic] {
			topics[r.Topic], names = true, append(names, r.Topic)
		}
	}
	sizes, err := replicaSizes(ctx, a, names)
	if err != nil {
		return nil, err
	}
	var ms []moving
	for _, r := range sorted {
		m := moving{Topic: r.Topic, Partition: r.Partition, Adding: r.AddingReplicas, Removing: r.RemovingReplicas}
		whole := sizes.largest(r.Topic, r.Partition)
		for _, b := range r.AddingReplicas {
			m.Bytes += whole
			m.Left += max(0, whole-sizes[r.Topic][r.Partition][b])
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func balanceStatus(c *client) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say what is being moved and how much is left", Args: noArgs,
		Example: "  belfry balance status --wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				if wait {
					return follow(cmd.Context(), cmd.OutOrStdout(), a)
				}
				ms, err := underway(ctx, a)
				if err != nil {
					return err
				}
				v := view{columns: columns("TOPIC", "PARTITION", "ADDING", "REMOVING", "LEFT", "OF"), body: ms}
				if ms == nil {
					v.body = []moving{}
				}
				for _, m := range ms {
					v.rows = append(v.rows, []string{m.Topic, strconv.Itoa(int(m.Partition)), ids(m.Adding), ids(m.Removing), size(m.Left), size(m.Bytes)})
				}
				return c.show(cmd.OutOrStdout(), v)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "stay until everything is moved, and say how far it is")
	return cmd
}

// step is how often follow looks.
const step = time.Second

// follow tells how far the moves are until there are none.
func follow(ctx context.Context, w io.Writer, a *kadm.Client) error {
	tick := time.NewTicker(step)
	defer tick.Stop()
	var first, last int64 = -1, -1
	begin := time.Now()
	for {
		ms, err := underway(ctx, a)
		if err != nil {
			return err
		}
		if len(ms) == 0 {
			fmt.Fprintln(w, "nothing is being moved")
			return nil
		}
		left := int64(0)
		for _, m := range ms {
			left += m.Left
		}
		if first < 0 {
			first = left
		}
		if left != last {
			fmt.Fprintf(w, "%d partitions, %s left%s\n", len(ms), size(left), end(first-left, left, time.Since(begin)))
			last = left
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// end estimates when the rest is done, at the pace so far.
func end(done, left int64, took time.Duration) string {
	if done <= 0 || took <= 0 {
		return ""
	}
	rest := time.Duration(float64(left) / float64(done) * float64(took))
	return fmt.Sprintf(", done in about %v", rest.Round(time.Second))
}

func balanceCancel(c *client) *cobra.Command {
	var topics []string
	cmd := &cobra.Command{
		Use: "cancel", Short: "Stop moves that are under way; replicas go back to where they were", Args: noArgs,
		Example: "  belfry balance cancel --topics orders",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				rs, err := a.ListPartitionReassignments(ctx, nil)
				if err != nil {
					return err
				}
				var req kadm.AlterPartitionAssignmentsReq
				var names []string
				var asked []kadm.ListPartitionReassignmentsResponse
				for _, r := range rs.Sorted() {
					if len(topics) == 0 || slices.Contains(topics, r.Topic) {
						req.CancelAssign(r.Topic, r.Partition)
						names, asked = append(names, r.Topic+"-"+strconv.Itoa(int(r.Partition))), append(asked, r)
					}
				}
				if len(names) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing is being moved")
					return nil
				}
				answers, err := a.AlterPartitionAssignments(ctx, req)
				if err != nil {
					return err
				}
				at := 0
				return each(cmd, names, func(n string) error {
					r := answers[asked[at].Topic][asked[at].Partition]
					at++
					if r.Err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "cancelled the move of %s\n", n)
					}
					return explain(r.Err, r.ErrMessage)
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&topics, "topics", nil, "only of these topics (default: all)")
	return cmd
}
