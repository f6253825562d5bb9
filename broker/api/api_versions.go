package api

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// apiVersions answers ApiVersions 0–4: what is served. An unknown version of
// ApiVersions itself never gets here; wire answers it in version 0 (KIP-511).
func (a *API) apiVersions(r *wire.Request) {
	req := r.Body.(*kmsg.ApiVersionsRequest)
	resp := kmsg.NewPtrApiVersionsResponse()
	if req.Version >= 3 && !(softwareName(req.ClientSoftwareName) && softwareName(req.ClientSoftwareVersion)) {
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
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MinVersion, s.MaxVersion = name, 1, features[name]
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MinVersionLevel, f.MaxVersionLevel = name, features[name], features[name]
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
	}
	r.Answer(wire.Message(resp, 0))
}

// softwareName is KIP-511's rule for a client's name and version: letters, digits,
// dots and dashes, with a letter or digit at both ends.
func softwareName(s string) bool {
	alnum := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return true
}
