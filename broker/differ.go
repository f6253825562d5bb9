package broker

import (
	"context"
	"slices"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// Differences gives the settings that must be the same on every node of the cluster and
// are not, as far as this node knows; nil while it is not running.
func (b *Broker) Differences() []controller.Difference {
	if r := b.running(); r != nil && r.news != nil {
		return controller.Differences(r.news.Image())
	}
	return nil
}

// compareSettings warns of each such setting when it comes up or changes, until ctx ends.
func (b *Broker) compareSettings(ctx context.Context, news *publisher) error {
	told := map[string]string{}
	var last *metadata.Image
	for {
		img := news.Image()
		if last == nil || concerns(last, img) {
			told = b.tellDifferences(controller.Differences(img), told)
		}
		last = img
		err := news.passes(ctx, func(now *metadata.Image) bool { return now.Index() > last.Index() })
		if err != nil {
			return nil
		}
	}
}

// concerns tells whether there is something to compare anew.
func concerns(old, img *metadata.Image) bool {
	d := metadata.Diff(old, img)
	return len(d.Brokers) > 0 || slices.ContainsFunc(d.Configs, func(r metadata.Resource) bool { return r.Kind == metadata.BrokerResource })
}

// tellDifferences logs what is new and gives what is told now.
func (b *Broker) tellDifferences(found []controller.Difference, told map[string]string) map[string]string {
	now := make(map[string]string, len(found))
	for _, d := range found {
		now[d.Setting] = d.String()
		if told[d.Setting] != d.String() {
			b.log.Warn("a setting is not the same on every node: what holds depends on which node leads", "setting", d.Setting, "what", d.String())
		}
	}
	for setting := range told {
		if _, still := now[setting]; !still {
			b.log.Info("a setting is the same on every node again", "setting", setting)
		}
	}
	return now
}
