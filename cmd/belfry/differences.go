package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/belfry-mq/belfry/broker/config"
)

// differenceBody is a setting that is not the same everywhere.
type differenceBody struct {
	Setting string            `json:"setting"`
	Values  map[string]string `json:"values"` // by broker
}

func clusterDifferences(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "differences", Short: "List settings that must be the same on every node and are not", Args: noArgs,
		Long:    "List settings that must be the same on every node and are not, as every node in service\nsays now. Exit code 0 = none, 1 = some.",
		Example: "  belfry cluster differences",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
				found, err := differences(ctx, a)
				if err != nil {
					return err
				}
				v := view{columns: columns("SETTING", "NODE", "VALUE"), body: found}
				for _, d := range found {
					for _, node := range nodesOf(d.Values) {
						v.rows = append(v.rows, []string{d.Setting, node, d.Values[node]})
					}
				}
				if err := c.show(cmd.OutOrStdout(), v); err != nil || len(found) == 0 {
					return err
				}
				return fmt.Errorf("%d settings are not the same on every node: give them the same value in the nodes' files and restart those that you changed", len(found))
			})
		},
	}
}

// differences asks every broker for its own settings.
func differences(ctx context.Context, a *kadm.Client) ([]differenceBody, error) {
	all, err := a.ListBrokers(ctx)
	if err != nil {
		return nil, err
	}
	said, err := a.DescribeBrokerConfigs(ctx, all.NodeIDs()...)
	if err != nil {
		return nil, err
	}
	by := map[string]map[string]string{}
	for _, of := range said {
		if of.Err != nil {
			return nil, fmt.Errorf("cannot ask broker %s for its settings: %w", of.Name, explain(of.Err, of.ErrMessage))
		}
		for _, s := range of.Configs {
			if by[s.Key] == nil {
				by[s.Key] = map[string]string{}
			}
			by[s.Key][of.Name] = s.MaybeValue()
		}
	}
	if len(said) != len(all) {
		return nil, errors.New("cannot compare: not every broker answered")
	}
	found := []differenceBody{}
	for _, row := range config.Table() {
		values := by[row.Name]
		if nodes := nodesOf(values); row.Uniform && slices.ContainsFunc(nodes, func(n string) bool { return values[n] != values[nodes[0]] }) {
			found = append(found, differenceBody{row.Name, values})
		}
	}
	return found, nil
}

// nodesOf gives the brokers in the order of their IDs.
func nodesOf(values map[string]string) (nodes []string) {
	for n := range values {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX != nil || errY != nil {
			return len(a) - len(b)
		}
		return x - y
	})
	return nodes
}
