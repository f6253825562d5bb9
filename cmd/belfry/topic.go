package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func topicCommand(c *client) *cobra.Command {
	return noun("topic", "Create, list, describe, alter and delete topics",
		topicCreate(c), topicList(c), topicDescribe(c), topicAlter(c), topicDelete(c))
}

// settings reads NAME=VALUE arguments.
func settings(pairs []string) (map[string]*string, error) {
	m := map[string]*string{}
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("--set %q: want NAME=VALUE", p)}
		}
		m[name] = &value
	}
	return m, nil
}

func topicCreate(c *client) *cobra.Command {
	var partitions int32
	var replicas int16
	var set []string
	cmd := &cobra.Command{
		Use: "create NAME…", Short: "Create topics", Args: atLeastOne("topic name"),
		Example: "  belfry topic create orders --partitions 6 --set retention.ms=3600000",
		RunE: func(cmd *cobra.Command, names []string) error {
			configs, err := settings(set)
			if err != nil {
				return err
			}
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				rs, err := a.CreateTopics(ctx, partitions, replicas, configs, names...)
				if err != nil {
					return err
				}
				awaitKnown(ctx, k, rs)
				return each(cmd, names, func(n string) error {
					r := rs[n]
					if r.Err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "created topic %s: %d partitions, %d replicas\n", n, r.NumPartitions, r.ReplicationFactor)
					}
					return explain(r.Err, r.ErrMessage)
				})
			})
		},
	}
	cmd.Flags().Int32Var(&partitions, "partitions", -1, "number of partitions; -1 = the broker's num.partitions")
	cmd.Flags().Int16Var(&replicas, "replicas", -1, "number of replicas; -1 = the broker's default.replication.factor")
	cmd.Flags().StringArrayVar(&set, "set", nil, "topic setting NAME=VALUE; may be given again")
	return cmd
}

// knownLimit is how long awaitKnown waits at most.
const knownLimit = 5 * time.Second

// awaitKnown waits until all brokers that answer know the topics that were created. Why: the
// controller answers as soon as a topic is certain, and whoever asks another broker in that
// moment would hear that there is none.
func awaitKnown(ctx context.Context, k *kgo.Client, rs kadm.CreateTopicResponses) {
	req := kmsg.NewPtrMetadataRequest()
	for _, r := range rs {
		if r.Err == nil {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(r.Topic)
			req.Topics = append(req.Topics, t)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, knownLimit)
	defer cancel()
	seeds, err := req.RequestWith(ctx, k)
	if err != nil || len(req.Topics) == 0 {
		return // they are created: that nobody tells of them now is not for this command to say
	}
	for _, b := range seeds.Brokers {
		for ctx.Err() == nil {
			resp, err := k.Broker(int(b.NodeID)).Request(ctx, req)
			if err != nil || !slices.ContainsFunc(resp.(*kmsg.MetadataResponse).Topics, func(t kmsg.MetadataResponseTopic) bool { return t.ErrorCode != 0 }) {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

type topicBody struct {
	Name       string          `json:"name"`
	ID         string          `json:"topic_id"`
	Partitions int             `json:"partition"`
	Replicas   int             `json:"replication"`
	Internal   bool            `json:"internal"`
	Detail     []partitionBody `json:"partitions,omitempty"`
	Configs    []topicSetting  `json:"configs,omitempty"`
}

type partitionBody struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"leader_epoch"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Start     string  `json:"start_offset"`
	End       string  `json:"end_offset"`
}

type topicSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func topicList(c *client) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use: "list", Short: "List topics", Args: noArgs,
		Example: "  belfry topic list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				ts, err := a.ListTopicsWithInternal(ctx)
				if err != nil {
					return err
				}
				v := view{columns: columns("NAME", "PARTITIONS", "REPLICAS", "+ID")}
				body := []topicBody{}
				for _, t := range ts.Sorted() {
					if t.IsInternal && !internal {
						continue
					}
					b := topicBody{Name: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Replicas: t.Partitions.NumReplicas(), Internal: t.IsInternal}
					body = append(body, b)
					v.rows = append(v.rows, []string{b.Name, strconv.Itoa(b.Partitions), strconv.Itoa(b.Replicas), b.ID})
				}
				v.body = body
				return c.show(cmd.OutOrStdout(), v)
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "also the broker's own topics")
	return cmd
}

func topicDescribe(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show a topic's partitions and settings", Args: exactly(1, "one topic name"),
		Example:           "  belfry topic describe orders",
		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, names []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				b, err := describeTopic(ctx, a, names[0])
				if err != nil {
					return err
				}
				return c.showTopic(cmd, b)
			})
		},
	}
}

