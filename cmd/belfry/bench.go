package main

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/cmd/belfry/bench"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/null"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/profile"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure a node side by side with other brokers", Args: noArgs,
		Long: "Run a node, Apache Kafka, klite, NATS JetStream and a broker that stores nothing in turns,\n" +
			"then three nodes against three of Apache Kafka, measure all of them and print medians, ratios\n" +
			"and goals. `make bench` installs the others; those that are missing are told and left out. All\n" +
			"of it takes about 50 minutes and up to 40 GB below --dir, which are given back.\n\n" +
			"Lines that missed a goal are measured once more with CPU profiles of broker and client;\n" +
			"what their time went to stands below the table, and --profiles keeps the profiles for\n" +
			"`go tool pprof`.\n\nSections: " + strings.Join(bench.Sections(), ", ") + ".",
		Example: "  belfry bench\n  belfry bench --only produce,latency --rounds 3 --time 4s --peers kafka,null",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Program, o.Version, o.Out, o.Progress = self, version, cmd.OutOrStdout(), cmd.ErrOrStderr()
			return bench.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Only, "only", nil, "sections to measure; all if not given")
	f.StringSliceVar(&o.Peers, "peers", nil, "who is measured beside Belfry: "+strings.Join(bench.PeerNames(), ", ")+"; all if not given")
	f.IntVar(&o.Rounds, "rounds", bench.DefaultRounds, "alternating rounds")
	f.DurationVar(&o.Time, "time", bench.DefaultTime, "length of one measurement")
	f.DurationVar(&o.WarmUp, "warm-up", bench.DefaultWarmUp, "load on each broker before the first round")
	f.IntVar(&o.Rate, "rate", bench.DefaultRate, "messages a second when answer times are measured")
	f.IntVar(&o.Partitions, "partitions", bench.DefaultPartitions, "partitions of each topic")
	f.Float64Var(&o.LogGB, "log-gb", bench.DefaultLogGB, "GB of logs that a restart after kill -9 finds")
	f.Float64Var(&o.ReadGB, "read-gb", bench.DefaultReadGB, "GB that are read from disk, cold and warm")
	f.IntSliceVar(&o.GrowthPartitions, "growth-partitions", []int{10, 100, 1000, 5000}, "numbers of partitions that the curves have")
	f.IntSliceVar(&o.GrowthConnections, "growth-connections", []int{10, 100, 1000}, "numbers of connections that the curves have")
	f.IntVar(&o.ClusterPartitions, "cluster-partitions", bench.DefaultClusterPartitions, "partitions of three replicas each that three nodes are measured with")
	f.StringVar(&o.Dir, "dir", "", "folder for all data; the system's temporary one if not given")
	f.StringVar(&o.Cache, "cache", os.Getenv("BELFRY_CACHE"), "folder of the other brokers; BELFRY_CACHE or ~/.cache/belfry if not given")
	f.StringVar(&o.Markdown, "markdown", "", "file that gets the table for a page")
	f.StringVar(&o.JSON, "json", "", "file that gets every round's values")
	f.StringVar(&o.Profiles, "profiles", "", "folder that keeps the CPU profiles of both sides for lines that missed a goal")
	f.StringVar(&o.Curves, "curves", "", "file that gets the growth curves as SVG")
	cmd.AddCommand(benchNull(), benchBroker())
	return cmd
}

func benchNull() *cobra.Command {
	var listen string
	var partitions int
	cmd := &cobra.Command{
		Use: "null", Short: "Run the null broker alone, for other clients", Args: noArgs,
		Example: "  belfry bench null --listen 127.0.0.1:9192",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return null.Run(cmd.Context(), listen, partitions, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9192", "address to serve on")
	cmd.Flags().IntVar(&partitions, "partitions", bench.DefaultPartitions, "partitions of each topic")
	return cmd
}

func benchBroker() *cobra.Command {
	var file, profiles string
	var agent bool
	cmd := &cobra.Command{
		Use: "broker", Short: "Run a broker without its agent, to see what the agent costs", Args: noArgs,
		Example: "  belfry bench broker --config node.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := loadConfig(file)
			if err != nil {
				return err
			}
			run, err := benched(v, agent, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			if profiles == "" {
				return run(cmd.Context())
			}
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return profile.Serve(ctx, profiles) })
			g.Go(func() error { return run(ctx) })
			return g.Wait()
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file")
	cmd.Flags().StringVar(&profiles, "profiles", "", "HOST:PORT at which POST /start and POST /stop take a CPU profile")
	cmd.Flags().BoolVar(&agent, "agent", false, "run the agent, too")
	return cmd
}

// benched gives what runs a node, or only its broker.
func benched(v *config.Values, agent bool, log *slog.Logger) (run func(context.Context) error, err error) {
	if agent {
		n, err := newNode(v, log)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return n.Run(ctx, func() {}) }, nil
	}
	b, err := broker.New(broker.Options{Values: v, Logger: log})
	if err != nil {
		return nil, err
	}
	return b.Run, nil
}
