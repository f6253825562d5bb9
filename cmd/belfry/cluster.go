package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/quorum"
)

func clusterCommand(c *client) *cobra.Command {
	return noun("cluster", "Add nodes to a cluster, restart it, say who votes on its metadata",
		clusterJoinToken(c), clusterVoters(c), clusterSafeToStop(c), clusterRestart(c), clusterDifferences(c))
}

func clusterJoinToken(c *client) *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use: "join-token", Short: "Make a token that lets new nodes join", Args: noArgs,
		Long:    "Make a token that lets new nodes join the cluster until it expires.\n\nWhoever has the token can join: hand it over as you would a password. A new node needs\nit once, as `belfry server --join TOKEN` or as the setting join.",
		Example: "  belfry cluster join-token --expires 15m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life <= 0 {
				return usageError{fmt.Errorf("--expires %v: want a duration such as 1h", life)}
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				text, err := joinToken(ctx, a, time.Now(), life)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), text)
				}
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&life, "expires", time.Hour, "how long the token is good for")
	return cmd
}

// joinToken makes a token and tells the cluster of it. Tokens that have expired go.
func joinToken(ctx context.Context, a *kadm.Client, now time.Time, life time.Duration) (string, error) {
	var places []string
	q, err := askQuorum(ctx, a)
	if err != nil {
		return "", err
	}
	for _, m := range q.members {
		if m.Voter && m.Address != "" {
			places = append(places, m.Address)
		}
	}
	if len(places) == 0 {
		return "", errors.New("cannot make a join token: no node of this cluster has a controller listener; set controller.listener on one that others can reach, and restart it")
	}
	meta, err := a.BrokerMetadata(ctx)
	if err != nil {
		return "", err
	}
	token, entry := quorum.NewToken(meta.Cluster, places, now.Add(life))
	changes := []kadm.AlterConfig{{Op: kadm.AppendConfig, Name: quorum.TokensSetting, Value: &entry}}
	had, err := a.DescribeBrokerConfigs(ctx, meta.Controller)
	if err != nil {
		return "", err
	}
	for _, r := range had {
		for _, s := range r.Configs {
			if s.Key == quorum.TokensSetting {
				changes = append(changes, expired(s.MaybeValue(), now)...)
			}
		}
	}
	rs, err := a.AlterBrokerConfigs(ctx, changes)
	if err != nil {
		return "", err
	}
	for _, r := range rs {
		if r.Err != nil {
			return "", explain(r.Err, r.ErrMessage)
		}
	}
	return token.Text(), nil
}

// expired gives the changes that take out the entries of tokens that are good no more.
func expired(setting string, now time.Time) (changes []kadm.AlterConfig) {
	var old []string
	for entry := range strings.SplitSeq(setting, ",") {
		_, at, _ := strings.Cut(strings.TrimSpace(entry), ":")
		if seconds, err := strconv.ParseInt(at, 10, 64); err == nil && now.Unix() > seconds {
			old = append(old, strings.TrimSpace(entry))
		}
	}
	if len(old) == 0 {
		return nil
	}
	text := strings.Join(old, ",")
	return []kadm.AlterConfig{{Op: kadm.SubtractConfig, Name: quorum.TokensSetting, Value: &text}}
}

// quorumBody is who has the metadata log.
type quorumBody struct {
	leader  int32
	end     int64
	members []quorumMember
}

type quorumMember struct {
	Node      int32  `json:"node"`
	Role      string `json:"role"`
	Voter     bool   `json:"voter"`
	Address   string `json:"address"`
	End       int64  `json:"end_offset"`
	Lag       int64  `json:"lag"`
	Heard     string `json:"last_heard"`
	Directory string `json:"directory_id"`
}

func askQuorum(ctx context.Context, a *kadm.Client) (*quorumBody, error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic, t.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}
	req.Topics = append(req.Topics, t)
	var found *kmsg.DescribeQuorumResponse
	err := atLeader(ctx, a, req, func(r kmsg.Response) (int16, *string) {
		found = r.(*kmsg.DescribeQuorumResponse)
		if len(found.Topics) != 1 || len(found.Topics[0].Partitions) != 1 {
			return found.ErrorCode, found.ErrorMessage
		}
		p := found.Topics[0].Partitions[0]
		return cmp.Or(found.ErrorCode, p.ErrorCode), p.ErrorMessage
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask who votes: %w", err)
	}
	p := found.Topics[0].Partitions[0]
	q := &quorumBody{leader: p.LeaderID}
	places := map[int32]string{}
	for _, n := range found.Nodes {
		for _, l := range n.Listeners {
			if l.Name == "CONTROLLER" {
				places[n.NodeID] = net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
			}
		}
	}
	for _, v := range p.CurrentVoters {
		if v.ReplicaID == p.LeaderID {
			q.end = v.LogEndOffset
		}
	}
	add := func(rs []kmsg.DescribeQuorumResponseTopicPartitionReplicaState, role string) {
		for _, r := range rs {
			m := quorumMember{Node: r.ReplicaID, Role: role, Voter: role == "voter", Address: places[r.ReplicaID], End: r.LogEndOffset, Lag: -1, Directory: topicID(r.ReplicaDirectoryID)}
			if r.ReplicaID == p.LeaderID {
				m.Role = "leader"
			}
			if r.LogEndOffset >= 0 {
				m.Lag = max(0, q.end-r.LogEndOffset)
			}
			if r.LastFetchTimestamp > 0 {
				m.Heard = time.UnixMilli(r.LastFetchTimestamp).UTC().Format(time.RFC3339)
			}
			q.members = append(q.members, m)
		}
	}
	add(p.CurrentVoters, "voter")
	add(p.Observers, "observer")
	slices.SortStableFunc(q.members, func(a, b quorumMember) int { return cmp.Compare(a.Node, b.Node) })
	return q, nil
}

