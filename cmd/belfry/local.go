package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/cmd/belfry/local"
)

// localLimit bounds what a `belfry local` command waits for.
const localLimit = 3 * time.Minute

func localCommand(c *client) *cobra.Command {
	cmd := noun("local", "Run a whole cluster of processes on this machine",
		localUp(c), localStatus(c), localAdd(c),
		localOne(c, "kill", "End a node at once, as kill -9 does", (*local.Cluster).Kill),
		localOne(c, "stop", "Ask a node to end and wait for it", (*local.Cluster).Stop),
		localOne(c, "restart", "Stop a node if it runs, and start it", (*local.Cluster).Restart),
		localOne(c, "pause", "Freeze a node (SIGSTOP)", func(l *local.Cluster, _ context.Context, id int) error { return l.Pause(id) }),
		localOne(c, "resume", "Let a frozen node go on", func(l *local.Cluster, _ context.Context, id int) error { return l.Resume(id) }),
		localRolling(c), localDown(c))
	cmd.PersistentFlags().String("dir", "belfry-local", "directory of the cluster: configuration, data and output of every node")
	return cmd
}

// withLocal opens the directory of --dir for one command of bounded time.
func withLocal(cmd *cobra.Command, make bool, f func(ctx context.Context, l *local.Cluster) error) error {
	return inLocal(cmd, make, func(l *local.Cluster) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), localLimit)
		defer cancel()
		return f(ctx, l)
	})
}

// inLocal opens the directory of --dir for one command.
func inLocal(cmd *cobra.Command, make bool, f func(l *local.Cluster) error) (err error) {
	dir, err := cmd.Flags().GetString("dir")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := local.Open(dir, self, make)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := l.Close(); err == nil {
			err = cerr
		}
	}()
	return f(l)
}

func localUp(c *client) *cobra.Command {
	var brokers int
	var set []string
	cmd := &cobra.Command{
		Use: "up", Short: "Start a cluster, or the nodes of one that do not run", Args: noArgs,
		Example: "  belfry local up --brokers 3 --set agent.period=10s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pairs, err := settings(set)
			if err != nil {
				return err
			}
			values := map[string]string{}
			for name, value := range pairs {
				values[name] = *value
			}
			return withLocal(cmd, true, func(ctx context.Context, l *local.Cluster) error {
				begin := time.Now()
				if err := l.Up(ctx, brokers, values); err != nil {
					return err
				}
				tellLocal(cmd.OutOrStdout(), l, time.Since(begin))
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&brokers, "brokers", 0, "how many (default: 3, or as many as the directory has)")
	cmd.Flags().StringArrayVar(&set, "set", nil, "NAME=VALUE: a setting of every node")
	return cmd
}

// tellLocal says where everything is and what to do next.
func tellLocal(w io.Writer, l *local.Cluster, took time.Duration) {
	at := l.Bootstrap()
	fmt.Fprintf(w, "%d nodes are ready after %.1f s\n  Kafka     %s\n  data      %s\n", len(at), took.Seconds(), strings.Join(at, ","), l.Dir())
	fmt.Fprintf(w, "next: export BELFRY_BOOTSTRAP_SERVER=%s BELFRY_AGENT=%s\n      belfry local status --dir %s\n", strings.Join(at, ","), strings.Join(l.Agents(), ","), l.Dir())
}

func localStatus(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say which nodes run, and where", Args: noArgs, Example: "  belfry local status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLocal(cmd, false, func(ctx context.Context, l *local.Cluster) error {
				states := l.Status(ctx)
				v := view{columns: columns("NODE", "STATE", "KAFKA", "METRICS", "PROCESS", "+OUTPUT"), body: states}
				for _, s := range states {
					state, pid := "ready", strconv.Itoa(s.PID)
					if !s.Ready {
						state = s.Why
					}
					if s.PID == 0 {
						state, pid = "down", "-"
					}
					v.rows = append(v.rows, []string{strconv.Itoa(s.ID), state, s.Kafka, "http://" + s.Metrics + "/metrics", pid, s.Log})
				}
				return c.show(cmd.OutOrStdout(), v)
			})
		},
	}
}

func localAdd(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "add", Short: "Start one more broker, which joins the cluster", Args: noArgs, Example: "  belfry local add",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLocal(cmd, false, func(ctx context.Context, l *local.Cluster) error {
				id, err := l.Add(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "node %d has joined; `belfry balance run` gives it its share of the partitions\n", id)
				return nil
			})
		},
	}
}

// localOne makes a command that does something with one node.
func localOne(_ *client, name, short string, do func(*local.Cluster, context.Context, int) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " NODE", Short: short, Args: exactly(1, "the number of one node"),
		Example: "  belfry local " + name + " 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.Atoi(args[0])
			if err != nil {
				return usageError{fmt.Errorf("node %q is not a number; `belfry local status` lists them", args[0])}
			}
			return withLocal(cmd, false, func(ctx context.Context, l *local.Cluster) error {
				if err := do(l, ctx, id); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s node %d: done\n", name, id)
				return nil
			})
		},
	}
}

func localDown(*client) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use: "down", Short: "Stop all nodes", Args: noArgs, Example: "  belfry local down --delete",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLocal(cmd, false, func(ctx context.Context, l *local.Cluster) error {
				if err := l.Down(ctx, remove); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "all nodes are down")
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "delete the cluster's files afterwards")
	return cmd
}
