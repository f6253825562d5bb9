//go:build !old

package main

import (
	"context"

	"github.com/IBM/sarama"

	"belfry/features"
)

// newest asks for all that the release can; it agrees with the broker on each API's version.
func newest(c *sarama.Config) { c.Version = sarama.MaxVersion }

// capped changes nothing for an old broker.
func capped(*sarama.Config) {}

func (d driver) groupCooperative() features.Feature {
	return features.Feature{Name: "group-cooperative", Try: func(ctx context.Context) error {
		return d.group(ctx, "cooperative", features.Group{Cooperative: true}, func(c *sarama.Config, _ string) {
			c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
		})
	}}
}
