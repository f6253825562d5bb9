package api_test

import (
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// features gives the ranges and the levels that ApiVersions shows.
func (c *rawClient) features(v int16) (ranges map[string][2]int16, levels map[string]int16) {
	c.t.Helper()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = v, "raw", "1.0"
	resp := c.ask(req).(*kmsg.ApiVersionsResponse)
	ranges, levels = map[string][2]int16{}, map[string]int16{}
	for _, f := range resp.SupportedFeatures {
		ranges[f.Name] = [2]int16{f.MinVersion, f.MaxVersion}
	}
	for _, f := range resp.FinalizedFeatures {
		levels[f.Name] = f.MaxVersionLevel
		if f.MinVersionLevel != f.MaxVersionLevel {
			c.t.Errorf("feature %s has levels %d and %d", f.Name, f.MinVersionLevel, f.MaxVersionLevel)
		}
	}
	if v >= 3 && resp.FinalizedFeaturesEpoch < 0 {
		c.t.Errorf("the features have epoch %d", resp.FinalizedFeaturesEpoch)
	}
	return ranges, levels
}

func featureUpdates(v int16, name string, level int16, kind int8) *kmsg.UpdateFeaturesRequest {
	req := kmsg.NewPtrUpdateFeaturesRequest()
	req.Version = v
	u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	u.Feature, u.MaxVersionLevel, u.UpgradeType, u.AllowDowngrade = name, level, kind, kind > 1
	req.FeatureUpdates = append(req.FeatureUpdates, u)
	return req
}

func askUpdateFeatures(t *testing.T, w *world, v int16) {
	_, levels := w.raw.features(4)
	have := levels["metadata.version"]
	for _, tt := range []struct {
		name  string
		level int16
		kind  int8
		want  *kerr.Error
	}{
		{"metadata.version", have, 1, nil},
		{"metadata.version", have + 1, 1, kerr.InvalidUpdateVersion},
		{"metadata.version", 0, 2, kerr.InvalidUpdateVersion},
		{"no.such.feature", 1, 1, kerr.InvalidUpdateVersion},
	} {
		resp := w.raw.ask(featureUpdates(v, tt.name, tt.level, tt.kind)).(*kmsg.UpdateFeaturesResponse)
		code(t, resp.ErrorCode, tt.want)
		if v < 2 && (len(resp.Results) != 1 || resp.Results[0].Feature != tt.name || resp.Results[0].ErrorCode != resp.ErrorCode) {
			t.Errorf("%s to %d: results %+v", tt.name, tt.level, resp.Results)
		}
		if (tt.want == nil) != (resp.ErrorMessage == nil) {
			t.Errorf("%s to %d: message %v", tt.name, tt.level, resp.ErrorMessage)
		}
	}
	if _, after := w.raw.features(4); !maps.Equal(levels, after) {
		t.Errorf("the levels are %v after refusals only, were %v", after, levels)
	}
}

// TestFeaturesAreTold asks what a client may rely on, over a restart and in an old instance.
func TestFeaturesAreTold(t *testing.T) {
	node := brokertest.Start(t)
	raw := dialRaw(t, node.Addr())
	ranges, levels := raw.features(4)
	if ranges["metadata.version"] != [2]int16{30, 30} || levels["metadata.version"] != 30 {
		t.Errorf("ranges %v, levels %v: want metadata.version 30, the one of Kafka 4.3", ranges, levels)
	}
	if r, ok := ranges["kraft.version"]; !ok || r != [2]int16{0, 0} || levels["kraft.version"] != 0 {
		t.Errorf("kraft.version has range %v, level %d; want 0", r, levels["kraft.version"])
	}
	three, _ := raw.features(3)
	for name, r := range three {
		if r[0] < 1 {
			t.Errorf("version 3 shows %s from %d on: such clients know ranges from 1 on", name, r[0])
		}
	}
	if _, ok := three["metadata.version"]; !ok {
		t.Errorf("version 3 shows %v, want metadata.version", three)
	}
	node.Restart(nil, nil)
	if _, after := dialRaw(t, node.Addr()).features(4); !maps.Equal(levels, after) {
		t.Errorf("the levels are %v after a restart, were %v", after, levels)
	}
	old := brokertest.Start(t, brokertest.Set(map[string]string{"version": "2.7"}))
	if ranges, levels = dialRaw(t, old.Addr()).features(3); len(ranges)+len(levels) != 0 {
		t.Errorf("an instance of 2.7 shows features %v %v, that release had none", ranges, levels)
	}
}
