//go:build old

package main

import (
	"github.com/IBM/sarama"

	"belfry/features"
)

// newest leaves the default of the release, whose versions are sent without asking the broker.
func newest(*sarama.Config) {}

// capped is what a user of such a release has to set for an old broker.
func capped(c *sarama.Config) { c.Version = sarama.V1_1_0_0 }

func (d driver) groupCooperative() features.Feature {
	return features.Feature{Name: "group-cooperative", Lacks: "this release of sarama has no cooperative rebalance"}
}
