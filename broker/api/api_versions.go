package api

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// firstOfKIP511 is the version of ApiVersions that came with KIP-511, in Kafka 2.4.
const firstOfKIP511 = 3

// apiVersions answers ApiVersions 0–4: what is served. A client that asked in a
// version that is not served learns which are, in version 0, where the instance's
// release is of 2.4 or later (KIP-511); an earlier one refuses and names nothing.
func (a *API) apiVersions(r *wire.Request) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if r.Unsupported {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = kmsg.ApiVersions.Int16(), a.table[kmsg.ApiVersions.Int16()].max
		if k.MaxVersion >= firstOfKIP511 {
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	// The session has the names of the client only if they keep to KIP-511's rules.
	if r.Version >= 3 && (r.Session.Software == "" || r.Session.SoftwareVersion == "") {
		resp.ErrorCode = kerr.InvalidRequest.Code
		r.Answer(wire.Message(resp, resp.ErrorCode))
		return
	}
	shown := a.of(r.Session)
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, shown[key].max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	a.showFeatures(resp, r.Version)
	r.Answer(wire.Message(resp, 0))
}

// showFeatures tells which features there are and their levels.
func (a *API) showFeatures(resp *kmsg.ApiVersionsResponse, version int16) {
	img := a.image()
	resp.FinalizedFeaturesEpoch = int64(img.Index())
	for _, f := range a.features {
		// Why left out: clients of version 3 take a range that begins at 0 for a mistake (KIP-1022).
		if version > 3 || f.Min > 0 {
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.Name, f.Min, f.Max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		if level := img.Features()[f.Name]; level > 0 {
			s := kmsg.NewApiVersionsResponseFinalizedFeature()
			s.Name, s.MinVersionLevel, s.MaxVersionLevel = f.Name, level, level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, s)
		}
	}
}
