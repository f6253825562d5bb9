package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of the program.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3 // some of several objects failed
)

// usageError is the caller's words being off; failed is work that did not succeed.
type usageError struct{ error }

// partialError is some of several objects having failed.
type partialError struct{ error }

// client is what commands that talk to a cluster share.
type client struct {
	bootstrap []string
	output    string
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errOut, "belfry:", err)
	var usage usageError
	var partial partialError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &partial):
		return exitPartial
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	c := &client{}
	root := &cobra.Command{
		Use:           "belfry",
		Short:         "A Kafka-compatible broker with its own monitoring and alarms",
		Long:          "Belfry is a Kafka-compatible broker and, beside it, the agent that measures it,\nraises alarms and acts before the disk is full.",
		Example:       "  belfry server\n  belfry message consume orders --from beginning",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee `%s --help`", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringSliceVar(&c.bootstrap, "bootstrap-server", envList("BELFRY_BOOTSTRAP_SERVER", "127.0.0.1:9092"), "brokers to ask first, HOST:PORT")
	flags.StringVarP(&c.output, "output", "o", "table", "table, wide, json, yaml or csv")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.checkOutput() }
	completeFixed(root, "output", outputs)
	root.AddCommand(
		serverCommand(), agentCommand(c), configCommand(c), versionCommand(c), benchCommand(), ruleCommand(c), alarmCommand(c), demoCommand(),
		topicCommand(c), messageCommand(c), groupCommand(c), clusterCommand(c), balanceCommand(c), localCommand(c),
	)
	return root
}

func envList(name, otherwise string) []string {
	if v := os.Getenv(name); v != "" {
		return strings.Split(v, ",")
	}
	return []string{otherwise}
}

// noun makes a command that only holds verbs.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usageError{fmt.Errorf("%s wants a verb\nSee `%s --help`", name, cmd.CommandPath())}
	}}
	cmd.AddCommand(verbs...)
	return cmd
}

// noArgs refuses arguments; atLeast and exactly say what was missing. All are usage errors.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q for %q\nSee `%s --help`", args[0], cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s wants %s, got %d arguments\nSee `%s --help`", cmd.CommandPath(), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}

func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("%s wants at least one %s\nSee `%s --help`", cmd.CommandPath(), what, cmd.CommandPath())}
		}
		return nil
	}
}

func completeFixed(cmd *cobra.Command, flag string, values []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic("BUG: " + err.Error())
	}
}
