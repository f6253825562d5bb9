package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/cmd/belfry/local"
	"github.com/belfry-mq/belfry/cmd/belfry/roll"
)

// restartLimit is how long a restart waits for one broker unless told otherwise.
const restartLimit = 10 * time.Minute

// rollFlags are what both restarts share.
type rollFlags struct {
	limit  time.Duration
	accept []string
	file   string
}

func (f *rollFlags) add(cmd *cobra.Command, file string) {
	cmd.Flags().DurationVar(&f.limit, "limit", restartLimit, "how long to wait for each broker: to be safe to stop, and to be back")
	cmd.Flags().StringVar(&f.file, "progress", "", "file that keeps the progress until the end (default: "+file+")")
	acceptFlag(cmd, &f.accept)
}

const restartLong = "The brokers are restarted one by one, those that are down first, the active controller last.\n" +
	"Before each stop it waits until the broker is safe to stop (`belfry cluster safe-to-stop`), and\n" +
	"after its start until it is in service and every replica in sync; then partitions are led by\n" +
	"their preferred replicas again. When a wait takes too long it stops and says why; the same\n" +
	"command goes on from there."

func clusterRestart(c *client) *cobra.Command {
	var f rollFlags
	var with string
	cmd := &cobra.Command{
		Use: "restart", Short: "Restart all brokers, one after the other, under load", Args: noArgs,
		Long: "Restart all brokers, one after the other, under load.\n\n" + restartLong + "\n\n" +
			"--with is the command that restarts one broker, run here for each of them; {id}, {host} and\n" +
			"{port} stand for the broker's, for instance 'ssh {host} systemctl restart belfry'. It is run\n" +
			"without a shell: quotes group words, nothing else is special. It may return before the broker is back.",
		Example: "  belfry cluster restart --with 'belfry local restart {id}' --limit 1m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			words, err := splitWords(with)
			if err != nil {
				return usageError{fmt.Errorf("--with: %w", err)}
			}
			return c.roll(cmd, c.bootstrap, f, func(id string) string { return "belfry-restart-" + id + ".json" }, func(ctx context.Context, m cluster.Member) error {
				return runFor(ctx, words, m)
			})
		},
	}
	f.add(cmd, "belfry-restart-CLUSTER.json in this directory")
	cmd.Flags().StringVar(&with, "with", "", "the command that restarts one broker")
	if err := cmd.MarkFlagRequired("with"); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func localRolling(c *client) *cobra.Command {
	var f rollFlags
	cmd := &cobra.Command{
		Use: "rolling-restart", Short: "Restart all nodes, one after the other, under load", Args: noArgs,
		Long:    "Restart all nodes, one after the other, under load.\n\n" + restartLong,
		Example: "  belfry local rolling-restart",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return inLocal(cmd, false, func(l *local.Cluster) error {
				return c.roll(cmd, l.Bootstrap(), f, func(string) string { return filepath.Join(l.Dir(), "restart.json") }, func(ctx context.Context, m cluster.Member) error {
					return l.Restart(ctx, int(m.ID))
				})
			})
		},
	}
	f.add(cmd, "restart.json in --dir")
	return cmd
}

// roll restarts the cluster at these addresses. File names the progress by the cluster's ID.
func (c *client) roll(cmd *cobra.Command, seeds []string, f rollFlags, file func(id string) string, restart func(context.Context, cluster.Member) error) error {
	kinds, err := kindsOf(f.accept)
	if err != nil {
		return err
	}
	if f.limit <= 0 {
		return usageError{fmt.Errorf("--limit %v: want a duration such as 10m", f.limit)}
	}
	eyes, err := cluster.Open(cluster.Options{Seeds: seeds, ClientID: "belfry-cli"})
	if err != nil {
		return usageError{err}
	}
	defer eyes.Close()
	s, err := eyes.Standing(cmd.Context())
	if err != nil {
		return fmt.Errorf("cannot ask at %s: %w", strings.Join(seeds, ","), err)
	}
	hand := *c
	hand.bootstrap = seeds
	k, err := hand.connect()
	if err != nil {
		return err
	}
	defer k.Close()
	if f.file == "" {
		f.file = file(s.ClusterID)
	}
	return roll.Run(cmd.Context(), roll.Options{
		Cluster: rolled{eyes, k}, Restart: restart, File: f.file, Out: cmd.OutOrStdout(), Limit: f.limit, Accept: kinds,
	})
}

// rolled is a cluster that is being restarted.
type rolled struct {
	*cluster.Client
	kafka *kgo.Client
}

var _ roll.Cluster = rolled{}

// Prefer implements roll.Cluster.
func (r rolled) Prefer(ctx context.Context, places []cluster.Place) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var which kadm.TopicsSet
	for _, p := range places {
		which.Add(p.Topic, p.Partition)
	}
	done, err := kadm.NewClient(r.kafka).ElectLeaders(ctx, kadm.ElectPreferredReplica, which)
	if err != nil {
		return err
	}
	for _, ps := range done {
		for _, p := range ps {
			if p.Err != nil && !errors.Is(p.Err, kerr.ElectionNotNeeded) && !errors.Is(p.Err, kerr.PreferredLeaderNotAvailable) {
				return fmt.Errorf("partition %d of topic %q: %w", p.Partition, p.Topic, explain(p.Err, p.ErrMessage))
			}
		}
	}
	return nil
}

// splitWords takes a command apart: blanks between words, quotes of both kinds around what
// belongs together.
func splitWords(text string) (words []string, err error) {
	var word strings.Builder
	begun, quote := false, rune(0)
	for _, c := range text {
		switch {
		case c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c in %q is not closed", quote, text)
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("want a command")
	}
	return words, nil
}

// plainHost is what a host that goes into a command looks like. Why looked at: it comes
// from the cluster, and one that begins with a dash would be taken for an option.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_.:-]*$`)

// fillIn puts a broker's ID and address into the words.
func fillIn(words []string, m cluster.Member) ([]string, error) {
	if !plainHost.MatchString(m.Host) {
		return nil, fmt.Errorf("the host %q of broker %d does not look like one", m.Host, m.ID)
	}
	r := strings.NewReplacer("{id}", strconv.Itoa(int(m.ID)), "{host}", m.Host, "{port}", strconv.Itoa(int(m.Port)))
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = r.Replace(w)
	}
	return out, nil
}

// lastOutput is how much of a failed command's output is told.
const lastOutput = 2000

// runFor runs the command for one broker and waits for its end.
func runFor(ctx context.Context, words []string, m cluster.Member) error {
	line, err := fillIn(words, m)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a child that outlives it and holds the pipe is not waited for
	err = cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	text := bytes.TrimSpace(out.Bytes())
	return fmt.Errorf("`%s`: %w\n%s", strings.Join(line, " "), err, text[max(0, len(text)-lastOutput):])
}
