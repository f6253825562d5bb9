package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// newestRelease is the release of Kafka whose features an uncapped instance has.
const newestRelease = "4.3"

// Features gives the features of an instance of a Kafka version, sorted by name:
// what that release had, as far as it is true here.
//
//   - group.version: where ConsumerGroupHeartbeat is served (KIP-848).
//   - kraft.version: level 0 only, the members of the quorum are fixed.
//   - metadata.version: the release's own level only, as the metadata log has one format.
//   - transaction.version: where transactions are served; 2 with EndTxn 5 (KIP-890).
//
// Errors: the version is unknown.
func Features(version string) ([]controller.Feature, error) {
	t, err := newTable(version)
	if err != nil {
		return nil, err
	}
	caps, err := release(version)
	if err != nil {
		return nil, err
	}
	if caps == nil {
		caps = kversion.FromString(newestRelease)
	}
	levels := map[string]int16{}
	caps.EachFinalizedFeature(func(name string, level int16) { levels[name] = level })
	var fs []controller.Feature
	caps.EachSupportedFeature(func(name string, least, most int16) {
		f := controller.Feature{Name: name, Min: least, Max: most, Default: levels[name]}
		switch name {
		case metadata.FeatureGroupVersion:
			if _, ok := t[kmsg.ConsumerGroupHeartbeat.Int16()]; !ok {
				return
			}
		case metadata.FeatureKRaftVersion:
			f.Min, f.Max, f.Default = 0, 0, 0
		case metadata.FeatureMetadataVersion:
			f.Min, f.Max = f.Default, f.Default
		case metadata.FeatureTransactionVersion:
			end, ok := t[kmsg.EndTxn.Int16()]
			if !ok {
				return
			}
			if end.max < 5 {
				f.Max, f.Default = 0, 0
			}
		default:
			return
		}
		fs = append(fs, f)
	})
	return fs, nil
}

// updateFeatures answers UpdateFeatures 0–2 (KIP-584; kinds KIP-778; no answer for
// each feature any more KIP-1022). All features of a request change, or none.
func (a *API) updateFeatures(r *wire.Request) {
	req := r.Body.(*kmsg.UpdateFeaturesRequest)
	us := make([]controller.FeatureUpdate, len(req.FeatureUpdates))
	for i, f := range req.FeatureUpdates {
		us[i] = controller.FeatureUpdate{Name: f.Feature, Level: f.MaxVersionLevel, Kind: f.UpgradeType}
		if r.Version == 0 {
			us[i].Kind = controller.Upgrade
			if f.AllowDowngrade && f.MaxVersionLevel < a.image().Features()[f.Feature] {
				us[i].Kind = controller.SafeDowngrade
			}
		}
	}
	ctx, cancel := within(r, req.TimeoutMillis)
	defer cancel()
	errs := a.controller.UpdateFeatures(ctx, us, req.ValidateOnly)
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	for _, err := range errs {
		if err != nil && resp.ErrorCode == 0 {
			resp.ErrorCode, resp.ErrorMessage = a.answer("UpdateFeatures", err)
		}
	}
	for i, u := range us {
		result := kmsg.NewUpdateFeaturesResponseResult()
		result.Feature, result.ErrorCode, result.ErrorMessage = u.Name, resp.ErrorCode, resp.ErrorMessage
		if errs[i] != nil {
			result.ErrorCode, result.ErrorMessage = a.answer("UpdateFeatures", errs[i])
		}
		resp.Results = append(resp.Results, result)
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
