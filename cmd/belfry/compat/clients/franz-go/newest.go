//go:build !old

package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"belfry/features"
)

func (d driver) groupNewProtocol() features.Feature {
	return features.Feature{Name: "group-new-protocol", Try: func(ctx context.Context) error {
		return d.group(ctx, "new", features.Group{Cooperative: true}, func(string) []kgo.Opt {
			return []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())}
		})
	}}
}
