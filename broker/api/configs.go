package api

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

func (a *API) nodeName() string { return strconv.Itoa(int(a.node)) }

// resource finds what a request about settings means.
func (a *API) resource(kind int8, name string, img *metadata.Image) (metadata.Resource, error) {
	res := metadata.Resource{Kind: kind, Name: name}
	switch kind {
	case metadata.TopicResource:
		if img.Topic(name) == nil {
			return res, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("there is no topic %q", name))
		}
	case metadata.BrokerResource:
		if name == "" || name == a.nodeName() {
			return res, nil
		}
		id, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return res, refuse(kerr.InvalidRequest, fmt.Sprintf("broker resource %q is not a broker ID; use a number, or nothing for the default of all brokers", name))
		}
		if img.Broker(metadata.BrokerID(id)) == nil {
			return res, refuse(kerr.InvalidRequest, fmt.Sprintf("there is no broker %d", id))
		}
	case metadata.BrokerLoggerResource:
		if name != a.nodeName() {
			return res, refuse(kerr.InvalidRequest, fmt.Sprintf("this is broker %d: broker %q is to be asked for its own loggers", a.node, name))
		}
	case metadata.ClientMetricsResource, metadata.GroupResource:
		if name == "" {
			return res, refuse(kerr.InvalidRequest, "settings of groups and of subscriptions to client metrics need a name")
		}
	default:
		return res, refuse(kerr.InvalidRequest, fmt.Sprintf("settings of resource type %d are not served; use 2 (topic), 4 (broker), 8 (broker logger), 16 (client metrics) or 32 (group)", kind))
	}
	return res, nil
}

// settingsOf gives all settings of a resource with their effective values.
func (a *API) settingsOf(res metadata.Resource, img *metadata.Image) ([]config.Effective, error) {
	all, own := a.dynamic(img)
	switch {
	case res.Kind == metadata.TopicResource:
		replicas := 0
		if t := img.Topic(res.Name); t != nil && len(t.Partitions) > 0 {
			replicas = len(t.Partitions[0].Replicas)
		}
		return a.topicSettings(img.Config(res), replicas), nil
	case res.Kind == metadata.GroupResource:
		return config.Resolve(config.Group, a.file, all, own, img.Config(res)), nil
	case res.Kind == metadata.ClientMetricsResource:
		return config.Resolve(config.Metrics, config.Defaults(), nil, nil, img.Config(res)), nil
	case res.Kind == metadata.BrokerLoggerResource:
		return a.loggers(), nil
	case res.Name == "":
		// Only what was set for every broker: the rest is each broker's own business.
		var out []config.Effective
		for _, e := range config.Resolve(config.Node, config.Defaults(), all, nil, nil) {
			if e.Source == config.FromDynamicDefault {
				e.Synonyms = e.Synonyms[:1]
				out = append(out, e)
			}
		}
		return out, nil
	case res.Name != a.nodeName():
		// Why not answered from here: another broker's file is not known to this one.
		return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("this is broker %d: ask broker %s for its own settings", a.node, res.Name))
	}
	return config.Resolve(config.Node, a.file, all, own, nil), nil
}

// loggers gives the node's one logger with its level, as Kafka's levels are called.
// It is set on the command line and cannot be changed here.
func (a *API) loggers() []config.Effective {
	level := "FATAL"
	for _, l := range []struct {
		is   slog.Level
		name string
	}{{slog.LevelError, "ERROR"}, {slog.LevelWarn, "WARN"}, {slog.LevelInfo, "INFO"}, {slog.LevelDebug, "DEBUG"}} {
		if a.log.Enabled(context.Background(), l.is) {
			level = l.name
		}
	}
	s := config.Setting{Name: "root", Kind: config.String, Help: "Least severe lines that are written to the node's log."}
	return []config.Effective{{Setting: s, Value: level, Source: config.FromLogger,
		Synonyms: []config.Synonym{{Name: s.Name, Value: level, Source: config.FromLogger}}}}
}
