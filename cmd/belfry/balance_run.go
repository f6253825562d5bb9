package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/agent/balance"
)

func balanceRun(c *client) *cobra.Command {
	var w balanceWish
	var yes, wait bool
	limit := rateFlag{noLimit}
	cmd := &cobra.Command{
		Use: "run", Short: "Move what a plan says", Args: noArgs,
		Long: "Compute a plan as `belfry balance plan` does, or take one from a file, and have the cluster carry it out.\n" +
			"The cluster goes on by itself; `belfry balance status` says how far it is. While a topic is being moved it\n" +
			"can be neither deleted nor given more partitions.\n\n" +
			"With --bandwidth no broker sends more than that to replicas that are not in sync yet, and none takes more;\n" +
			"what goes to the others of the same partitions counts, but does not wait. The limit ends with the moves:\n" +
			"--wait, or the next `belfry balance status`, run or cancel, takes it away.",
		Example: "  belfry balance run --yes --wait\n  belfry balance run --bandwidth 20MB --protect payments --yes\n" +
			"  belfry balance plan -o json > plan.json && belfry balance run --plan plan.json --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				now, err := tidy(ctx, cmd.OutOrStdout(), k, a)
				if err != nil {
					return err
				}
				ms, l, err := w.moves(ctx, cmd.InOrStdin(), k, a)
				if err != nil {
					return err
				}
				tellCosts(cmd.OutOrStdout(), ms, l, w.within, limit.bytes)
				if len(ms) == 0 {
					return nil
				}
				if err := confirm(cmd, yes, fmt.Sprintf("%d partitions get other replicas or another order of them.", len(ms)), "balance"); err != nil {
					return err
				}
				if err := carryOut(ctx, cmd, k, a, ms, limit.bytes, now); err != nil || !wait {
					return err
				}
				return c.follow(cmd)
			})
		},
	}
	w.flags(cmd, c)
	cmd.Flags().Var(&limit, "bandwidth", "most `BYTES` a second that a broker sends, and takes, as copies: 20MB, 500kB")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&wait, "wait", false, "stay until everything is moved, and say how far it is")
	return cmd
}

// carryOut limits the moves and has the cluster make them.
func carryOut(ctx context.Context, cmd *cobra.Command, k *kgo.Client, a *kadm.Client, ms []balance.Move, bytes int64, now *limits) error {
	if bytes == noLimit {
		return submit(ctx, cmd, a, ms)
	}
	all := limitTo(bytes, ms, now)
	if err := alter(ctx, k, all); err != nil {
		return fmt.Errorf("cannot limit the moves: %w; nothing is moved", err)
	}
	err := submit(ctx, cmd, a, ms)
	// Why again: who asked for the status in between has seen limits without moves, and taken
	// them away.
	if again := alter(ctx, k, all); again != nil {
		err = errors.Join(err, fmt.Errorf("cannot make sure of the limit of the moves: %w", again))
	}
	return err
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

// movesProgress is how far the moves are.
type movesProgress struct {
	Moves   []moving     `json:"moves"`
	Bytes   int64        `json:"bytes"`
	Left    int64        `json:"bytes_left"`
	Rate    float64      `json:"bytes_per_second"` // copied, as measured
	Seconds *float64     `json:"seconds_left"`     // at that rate; null: not known
	Limits  []brokerRate `json:"limits"`           // of brokers, as settings have them
}

// reassigning asks for every partition that is being moved. Why not kadm's words: asked for no
// topic in particular, it gives none without asking.
func reassigning(ctx context.Context, k *kgo.Client) (kadm.ListPartitionReassignmentsResponses, error) {
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	req.TimeoutMillis = int32(clientTimeout / time.Millisecond)
	resp, err := req.RequestWith(ctx, k)
	if err == nil {
		err = explain(kerr.ErrorForCode(resp.ErrorCode), deref(resp.ErrorMessage))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask what is being moved: %w", err)
	}
	all := kadm.ListPartitionReassignmentsResponses{}
	for _, t := range resp.Topics {
		all[t.Topic] = map[int32]kadm.ListPartitionReassignmentsResponse{}
		for _, p := range t.Partitions {
			all[t.Topic][p.Partition] = kadm.ListPartitionReassignmentsResponse{
				Topic: t.Topic, Partition: p.Partition, Replicas: p.Replicas, AddingReplicas: p.AddingReplicas, RemovingReplicas: p.RemovingReplicas,
			}
		}
	}
	return all, nil
}

// underway asks for what is being moved, and how much of it is left.
func underway(ctx context.Context, k *kgo.Client, a *kadm.Client) (*movesProgress, error) {
	p := &movesProgress{Moves: []moving{}, Limits: []brokerRate{}}
	rs, err := reassigning(ctx, k)
	if err != nil {
		return nil, err
	}
	sorted := rs.Sorted()
	if len(sorted) == 0 {
		return p, nil
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
	for _, r := range sorted {
		m := moving{Topic: r.Topic, Partition: r.Partition, Adding: r.AddingReplicas, Removing: r.RemovingReplicas}
		whole := sizes.largest(r.Topic, r.Partition)
		for _, b := range r.AddingReplicas {
			m.Bytes += whole
			m.Left += max(0, whole-sizes[r.Topic][r.Partition][b])
		}
		p.Moves = append(p.Moves, m)
		p.Bytes += m.Bytes
		p.Left += m.Left
	}
	return p, nil
}

func balanceStatus(c *client) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say what is being moved, how much and how long it has to go", Args: noArgs,
		Long: "Say what is being moved, how many bytes are left, how fast it goes and when it will be done; the rate is\n" +
			"measured over a second. Limits that moves which are over have left behind are taken away.",
		Example: "  belfry balance status --wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait {
				return c.follow(cmd)
			}
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				now, err := tidy(ctx, cmd.ErrOrStderr(), k, a)
				if err != nil {
					return err
				}
				p, err := measured(ctx, k, a)
				if err != nil {
					return err
				}
				p.Limits = append(p.Limits, now.rates...)
				return c.showProgress(cmd.OutOrStdout(), p)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "stay until everything is moved, and say how far it is")
	return cmd
}

