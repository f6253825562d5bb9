package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/rules"
)

func ruleCommand(c *client) *cobra.Command {
	return noun("rule", "Check and list alarm rules", ruleCheck(), ruleList(c), rulePrometheus())
}

// loadRules reads the built-in rules, the configuration's files and those named here.
func loadRules(file string, more []string) (*rules.Set, *config.Values, error) {
	v, err := loadConfig(file)
	if err != nil {
		return nil, nil, err
	}
	set, err := loadRuleFiles(append(v.List("alarm.rules"), more...), ruleEnv(v, nil))
	return set, v, err
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration file, for limits and periods")
}

func ruleCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "check FILE…", Short: "Tell what is wrong with rule files", Args: atLeastOne("rule file"),
		Example: "  belfry rule check rules.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			set, _, err := loadRules(file, args)
			if err != nil {
				return err
			}
			n := 0
			for _, r := range set.All() {
				if !r.Builtin || strings.HasPrefix(r.Source, args[0]) {
					n++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rules, no fault; %d rules are in force with the built-in ones\n", strings.Join(args, ", "), n, set.Active())
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

type ruleBody struct {
	Name     string `json:"name"`
	Text     string `json:"condition"`
	For      int    `json:"for"`
	Severity string `json:"severity"`
	State    string `json:"state"`
	Advice   string `json:"advice"`
	Source   string `json:"source"`
}

func ruleList(c *client) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "list", Short: "List all rules, the built-in ones included", Args: noArgs,
		Example: "  belfry rule list\n  belfry rule list -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, _, err := loadRules(file, nil)
			if err != nil {
				return err
			}
			v := view{columns: columns("NAME", "CONDITION", "PERIODS", "SEVERITY", "STATE", "+ADVICE", "+SOURCE")}
			body := []ruleBody{}
			for _, r := range set.All() {
				b := ruleBody{Name: r.Name, Text: r.Text(), For: r.For, Severity: string(r.Severity), State: "on", Advice: r.Advice, Source: r.Source}
				switch {
				case !r.Enabled:
					b.State = "off"
				case r.Off != "":
					b.State = "off: " + r.Off
				}
				body = append(body, b)
				v.rows = append(v.rows, []string{b.Name, b.Text, strconv.Itoa(b.For), b.Severity, b.State, b.Advice, b.Source})
			}
			v.body = body
			return c.show(cmd.OutOrStdout(), v)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func rulePrometheus() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "prometheus", Short: "Write the rules as a Prometheus rule file", Args: noArgs,
		Example: "  belfry rule prometheus > belfry-rules.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, v, err := loadRules(file, nil)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(rules.Prometheus(set, v.Duration("agent.period")))
			return err
		},
	}
	configFlag(cmd, &file)
	return cmd
}
