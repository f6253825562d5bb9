package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/config"
)

type settingBody struct {
	Name    string `json:"name"`
	Scope   string `json:"scope"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Unit    string `json:"unit"`
	Range   string `json:"range"`
	Dynamic bool   `json:"dynamic"`
	Help    string `json:"help"`
}

func configCommand(c *client) *cobra.Command {
	return noun("config", "Show and check the settings", configPrint(c), configCheck())
}

func configPrint(c *client) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "print", Short: "Show every setting with meaning, unit, default and range", Args: noArgs,
		Example: "  belfry config print\n  belfry config print --config node.yaml -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			values, err := loadConfig(file)
			if err != nil {
				return err
			}
			return c.show(cmd.OutOrStdout(), settingsView(values))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file whose values are shown")
	return cmd
}

func settingsView(values *config.Values) view {
	v := view{columns: columns("NAME", "SCOPE", "VALUE", "+DEFAULT", "UNIT", "RANGE", "DYNAMIC", "MEANING")}
	var body []settingBody
	for _, s := range config.Table() {
		b := settingBody{Name: s.Name, Scope: scopeName(s.Scope), Value: s.Default, Default: s.Default, Unit: s.Unit, Range: s.Range(), Dynamic: s.Dynamic, Help: s.Help}
		if text, ok := values.Set(s.Name); ok && !s.Owned() {
			b.Value = text
		}
		if s.Sensitive && b.Value != "" {
			b.Value = "(hidden)"
		}
		if len(s.Follows) > 0 {
			b.Default = "as " + s.Follows[len(s.Follows)-1].Name
			b.Value = b.Default
		}
		body = append(body, b)
		dynamic := "after a restart"
		if b.Dynamic {
			dynamic = "at once"
		}
		v.rows = append(v.rows, []string{b.Name, b.Scope, b.Value, b.Default, b.Unit, b.Range, dynamic, b.Help})
	}
	v.body = body
	return v
}

func scopeName(s config.Scope) string {
	switch {
	case s&config.Topic != 0:
		return "topic"
	case s&config.Group != 0:
		return "group"
	case s&config.Metrics != 0:
		return "client metrics"
	case s&config.Node != 0:
		return "node"
	}
	return "agent"
}

func configCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Tell what is wrong with a configuration file", Args: exactly(1, "one file"),
		Example: "  belfry config check node.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := config.Load(args[0])
			if err != nil {
				return err
			}
			if _, err := broker.New(broker.Options{Values: values}); err != nil { // starts nothing
				return fmt.Errorf("%s: %w", args[0], err)
			}
			n := 0
			for _, s := range config.Table() {
				if _, ok := values.Set(s.Name); ok && !s.Owned() {
					n++
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d settings, no fault\n", args[0], n)
			return err
		},
	}
}

// loadConfig reads a file; no name means nothing is set.
func loadConfig(path string) (*config.Values, error) {
	if path == "" {
		return config.Defaults(), nil
	}
	return config.Load(path)
}
