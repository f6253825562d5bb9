package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/cmd/belfry/bench"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure a node beside a broker that stores nothing", Args: noArgs,
		Long:    "Start a node and a null broker in turns, measure both and print medians and ratios.\nThe null broker decodes, checks and answers, but stores nothing: it is the limit of this machine.\nIt takes about five minutes and a few gigabytes in the temporary directory, which it gives back.",
		Example: "  belfry bench\n  belfry bench --rounds 3 --duration 2s --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Program, o.Out, o.Progress = self, cmd.OutOrStdout(), cmd.ErrOrStderr()
			return bench.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().IntVar(&o.Rounds, "rounds", bench.DefaultRounds, "alternating rounds")
	cmd.Flags().DurationVar(&o.Duration, "duration", bench.DefaultDuration, "length of one measurement")
	cmd.Flags().IntVar(&o.Rate, "rate", bench.DefaultRate, "messages a second when answer times are measured")
	cmd.Flags().IntVar(&o.Partitions, "partitions", bench.DefaultPartitions, "partitions of each topic")
	cmd.Flags().BoolVar(&o.JSON, "json", false, "write every round's values as JSON")
	cmd.AddCommand(benchNull())
	return cmd
}

func benchNull() *cobra.Command {
	var listen string
	var partitions int
	cmd := &cobra.Command{
		Use: "null", Short: "Run the null broker alone, for other clients", Args: noArgs,
		Example: "  belfry bench null --listen 127.0.0.1:9192",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.RunNull(cmd.Context(), listen, partitions, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9192", "address to serve on")
	cmd.Flags().IntVar(&partitions, "partitions", bench.DefaultPartitions, "partitions of each topic")
	return cmd
}
