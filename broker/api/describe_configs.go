package api

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// maxFreeResources is how many groups and subscriptions one request may name. Why: they
// have settings whether there is such a one or not, and a name of a few bytes takes a
// kilobyte of the answer.
const maxFreeResources = 1000

// describeConfigs answers DescribeConfigs 0–4: every setting of topics, brokers, groups
// and subscriptions to client metrics, and the levels of loggers, with value, source, the layers below it (1), type and meaning (3).
func (a *API) describeConfigs(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	img := a.image()
	var code first
	seen, free := map[metadata.Resource]bool{}, 0
	for _, want := range req.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = want.ResourceType, want.ResourceName
		res, err := a.resource(int8(want.ResourceType), want.ResourceName, img)
		if err == nil && seen[res] {
			err = refuse(kerr.InvalidRequest, "the resource stands in the request more than once: name it once")
		}
		if seen[res] = true; res.Kind == metadata.GroupResource || res.Kind == metadata.ClientMetricsResource {
			if free++; err == nil && free > maxFreeResources {
				err = refuse(kerr.InvalidRequest, fmt.Sprintf("more than %d groups and subscriptions in one request: ask in several", maxFreeResources))
			}
		}
		var all []config.Effective
		if err == nil {
			all, err = a.settingsOf(res, img)
		}
		rr.ErrorCode, rr.ErrorMessage = a.answer("DescribeConfigs", err)
		code.see(rr.ErrorCode)
		for _, e := range all {
			if want.ConfigNames == nil || slices.Contains(want.ConfigNames, e.Setting.Name) {
				rr.Configs = append(rr.Configs, describeSetting(e, res.Kind == metadata.TopicResource, req))
			}
		}
		resp.Resources = append(resp.Resources, rr)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func describeSetting(e config.Effective, ofTopic bool, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	s := e.Setting
	c.Name, c.IsSensitive = s.Name, s.Sensitive
	c.Source = kmsg.ConfigSource(e.Source)
	c.IsDefault = e.Source == config.FromDefault
	if ofTopic {
		c.IsDefault = e.Source != config.FromTopic
	}
	c.ReadOnly = !s.Dynamic
	c.Value = shown(s, e.Value)
	if req.IncludeSynonyms {
		for _, y := range e.Synonyms {
			cs := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			cs.Name, cs.Value, cs.Source = y.Name, shown(s, y.Value), kmsg.ConfigSource(y.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, cs)
		}
	}
	c.ConfigType = kmsg.ConfigType(s.Kind.Wire())
	if req.IncludeDocumentation {
		c.Documentation = text(s.Help)
	}
	return c
}

// shown hides what must not be shown.
func shown(s config.Setting, value string) *string {
	if s.Sensitive {
		return nil
	}
	return &value
}
