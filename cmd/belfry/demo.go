package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/cmd/belfry/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "Show in a minute what an alarm and the capacity guard do", Args: noArgs,
		Long: "Start a node with load, a slow consumer and a small storage capacity, and a webhook, a mailbox and an\n" +
			"SMS gateway on this machine. The disk alarm fires at 80 %, the capacity guard acts at 95 %, and the alarm is\n" +
			"resolved when there is room again. What arrives is printed. The command fails when something does not arrive.\n\n" +
			"With --brokers 3 a cluster is shown instead: under load the node that leads it is killed, the alarm arrives, the\n" +
			"node is started again, and every acknowledged message is read back. It fails when one is lost.",
		Example: "  belfry demo\n  belfry demo --policy reject\n  belfry demo --brokers 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Program, o.Out = self, cmd.OutOrStdout()
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().IntVar(&o.Brokers, "brokers", 1, "how many nodes: 1, or 3 and more for a cluster of which one dies")
	cmd.Flags().StringVar(&o.Policy, "policy", "delete", "capacity policy: delete or reject")
	cmd.Flags().Int64Var(&o.Capacity, "capacity", 0, "storage capacity of the node in bytes (default 100 MiB)")
	cmd.Flags().DurationVar(&o.Limit, "limit", 0, "how long the demo may take (default 3m)")
	cmd.Flags().StringVar(&o.Keep, "data-dir", "", "directory to use and to leave behind (default: a temporary one)")
	completeFixed(cmd, "policy", []string{"delete", "reject"})
	return cmd
}
