//go:build old

package main

import "belfry/features"

func (d driver) groupNewProtocol() features.Feature {
	return features.Feature{Name: "group-new-protocol", Lacks: "this release of franz-go speaks the classic group protocol only"}
}
