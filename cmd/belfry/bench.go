package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/cmd/belfry/bench"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure a node beside a broker that stores nothing", Args: noArgs,
		Long:    "Start a node and a null broker in turns, measure both and print medians and ratios.\nThe null broker decodes, checks and answers, but stores nothing: it is the limit of this machine.",
		Example: "  belfry bench\n  belfry bench --rounds 3 --duration 2s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Program, o.Out = self, cmd.OutOrStdout()
			return bench.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().IntVar(&o.Rounds, "rounds", 5, "alternating rounds")
	cmd.Flags().DurationVar(&o.Duration, "duration", 4*time.Second, "length of one measurement")
	cmd.Flags().IntVar(&o.Rate, "rate", 20_000, "messages a second when answer times are measured")
	cmd.Flags().IntVar(&o.Partitions, "partitions", 6, "partitions of the topic")
	cmd.AddCommand(benchNull())
	return cmd
}

func benchNull() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "null", Short: "Run the null broker alone, for other clients", Args: noArgs,
		Example: "  belfry bench null --listen 127.0.0.1:9192",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunNull(cmd.Context(), listen, 6, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9192", "address to serve on")
	return cmd
}
