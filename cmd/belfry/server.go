package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
)

func serverCommand() *cobra.Command {
	var file, dir, level, join string
	cmd := &cobra.Command{
		Use: "server", Short: "Run a node: broker and agent", Args: noArgs,
		Long:    "Run a node: broker and agent.\n\nWithout a configuration it listens on loopback only, at port 9092 for Kafka clients\nand 9308 for metrics and health, and keeps its data in ./belfry-data.",
		Example: "  belfry server\n  belfry server --config node.yaml --data-dir /var/lib/belfry",
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin := time.Now()
			v, err := loadConfig(file)
			if err != nil {
				return err
			}
			for name, value := range map[string]string{"log.dirs": dir, "join": join} {
				if value == "" {
					continue
				}
				if v, err = v.With(map[string]string{name: value}); err != nil {
					return err
				}
			}
			log, err := newLogger(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			n, err := newNode(v, log)
			if err != nil {
				return err
			}
			return n.Run(cmd.Context(), func() { n.banner(cmd.OutOrStdout(), time.Since(begin)) })
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file; `belfry config print` lists the settings")
	cmd.Flags().StringVar(&dir, "data-dir", "", "directory for all data, instead of the setting log.dirs")
	cmd.Flags().StringVar(&join, "join", "", "join a cluster with this token of `belfry cluster join-token`; a node that belongs to one needs it no more")
	logFlag(cmd, &level)
	return cmd
}

func logFlag(cmd *cobra.Command, level *string) {
	cmd.Flags().StringVar(level, "log-level", "info", "debug, info, warn or error")
	completeFixed(cmd, "log-level", []string{"debug", "info", "warn", "error"})
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q is unknown: want debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// banner says where everything is.
func (n *node) banner(w io.Writer, took time.Duration) {
	fmt.Fprintf(w, "belfry %s · node %d · instance %s\n", version, n.broker.Node(), n.broker.ClusterID())
	for _, name := range []string{"PLAINTEXT", "PUBLIC"} {
		if a := n.broker.Addr(name); a != nil {
			fmt.Fprintf(w, "  Kafka     %s (%s)\n", a, name)
		}
	}
	if n.door != nil {
		fmt.Fprintf(w, "  metrics   http://%s/metrics\n  health    http://%s/healthz and /readyz\n", n.door.Addr(), n.door.Addr())
	}
	for _, d := range n.broker.Dirs() {
		fmt.Fprintf(w, "  data      %s\n", d.Path)
	}
	fmt.Fprintf(w, "ready in %d ms; stop it with Ctrl-C\n", took.Milliseconds())
}