func describeTopic(ctx context.Context, a *kadm.Client, name string) (topicBody, error) {
	ts, err := a.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return topicBody{}, err
	}
	t := ts[name]
	if t.Err != nil {
		return topicBody{}, fmt.Errorf("%s: %w", name, t.Err)
	}
	starts, err := a.ListStartOffsets(ctx, name)
	if err != nil {
		return topicBody{}, err
	}
	ends, err := a.ListEndOffsets(ctx, name)
	if err != nil {
		return topicBody{}, err
	}
	b := topicBody{Name: name, ID: topicID(t.ID), Partitions: len(t.Partitions), Replicas: t.Partitions.NumReplicas(), Internal: t.IsInternal}
	for _, p := range t.Partitions.Sorted() {
		d := partitionBody{Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR}
		d.Start, d.End = offsetText(starts, name, p.Partition), offsetText(ends, name, p.Partition)
		b.Detail = append(b.Detail, d)
	}
	rs, err := a.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return b, err
	}
	r, err := rs.On(name, nil)
	if err != nil {
		return b, err
	}
	for _, cfg := range r.Configs {
		b.Configs = append(b.Configs, topicSetting{cfg.Key, cfg.MaybeValue(), cfg.Source.String()})
	}
	slices.SortFunc(b.Configs, func(x, y topicSetting) int { return strings.Compare(x.Name, y.Name) })
	return b, r.Err
}

// topicID gives an ID as Kafka's tools print it.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func offsetText(os kadm.ListedOffsets, topic string, partition int32) string {
	if o, ok := os.Lookup(topic, partition); ok && o.Err == nil {
		return strconv.FormatInt(o.Offset, 10)
	}
	return "-"
}

func (c *client) showTopic(cmd *cobra.Command, b topicBody) error {
	v := view{columns: columns("PARTITION", "LEADER", "+EPOCH", "REPLICAS", "ISR", "START", "END"), body: b}
	for _, p := range b.Detail {
		v.rows = append(v.rows, []string{strconv.Itoa(int(p.Partition)), strconv.Itoa(int(p.Leader)), strconv.Itoa(int(p.Epoch)), ids(p.Replicas), ids(p.ISR), p.Start, p.End})
	}
	people := c.output == "table" || c.output == "wide"
	if people {
		fmt.Fprintf(cmd.OutOrStdout(), "topic %s (%s): %d partitions, %d replicas\n", b.Name, b.ID, b.Partitions, b.Replicas)
	}
	if err := c.show(cmd.OutOrStdout(), v); err != nil || !people {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout())
	s := view{columns: columns("SETTING", "VALUE", "SOURCE")}
	for _, cfg := range b.Configs {
		if c.output == "wide" || !strings.Contains(strings.ToUpper(cfg.Source), "DEFAULT_CONFIG") {
			s.rows = append(s.rows, []string{cfg.Name, cfg.Value, cfg.Source})
		}
	}
	if len(s.rows) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "all settings have their defaults; -o wide shows them")
		return nil
	}
	return c.show(cmd.OutOrStdout(), s)
}

func ids(in []int32) string {
	var out []string
	for _, i := range in {
		out = append(out, strconv.Itoa(int(i)))
	}
	return strings.Join(out, ",")
}

func topicAlter(c *client) *cobra.Command {
	var partitions int
	var set, unset []string
	cmd := &cobra.Command{
		Use: "alter NAME", Short: "Add partitions, change settings", Args: exactly(1, "one topic name"),
		Example:           "  belfry topic alter orders --partitions 12\n  belfry topic alter orders --set retention.ms=60000 --unset segment.bytes",
		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, names []string) error {
			changes, err := settings(set)
			if err != nil {
				return err
			}
			if partitions == 0 && len(set)+len(unset) == 0 {
				return usageError{errors.New("nothing to change: give --partitions, --set or --unset")}
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				return alterTopic(ctx, cmd, a, names[0], partitions, changes, unset)
			})
		},
	}
	cmd.Flags().IntVar(&partitions, "partitions", 0, "new number of partitions; it only grows")
	cmd.Flags().StringArrayVar(&set, "set", nil, "setting NAME=VALUE; may be given again")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "setting that goes back to its default; may be given again")
	return cmd
}

func alterTopic(ctx context.Context, cmd *cobra.Command, a *kadm.Client, name string, partitions int, set map[string]*string, unset []string) error {
	if partitions != 0 {
		rs, err := a.UpdatePartitions(ctx, partitions, name)
		if err != nil {
			return err
		}
		if r := rs[name]; r.Err != nil {
			return explain(r.Err, r.ErrMessage)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "topic %s has %d partitions\n", name, partitions)
	}
	var changes []kadm.AlterConfig
	for _, n := range slices.Sorted(maps.Keys(set)) {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: n, Value: set[n]})
	}
	for _, n := range unset {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: n})
	}
	if len(changes) == 0 {
		return nil
	}
	rs, err := a.AlterTopicConfigs(ctx, changes, name)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Err != nil {
			return explain(r.Err, r.ErrMessage)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "changed %d settings of topic %s\n", len(changes), name)
	return nil
}

func topicDelete(c *client) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME…", Short: "Delete topics with all their messages", Args: atLeastOne("topic name"),
		Example:           "  belfry topic delete orders --yes",
		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, names []string) error {
			what := fmt.Sprintf("All messages of %s will be lost.", strings.Join(names, ", "))
			if err := confirm(cmd, yes, what, names[0]); err != nil {
				return err
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				rs, err := a.DeleteTopics(ctx, names...)
				if err != nil {
					return err
				}
				return each(cmd, names, func(n string) error {
					r := rs[n]
					if r.Err == nil {
						fmt.Fprintf(cmd.OutOrStdout(), "deleted topic %s\n", n)
					}
					return explain(r.Err, r.ErrMessage)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
