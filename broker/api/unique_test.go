package api_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestNamedAgainAndAgain: a small request that names one thing very often gets a
// small answer.
func TestNamedAgainAndAgain(t *testing.T) {
	const times = 20_000
	w := newWorld(t)
	name := "t"
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version = 1
	groups := kmsg.NewPtrDescribeGroupsRequest()
	offsets := kmsg.NewPtrOffsetFetchRequest()
	offsets.Version, offsets.Group = 5, "g"
	ot := kmsg.NewOffsetFetchRequestTopic()
	ot.Topic = name
	configs := describe(1, kmsg.ConfigResourceTypeTopic, name)
	for range times {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = &name
		metadata.Topics = append(metadata.Topics, mt)
		groups.Groups = append(groups.Groups, "g")
		ot.Partitions = append(ot.Partitions, 0)
		configs.Resources = append(configs.Resources, configs.Resources[0])
	}
	offsets.Topics = append(offsets.Topics, ot, ot)
	if n := len(w.raw.ask(metadata).(*kmsg.MetadataResponse).Topics); n != 1 {
		t.Errorf("%d topics described, want 1", n)
	}
	if n := len(w.raw.ask(groups).(*kmsg.DescribeGroupsResponse).Groups); n != 1 {
		t.Errorf("%d groups described, want 1", n)
	}
	topics := w.raw.ask(offsets).(*kmsg.OffsetFetchResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		t.Errorf("%d topics with offsets, want 1 with 1 partition", len(topics))
	}
	resources := w.raw.ask(configs).(*kmsg.DescribeConfigsResponse).Resources
	code(t, resources[0].ErrorCode, nil)
	code(t, resources[1].ErrorCode, kerr.InvalidRequest)
	if n := len(resources[times].Configs); n != 0 {
		t.Errorf("%d settings of a resource that was described before", n)
	}
}
