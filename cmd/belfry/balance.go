package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/balance"
)

func balanceCommand(c *client) *cobra.Command {
	return noun("balance", "Spread partitions evenly over brokers",
		balancePlan(c), balanceRun(c), balanceStatus(c), balanceLimit(c), balanceCancel(c))
}

// wish is what the flags of plan and run ask for.
type balanceWish struct {
	topics  []string
	protect []string
	brokers []int32
	factor  int
	file    string
	within  time.Duration
}

func (w *balanceWish) flags(cmd *cobra.Command, c *client) {
	f := cmd.Flags()
	f.StringSliceVar(&w.topics, "topics", nil, "topics to balance (default: all but internal ones)")
	f.StringSliceVar(&w.protect, "protect", nil, "topics that stay as they are; where they lie counts for the others")
	f.Int32SliceVar(&w.brokers, "brokers", nil, "brokers that shall hold them (default: all that are alive)")
	f.IntVar(&w.factor, "replicas", 0, "replicas of each partition (default: as many as it has)")
	f.StringVar(&w.file, "plan", "", "file with an explicit plan instead, in the format of kafka-reassign-partitions; - is standard input")
	f.DurationVar(&w.within, "within", 0, "tell which bandwidth moves everything in so long a time")
	for _, flag := range []string{"topics", "protect"} {
		if err := cmd.RegisterFlagCompletionFunc(flag, c.completeTopics); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	cmd.MarkFlagsMutuallyExclusive("plan", "topics")
	cmd.MarkFlagsMutuallyExclusive("plan", "brokers")
	cmd.MarkFlagsMutuallyExclusive("plan", "replicas")
}

// planFile is a plan as Apache Kafka's kafka-reassign-partitions reads and writes it.
type planFile struct {
	Version    int             `json:"version"`
	Partitions []planPartition `json:"partitions"`
}

type planPartition struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"`
}

func planOf(ms []balance.Move) planFile {
	f := planFile{Version: 1, Partitions: []planPartition{}}
	for _, m := range ms {
		f.Partitions = append(f.Partitions, planPartition{m.Topic, m.Number, m.To})
	}
	return f
}

func readPlan(in io.Reader, name string) (planFile, error) {
	var f planFile
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return f, usageError{fmt.Errorf("cannot read the plan: %w", err)}
		}
		defer file.Close()
		in = file
	}
	d := json.NewDecoder(in)
	if err := d.Decode(&f); err != nil {
		return f, usageError{fmt.Errorf("cannot read plan %q: %w; want {\"version\":1,\"partitions\":[{\"topic\":\"…\",\"partition\":0,\"replicas\":[1,2,3]}]}", name, err)}
	}
	if f.Version != 1 {
		return f, usageError{fmt.Errorf("cannot use plan %q: want version 1, got %d", name, f.Version)}
	}
	return f, nil
}

// look is the cluster as a plan needs it.
type look struct {
	brokers []balance.Broker
	parts   []balance.Partition
	leaders map[string]map[int32]int32
}

// survey asks the cluster for brokers, partitions and their sizes. What is being moved already
// is fixed, on the replicas that it will have.
func survey(ctx context.Context, k *kgo.Client, a *kadm.Client, topics []string) (*look, error) {
	m, err := a.Metadata(ctx, topics...)
	if err != nil {
		return nil, err
	}
	l := &look{leaders: map[string]map[int32]int32{}}
	for _, b := range m.Brokers {
		rack := ""
		if b.Rack != nil {
			rack = *b.Rack
		}
		l.brokers = append(l.brokers, balance.Broker{ID: b.NodeID, Rack: rack})
	}
	sizes, err := replicaSizes(ctx, a, topics)
	if err != nil {
		return nil, err
	}
	running, err := reassigning(ctx, k)
	if err != nil {
		return nil, err
	}
	for _, t := range m.Topics.Sorted() {
		if t.Err != nil {
			return nil, fmt.Errorf("topic %q: %w", t.Topic, t.Err)
		}
		if t.IsInternal && len(topics) == 0 {
			continue
		}
		l.leaders[t.Topic] = map[int32]int32{}
		for _, p := range t.Partitions.Sorted() {
			l.leaders[t.Topic][p.Partition] = p.Leader
			q := balance.Partition{Topic: t.Topic, Number: p.Partition, Replicas: p.Replicas, Bytes: sizes.largest(t.Topic, p.Partition)}
			if r, ok := running[t.Topic][p.Partition]; ok {
				q.Fixed = true
				q.Replicas = slices.DeleteFunc(slices.Clone(p.Replicas), func(b int32) bool { return slices.Contains(r.RemovingReplicas, b) })
			}
			l.parts = append(l.parts, q)
		}
	}
	return l, nil
}

