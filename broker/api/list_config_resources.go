package api

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// listConfigResources answers ListConfigResources 0–1: what has settings. Version 0
// asks for subscriptions to client metrics only (KIP-714), 1 for any kind (KIP-1142).
func (a *API) listConfigResources(r *wire.Request) {
	req := r.Body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	kinds := req.ResourceTypes
	switch {
	case r.Version == 0:
		kinds = []int8{metadata.ClientMetricsResource}
	case len(kinds) == 0:
		kinds = []int8{metadata.TopicResource, metadata.BrokerResource, metadata.BrokerLoggerResource, metadata.ClientMetricsResource, metadata.GroupResource}
	}
	for _, kind := range unique(kinds, same[int8]) {
		names, ok := resourceNames(a.image(), kind)
		if !ok {
			resp.ErrorCode, resp.ConfigResources = kerr.UnsupportedVersion.Code, nil
			break
		}
		for _, name := range names {
			one := kmsg.NewListConfigResourcesResponseConfigResource()
			one.Name, one.Type = name, kind
			resp.ConfigResources = append(resp.ConfigResources, one)
		}
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// resourceNames gives the names of what has settings of a kind; false for a kind
// that has none.
func resourceNames(img *metadata.Image, kind int8) (names []string, ok bool) {
	switch kind {
	case metadata.TopicResource:
		for _, t := range img.Topics() {
			names = append(names, t.Name)
		}
	case metadata.BrokerResource, metadata.BrokerLoggerResource:
		for _, b := range img.Brokers() {
			names = append(names, strconv.Itoa(int(b.ID)))
		}
	case metadata.ClientMetricsResource, metadata.GroupResource:
		for _, res := range img.Configured(kind) {
			names = append(names, res.Name)
		}
	default:
		return nil, false
	}
	slices.Sort(names)
	return names, true
}
