package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientTimeout bounds every request of a command; a node that does not answer is told so within it.
const clientTimeout = 15 * time.Second

// connect gives a Kafka client; it dials on first use.
func (c *client) connect(opts ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(c.bootstrap...),
		kgo.ClientID("belfry-cli"),
		kgo.DialTimeout(5 * time.Second),
		kgo.RequestTimeoutOverhead(clientTimeout),
		kgo.RetryTimeout(clientTimeout),
	}
	k, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, usageError{fmt.Errorf("cannot use bootstrap servers %q: %w", strings.Join(c.bootstrap, ","), err)}
	}
	return k, nil
}

// withAdmin runs f with an administration client; an unreachable cluster is named.
func (c *client) withAdmin(ctx context.Context, f func(ctx context.Context, a *kadm.Client) error) error {
	return c.withClients(ctx, func(ctx context.Context, _ *kgo.Client, a *kadm.Client) error { return f(ctx, a) })
}

// withClients is withAdmin with the client below, for what the other has no words for.
func (c *client) withClients(ctx context.Context, f func(ctx context.Context, k *kgo.Client, a *kadm.Client) error) error {
	k, err := c.connect()
	if err != nil {
		return err
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*clientTimeout)
	defer cancel()
	if err := k.Ping(ctx); err != nil {
		return fmt.Errorf("cannot reach a broker at %s: %w\nIs the node running? Start one with `belfry server`, or name another with --bootstrap-server", strings.Join(c.bootstrap, ","), err)
	}
	a := kadm.NewClient(k)
	a.SetTimeoutMillis(int32(clientTimeout / time.Millisecond))
	return f(ctx, k, a)
}

// confirm asks before something is lost. Without a terminal it wants --yes.
func confirm(cmd *cobra.Command, yes bool, what, name string) error {
	if yes {
		return nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if ok {
		info, err := in.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !ok {
		return usageError{fmt.Errorf("%s: not done without --yes, as there is no terminal to ask at", what)}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %q to go on: ", what, name)
	var got string
	if _, err := fmt.Fscanln(in, &got); err != nil && err != io.EOF {
		got = ""
	}
	if got != name {
		return fmt.Errorf("not done: %q is not %q", got, name)
	}
	return nil
}

// each runs f for every name; failures are told one by one, and make the whole partial or failed.
func each(cmd *cobra.Command, names []string, f func(name string) error) error {
	failed := 0
	var last error
	for _, n := range names {
		if err := f(n); err != nil {
			failed, last = failed+1, fmt.Errorf("%s: %w", n, err)
			if len(names) > 1 {
				fmt.Fprintln(cmd.ErrOrStderr(), "belfry:", last)
			}
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed < len(names):
		return partialError{fmt.Errorf("%d of %d failed", failed, len(names))}
	case len(names) == 1:
		return last
	}
	return fmt.Errorf("all %d failed", failed)
}

// explain puts the broker's own words behind an error code.
func explain(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", message, err)
}

// completeTopics offers the cluster's topics for completion.
func (c *client) completeTopics(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
		ts, err := a.ListTopics(ctx)
		names = ts.Names()
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeGroups offers the cluster's groups for completion.
func (c *client) completeGroups(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
		gs, err := a.ListGroups(ctx)
		names = gs.Groups()
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