// leaderPause is how long a command waits before it asks again who leads.
const leaderPause = 200 * time.Millisecond

// atLeader asks one broker after the other until one takes the request: the one that
// leads the metadata log, or one that knows how to pass it on. It asks again while
// another leader is being elected.
func atLeader(ctx context.Context, a *kadm.Client, req kmsg.Request, code func(kmsg.Response) (int16, *string)) error {
	all, err := a.ListBrokers(ctx)
	if err != nil {
		return err
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(addresses(all)...), kgo.ClientID("belfry-cli"))
	if err != nil {
		return err
	}
	defer k.Close()
	last := errors.New("no broker is there")
	for end := time.Now().Add(clientTimeout); time.Now().Before(end); {
		for _, b := range all {
			r, err := k.Broker(int(b.NodeID)).Request(ctx, req)
			if err != nil {
				last = err
				continue
			}
			number, text := code(r)
			err = kerr.ErrorForCode(number)
			switch {
			case err == nil:
				return nil
			case errors.Is(err, kerr.NotController), errors.Is(err, kerr.NotLeaderForPartition):
				last = err
			case text != nil:
				return explain(err, *text)
			default:
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaderPause):
		}
	}
	return last
}

func addresses(all kadm.BrokerDetails) []string {
	var out []string
	for _, b := range all {
		out = append(out, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	return out
}

func clusterVoters(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "voters", Short: "Show who votes on the cluster's metadata, and who follows it", Args: noArgs,
		Long:    "Show who votes on the cluster's metadata, and who follows it.\n\nThree or five nodes should vote; a majority of them must be up for the cluster to take\nchanges. To replace a voter, add the new one first, then remove the old one.",
		Example: "  belfry cluster voters\n  belfry cluster voters add 4\n  belfry cluster voters remove 2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				q, err := askQuorum(ctx, a)
				if err != nil {
					return err
				}
				v := view{columns: columns("NODE", "ROLE", "LAG", "LAST HEARD", "ADDRESS", "+END", "+DIRECTORY"), body: q.members}
				for _, m := range q.members {
					v.rows = append(v.rows, []string{strconv.Itoa(int(m.Node)), m.Role, unknown(m.Lag), cmp.Or(m.Heard, "-"), cmp.Or(m.Address, "-"), unknown(m.End), m.Directory})
				}
				return c.show(cmd.OutOrStdout(), v)
			})
		},
	}
	cmd.AddCommand(
		c.changeVoter("add NODE", "Give a node a vote that follows the metadata", "node %d votes now\n", func(node int32) (kmsg.Request, func(kmsg.Response) (int16, *string)) {
			req := kmsg.NewPtrAddRaftVoterRequest()
			req.VoterID, req.TimeoutMillis = node, int32(clientTimeout/time.Millisecond)
			return req, func(r kmsg.Response) (int16, *string) {
				resp := r.(*kmsg.AddRaftVoterResponse)
				return resp.ErrorCode, resp.ErrorMessage
			}
		}),
		c.changeVoter("remove NODE", "Take a node's vote; it goes on following the metadata", "node %d votes no more\n", func(node int32) (kmsg.Request, func(kmsg.Response) (int16, *string)) {
			req := kmsg.NewPtrRemoveRaftVoterRequest()
			req.VoterID = node
			return req, func(r kmsg.Response) (int16, *string) {
				resp := r.(*kmsg.RemoveRaftVoterResponse)
				return resp.ErrorCode, resp.ErrorMessage
			}
		}),
	)
	return cmd
}

func unknown(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func (c *client) changeVoter(use, short, done string, request func(int32) (kmsg.Request, func(kmsg.Response) (int16, *string))) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Args: exactly(1, "one node ID"), Example: "  belfry cluster voters " + verb + " 4",
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := strconv.ParseInt(args[0], 10, 32)
			if err != nil || node < 0 {
				return usageError{fmt.Errorf("%q is no node ID: want a number from 0", args[0])}
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				req, code := request(int32(node))
				if err := atLeader(ctx, a, req, code); err != nil {
					return fmt.Errorf("cannot change the voters: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), done, node)
				return nil
			})
		},
	}
}
