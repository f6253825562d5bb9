package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/agent/balance"
)

// noLimit is the rate of a broker that nobody limits.
const noLimit = math.MaxInt64

// rateFlag is a bandwidth as people write it: 20MB, 500kB, 1GB, bytes alone; none or -1.
type rateFlag struct{ bytes int64 }

func (r *rateFlag) String() string {
	if r.bytes == noLimit {
		return "none"
	}
	return size(r.bytes) + "/s"
}

func (r *rateFlag) Type() string { return "BYTES" }

func (r *rateFlag) Set(text string) error {
	n, err := parseRate(text)
	if err == nil {
		r.bytes = n
	}
	return err
}

func parseRate(text string) (int64, error) {
	t := strings.ToUpper(strings.TrimSuffix(strings.TrimSpace(text), "/s"))
	if t == "NONE" || t == "-1" {
		return noLimit, nil
	}
	times := 1.0
	for _, unit := range []struct {
		name  string
		bytes float64
	}{{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(t, unit.name); ok {
			t, times = strings.TrimSpace(rest), unit.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || !(n*times >= 1) || n*times > 1e15 {
		return 0, fmt.Errorf("cannot use bandwidth %q: want bytes a second, such as 20MB or 500kB, or none", text)
	}
	return int64(n * times), nil
}

// limits is how replication is limited now.
type limits struct {
	topics map[string]balance.Lists
	rates  []brokerRate // of brokers that have one
	alive  []int32
}

// brokerRate is one broker's limits in bytes a second; nil: none.
type brokerRate struct {
	Broker   int32  `json:"broker"`
	Leader   *int64 `json:"leader_bytes_per_second"`
	Follower *int64 `json:"follower_bytes_per_second"`
}

// readLimits asks for the limits of every topic, internal ones too, and every broker that is alive.
func readLimits(ctx context.Context, k *kgo.Client, a *kadm.Client) (*limits, error) {
	m, err := a.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	l := &limits{topics: map[string]balance.Lists{}}
	var names []string
	for _, t := range m.Topics.Sorted() {
		if t.Err == nil {
			names = append(names, t.Topic)
		}
	}
	lists, err := describe(ctx, k, kmsg.ConfigResourceTypeTopic, names, balance.LeaderReplicas, balance.FollowerReplicas)
	if err != nil {
		return nil, fmt.Errorf("cannot read which replicas are limited: %w", err)
	}
	for topic, set := range lists {
		if of := (balance.Lists{Leaders: set[balance.LeaderReplicas], Followers: set[balance.FollowerReplicas]}); of != (balance.Lists{}) {
			l.topics[topic] = of
		}
	}
	for _, b := range m.Brokers {
		set, err := describe(ctx, k, kmsg.ConfigResourceTypeBroker, []string{strconv.Itoa(int(b.NodeID))}, balance.LeaderRate, balance.FollowerRate)
		if err != nil {
			return nil, fmt.Errorf("cannot read the limits of broker %d: %w", b.NodeID, err)
		}
		r := brokerRate{Broker: b.NodeID}
		for _, values := range set {
			r.Leader, r.Follower = rate(values[balance.LeaderRate]), rate(values[balance.FollowerRate])
		}
		l.alive = append(l.alive, b.NodeID)
		if r.Leader != nil || r.Follower != nil {
			l.rates = append(l.rates, r)
		}
	}
	slices.SortFunc(l.rates, func(a, b brokerRate) int { return int(a.Broker - b.Broker) })
	return l, nil
}

func rate(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == noLimit {
		return nil
	}
	return &n
}

// describe gives settings of resources by their names.
func describe(ctx context.Context, k *kgo.Client, kind kmsg.ConfigResourceType, names []string, settings ...string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	if len(names) == 0 {
		return out, nil
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, settings
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, k)
	if err != nil {
		return nil, err
	}
	for _, r := range resp.Resources {
		err := kerr.ErrorForCode(r.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.ResourceName, explain(err, deref(r.ErrorMessage)))
		}
		of := map[string]string{}
		for _, c := range r.Configs {
			of[c.Name] = deref(c.Value)
		}
		out[r.ResourceName] = of
	}
	return out, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// setting is one change of a resource's settings; value nil takes it away.
type setting struct {
	kind  kmsg.ConfigResourceType
	of    string
	name  string
	value *string
}

// alter changes settings, all of them in one request.
func alter(ctx context.Context, k *kgo.Client, all []setting) error {
	if len(all) == 0 {
		return nil
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	at := map[string]int{}
	for _, s := range all {
		key := fmt.Sprint(s.kind, " ", s.of)
		i, ok := at[key]
		if !ok {
			i, at[key] = len(req.Resources), len(req.Resources)
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = s.kind, s.of
			req.Resources = append(req.Resources, r)
		}
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = s.name, s.value
		if s.value == nil {
			c.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		req.Resources[i].Configs = append(req.Resources[i].Configs, c)
	}
	resp, err := req.RequestWith(ctx, k)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			errs = append(errs, fmt.Errorf("%s: %w", r.ResourceName, explain(err, deref(r.ErrorMessage))))
		}
	}
	return errors.Join(errs...)
}

// limitTo gives the settings that limit the copying of moves.
func limitTo(bytes int64, ms []balance.Move, now *limits) (all []setting) {
	for topic, lists := range balance.Limited(ms) {
		lists = now.topics[topic].With(lists)
		all = append(all,
			setting{kmsg.ConfigResourceTypeTopic, topic, balance.LeaderReplicas, &lists.Leaders},
			setting{kmsg.ConfigResourceTypeTopic, topic, balance.FollowerReplicas, &lists.Followers})
	}
	return append(all, ratesOf(bytes, ms, now)...)
}

// ratesOf limits the brokers that send or get copies. Why only those that are alive: moving
// away from a broker that is gone is what moves are for, and it cannot be asked.
func ratesOf(bytes int64, ms []balance.Move, now *limits) (all []setting) {
	text := strconv.FormatInt(bytes, 10)
	for _, b := range balance.Participants(ms) {
		if !slices.Contains(now.alive, b) {
			continue
		}
		for _, name := range []string{balance.LeaderRate, balance.FollowerRate} {
			all = append(all, setting{kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(b)), name, &text})
		}
	}
	return all
}

// tidy takes away what moves that are over have left limited, also those of a command that
// did not come to its end, and tells so. It gives the limits that stay.
func tidy(ctx context.Context, w io.Writer, k *kgo.Client, a *kadm.Client) (*limits, error) {
	now, err := readLimits(ctx, k, a)
	if err != nil || len(now.topics)+len(now.rates) == 0 {
		return now, err
	}
	// Why after the limits: a move that begins in between is seen.
	running, err := reassigning(ctx, k)
	if err != nil {
		return nil, err
	}
	over := balance.Leftovers(now.topics, func(topic string) bool { return len(running[topic]) > 0 })
	var all []setting
	for _, topic := range over.Leaders {
		all = append(all, setting{kmsg.ConfigResourceTypeTopic, topic, balance.LeaderReplicas, nil})
	}
	for _, topic := range over.Followers {
		all = append(all, setting{kmsg.ConfigResourceTypeTopic, topic, balance.FollowerReplicas, nil})
	}
	if len(all) == 0 {
		return now, nil // rates alone are the user's own
	}
	var rates []setting
	for _, r := range now.rates {
		if id := strconv.Itoa(int(r.Broker)); over.Rates {
			rates = append(rates,
				setting{kmsg.ConfigResourceTypeBroker, id, balance.LeaderRate, nil},
				setting{kmsg.ConfigResourceTypeBroker, id, balance.FollowerRate, nil})
		}
	}
	// Why the rates first: while there are lists, the next one who comes knows whose the rates are.
	for _, some := range [][]setting{rates, all} {
		if err := alter(ctx, k, some); err != nil {
			return nil, fmt.Errorf("cannot take the limits of moves that are over away: %w", err)
		}
	}
	fmt.Fprintf(w, "the limits of moves that are over are taken away: %s\n", strings.Join(unionOf(over.Leaders, over.Followers), ", "))
	return readLimits(ctx, k, a)
}

func unionOf(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func balanceLimit(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "limit BANDWIDTH", Short: "Change the bandwidth of moves that are under way", Args: exactly(1, "one bandwidth"),
		Long: "Change how fast replicas are copied that are under way, for each broker as a leader and as a follower.\n" +
			"none takes the limit away. It ends with the moves.",
		Example: "  belfry balance limit 50MB\n  belfry balance limit none",
		RunE: func(cmd *cobra.Command, args []string) error {
			bytes, err := parseRate(args[0])
			if err != nil {
				return usageError{err}
			}
			return c.withClients(cmd.Context(), func(ctx context.Context, k *kgo.Client, a *kadm.Client) error {
				now, err := tidy(ctx, cmd.OutOrStdout(), k, a)
				if err != nil {
					return err
				}
				ms, err := movesUnderway(ctx, k)
				if err != nil {
					return err
				}
				if len(ms) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing is being moved")
					return nil
				}
				all := limitTo(bytes, ms, now)
				if bytes == noLimit {
					all = unlimit(now, ms)
				}
				if err := alter(ctx, k, all); err != nil {
					return fmt.Errorf("cannot limit the moves: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "limited to %v for each broker and role\n", &rateFlag{bytes})
				return nil
			})
		},
	}
}

// movesUnderway gives what is being moved as moves, from the replicas that have the data.
func movesUnderway(ctx context.Context, k *kgo.Client) ([]balance.Move, error) {
	running, err := reassigning(ctx, k)
	if err != nil {
		return nil, err
	}
	var ms []balance.Move
	for _, r := range running.Sorted() {
		m := balance.Move{Topic: r.Topic, Number: r.Partition}
		for _, b := range r.Replicas {
			if !slices.Contains(r.AddingReplicas, b) {
				m.From = append(m.From, b)
			}
			if !slices.Contains(r.RemovingReplicas, b) {
				m.To = append(m.To, b)
			}
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// unlimit gives the settings that lift the limit of moves. The lists of topics go too: they
// would be taken for those of a move that is over.
func unlimit(now *limits, ms []balance.Move) (all []setting) {
	for topic := range balance.Limited(ms) {
		if l := now.topics[topic]; l.Leaders != "" && l.Leaders != "*" {
			all = append(all, setting{kmsg.ConfigResourceTypeTopic, topic, balance.LeaderReplicas, nil})
		}
		if l := now.topics[topic]; l.Followers != "" && l.Followers != "*" {
			all = append(all, setting{kmsg.ConfigResourceTypeTopic, topic, balance.FollowerReplicas, nil})
		}
	}
	for _, s := range ratesOf(0, ms, now) {
		s.value = nil
		all = append(all, s)
	}
	return all
}