// measured looks twice, so that it can tell how fast the moves go.
func measured(ctx context.Context, k *kgo.Client, a *kadm.Client) (*movesProgress, error) {
	var pace balance.Pace
	p, err := underway(ctx, k, a)
	if err != nil || p.Left == 0 {
		return p, err
	}
	pace.See(p.Left, time.Now())
	timer := time.NewTimer(step)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	if p, err = underway(ctx, k, a); err != nil {
		return nil, err
	}
	pace.See(p.Left, time.Now())
	p.take(&pace)
	return p, nil
}

// take puts what a pace says into the progress.
func (p *movesProgress) take(pace *balance.Pace) {
	p.Rate = pace.Rate()
	if rest, ok := pace.Rest(); ok {
		seconds := rest.Seconds()
		p.Seconds = &seconds
	}
}

// summary says in a line how far it is.
func (p *movesProgress) summary() string {
	text := fmt.Sprintf("%d partitions, %s of %s left", len(p.Moves), size(p.Left), size(p.Bytes))
	if p.Rate > 0 {
		text += fmt.Sprintf(", %s/s", size(int64(p.Rate)))
	}
	if p.Seconds != nil {
		rest := time.Duration(*p.Seconds * float64(time.Second))
		text += fmt.Sprintf(", done in about %v", max(time.Second, rest.Round(time.Second)))
	}
	return text
}

func (c *client) showProgress(w io.Writer, p *movesProgress) error {
	v := view{columns: columns("TOPIC", "PARTITION", "ADDING", "REMOVING", "LEFT", "OF"), body: p}
	for _, m := range p.Moves {
		v.rows = append(v.rows, []string{m.Topic, strconv.Itoa(int(m.Partition)), ids(m.Adding), ids(m.Removing), size(m.Left), size(m.Bytes)})
	}
	people := c.output == "table" || c.output == "wide"
	if people && len(p.Moves) == 0 {
		fmt.Fprintln(w, "nothing is being moved")
	} else if err := c.show(w, v); err != nil || !people {
		return err
	} else {
		fmt.Fprintln(w, p.summary())
	}
	for _, r := range p.Limits {
		fmt.Fprintf(w, "broker %d is limited to %s as a leader, %s as a follower\n", r.Broker, shownRate(r.Leader), shownRate(r.Follower))
	}
	return nil
}

func shownRate(n *int64) string {
	if n == nil {
		return (&rateFlag{noLimit}).String()
	}
	return (&rateFlag{*n}).String()
}

// step is how often follow looks.
const step = time.Second

// follow tells how far the moves are until there are none; then it takes their limits away.
func (c *client) follow(cmd *cobra.Command) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	k, err := c.connect()
	if err != nil {
		return err
	}
	defer k.Close()
	a := kadm.NewClient(k)
	a.SetTimeoutMillis(int32(clientTimeout / time.Millisecond))
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := int64(-1)
	var pace balance.Pace
	for {
		p, err := underway(ctx, k, a)
		if err != nil {
			return err
		}
		if len(p.Moves) == 0 {
			_, err := tidy(ctx, w, k, a)
			fmt.Fprintln(w, "nothing is being moved")
			return err
		}
		pace.See(p.Left, time.Now())
		p.take(&pace)
		if p.Left != last {
			fmt.Fprintln(w, p.summary())
			last = p.Left
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func balanceCancel(c *client) *cobra.Command {
	var topics []string
	cmd := &cobra.Command{
		Use: "cancel", Short: "Stop moves that are under way; replicas go back to where they were", Args: noArgs,
		Example: "  belfry balance cancel --topics orders",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				rs, err := reassigning(ctx, k)
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
					_, err := tidy(ctx, cmd.OutOrStdout(), k, a)
					return err
				}
				answers, err := a.AlterPartitionAssignments(ctx, req)
				if err != nil {
					return err
				}
				at := 0
				err = each(cmd, names, func(n string) error {
					r := answers[asked[at].Topic][asked[at].Partition]
					at++
					if r.Err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "cancelled the move of %s\n", n)
					}
					return explain(r.Err, r.ErrMessage)
				})
				_, left := tidy(ctx, cmd.OutOrStdout(), k, a)
				return errors.Join(err, left)
			})
		},
	}
	cmd.Flags().StringSliceVar(&topics, "topics", nil, "only of these topics (default: all)")
	return cmd
}
