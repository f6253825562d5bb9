package api

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// ownFeature begins the names of features that are none of a client's business.
const ownFeature = "belfry."

// apiVersions answers ApiVersions 0–4: what is served. A client that asked in a
// version that is not served learns which are, in version 0 (KIP-511).
func (a *API) apiVersions(r *wire.Request) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if r.Unsupported {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = kmsg.ApiVersions.Int16(), a.table[kmsg.ApiVersions.Int16()].max
		resp.ErrorCode, resp.ApiKeys = kerr.UnsupportedVersion.Code, []kmsg.ApiVersionsResponseApiKey{k}
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	// The session has the names of the client only if they keep to KIP-511's rules.
	if r.Version >= 3 && (r.Session.Software == "" || r.Session.SoftwareVersion == "") {
		resp.ErrorCode = kerr.InvalidRequest.Code
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(a.table)) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, a.table[key].max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	img := a.image()
	resp.FinalizedFeaturesEpoch = int64(img.Index())
	features := img.Features()
	for _, name := range slices.Sorted(maps.Keys(features)) {
		if strings.HasPrefix(name, ownFeature) {
			continue
		}
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MinVersion, s.MaxVersion = name, 1, features[name]
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MinVersionLevel, f.MaxVersionLevel = name, features[name], features[name]
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
	}
	r.Answer(wire.Message(resp, 0))
}