// sizesOnDisk are the bytes of each replica: by topic, partition and broker.
type sizesOnDisk map[string]map[int32]map[int32]int64

// replicaSizes asks all brokers; of one that does not answer nothing is known, which is no reason to stop.
func replicaSizes(ctx context.Context, a *kadm.Client, topics []string) (sizesOnDisk, error) {
	all, err := a.DescribeAllLogDirs(ctx, nil)
	var some *kadm.ShardErrors
	if err != nil && !errors.As(err, &some) {
		return nil, err
	}
	sizes := sizesOnDisk{}
	all.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.IsFuture || len(topics) > 0 && !slices.Contains(topics, p.Topic) {
				return
			}
			if sizes[p.Topic] == nil {
				sizes[p.Topic] = map[int32]map[int32]int64{}
			}
			if sizes[p.Topic][p.Partition] == nil {
				sizes[p.Topic][p.Partition] = map[int32]int64{}
			}
			sizes[p.Topic][p.Partition][p.Broker] = p.Size
		})
	})
	return sizes, nil
}

// largest gives the bytes of the largest replica.
func (s sizesOnDisk) largest(topic string, partition int32) (most int64) {
	for _, n := range s[topic][partition] {
		most = max(most, n)
	}
	return most
}

// moves computes what the wish changes.
func (w *balanceWish) moves(ctx context.Context, in io.Reader, k *kgo.Client, a *kadm.Client) ([]balance.Move, *look, error) {
	if w.file != "" {
		return w.manual(ctx, in, k, a)
	}
	l, err := survey(ctx, k, a, w.topics)
	if err != nil {
		return nil, nil, err
	}
	if err := l.protect(w.protect); err != nil {
		return nil, nil, err
	}
	r := balance.Request{Brokers: l.brokers, Partitions: l.parts, Factor: w.factor}
	if len(w.brokers) > 0 {
		r.Brokers = nil
		for _, id := range w.brokers {
			at := slices.IndexFunc(l.brokers, func(b balance.Broker) bool { return b.ID == id })
			if at < 0 {
				return nil, nil, usageError{fmt.Errorf("--brokers: broker %d is not alive; alive are %v", id, brokerIDs(l.brokers))}
			}
			r.Brokers = append(r.Brokers, l.brokers[at])
		}
	}
	ms, err := balance.Plan(r)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return ms, l, nil
}

// protect keeps topics as they are.
func (l *look) protect(topics []string) error {
	for _, name := range topics {
		if l.leaders[name] == nil {
			return usageError{fmt.Errorf("--protect: there is no topic %q among those to balance", name)}
		}
	}
	for i := range l.parts {
		l.parts[i].Fixed = l.parts[i].Fixed || slices.Contains(topics, l.parts[i].Topic)
	}
	return nil
}

// manual reads the moves from the file.
func (w *balanceWish) manual(ctx context.Context, in io.Reader, k *kgo.Client, a *kadm.Client) ([]balance.Move, *look, error) {
	f, err := readPlan(in, w.file)
	if err != nil {
		return nil, nil, err
	}
	names := map[string]bool{}
	for _, p := range f.Partitions {
		names[p.Topic] = true
	}
	l, err := survey(ctx, k, a, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return nil, nil, err
	}
	var ms []balance.Move
	for _, p := range f.Partitions {
		at := slices.IndexFunc(l.parts, func(q balance.Partition) bool { return q.Topic == p.Topic && q.Number == p.Partition })
		if at < 0 {
			return nil, nil, usageError{fmt.Errorf("plan %q: topic %q has no partition %d", w.file, p.Topic, p.Partition)}
		}
		switch q := l.parts[at]; {
		case slices.Contains(w.protect, q.Topic) || slices.Equal(q.Replicas, p.Replicas):
		case q.Fixed:
			return nil, nil, usageError{fmt.Errorf("plan %q: partition %d of topic %q is being moved to brokers %v already; wait or cancel that", w.file, q.Number, q.Topic, q.Replicas)}
		default:
			ms = append(ms, balance.Move{Topic: q.Topic, Number: q.Number, From: q.Replicas, To: p.Replicas, Bytes: q.Bytes})
		}
	}
	return ms, l, nil
}

func brokerIDs(bs []balance.Broker) []int32 {
	var ids []int32
	for _, b := range bs {
		ids = append(ids, b.ID)
	}
	return ids
}

func balancePlan(c *client) *cobra.Command {
	var w balanceWish
	limit := rateFlag{noLimit}
	cmd := &cobra.Command{
		Use: "plan", Short: "Say what would be moved, and how many bytes that is; changes nothing", Args: noArgs,
		Long: "Say what would be moved so that replicas and leaders are even over the brokers, with as few bytes\n" +
			"moved as that takes, and racks kept apart. Nothing is changed. With -o json the answer is a plan for\n" +
			"`belfry balance run --plan` and for kafka-reassign-partitions.",
		Example: "  belfry balance plan\n  belfry balance plan --topics orders --brokers 1,2,4 --replicas 3 --within 1h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				ms, l, err := w.moves(ctx, cmd.InOrStdin(), k, a)
				if err != nil {
					return err
				}
				forPeople := c.output == "table" || c.output == "wide"
				if len(ms) > 0 || !forPeople {
					err = c.show(cmd.OutOrStdout(), planView(ms))
				}
				if forPeople {
					tellCosts(cmd.OutOrStdout(), ms, l, w.within, limit.bytes)
				}
				return err
			})
		},
	}
	w.flags(cmd, c)
	cmd.Flags().Var(&limit, "bandwidth", "tell how long it takes if a broker sends, and takes, so many `BYTES` a second at most: 20MB, 500kB")
	return cmd
}

func planView(ms []balance.Move) view {
	v := view{columns: columns("TOPIC", "PARTITION", "REPLICAS", "BECOME", "COPIES"), body: planOf(ms)}
	for _, m := range ms {
		v.rows = append(v.rows, []string{m.Topic, strconv.Itoa(int(m.Number)), ids(m.From), ids(m.To), size(m.Copied())})
	}
	return v
}

// tellCosts says what each broker has to send and to take, and how long that takes under a limit.
func tellCosts(w io.Writer, ms []balance.Move, l *look, within time.Duration, limit int64) {
	if len(ms) == 0 {
		fmt.Fprintln(w, "nothing to move: it is even already")
		return
	}
	ts := balance.Costs(ms, func(m balance.Move) int32 { return l.leaders[m.Topic][m.Number] })
	for _, t := range ts {
		fmt.Fprintf(w, "broker %d sends %s, takes %s\n", t.Broker, size(t.Out), size(t.In))
	}
	if within > 0 {
		fmt.Fprintf(w, "all in %v needs %s/s for each broker and role, beside what replication takes now\n", within, size(int64(balance.Bandwidth(ts, nil, within))))
	}
	if limit == noLimit {
		return
	}
	if d, ok := balance.Duration(ts, nil, float64(limit)); ok && d > 0 {
		fmt.Fprintf(w, "at %v for each broker and role it takes about %v, and longer if the partitions grow meanwhile\n", &rateFlag{limit}, max(time.Second, d.Round(time.Second)))
	}
}

// size shows bytes for people.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
