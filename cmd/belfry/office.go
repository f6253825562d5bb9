package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/audit"
	"github.com/belfry-mq/belfry/agent/checkpoint"
	"github.com/belfry-mq/belfry/agent/gossip"
	"github.com/belfry-mq/belfry/agent/guard"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/notify"
	"github.com/belfry-mq/belfry/agent/task"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/rules"
)

// The rooms below fit each other.
var (
	_ alarm.Notifier = (*notify.Engine)(nil)
	_ alarm.Recorder = (*audit.Log)(nil)
	_ guard.Auditor  = (*office)(nil)
	_ guard.Tasks    = (*office)(nil)
)

// office is what both kinds of agent have, beside a broker or alone: alarms, notification,
// the audit log, tasks.
type office struct {
	audit  *audit.Log
	tasks  *task.Store
	notify *notify.Engine
	alarms *alarm.Evaluator
	broker string
}

// openOffice opens their state.
func openOffice(v *config.Values, dir, broker string, u union, log *slog.Logger) (o *office, err error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	o = &office{broker: broker}
	if o.audit, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")}, log); err != nil {
		return nil, err
	}
	if o.tasks, err = task.Open(filepath.Join(dir, "tasks"), log); err != nil {
		return nil, err
	}
	options := notifyOptions(v, filepath.Join(dir, "notify"))
	options.Peers = u.notifiers()
	if o.notify, err = notify.Open(options, log); err != nil {
		return nil, err
	}
	env := ruleEnv(v, o.notify.HasReceiver)
	o.alarms, err = alarm.Open(alarm.Config{
		Store:    checkpoint.New(filepath.Join(dir, "alarms"), "alarm"),
		Load:     func() (*rules.Set, error) { return loadRuleFiles(v.List("alarm.rules"), env) },
		Fallback: func() (*rules.Set, error) { return rules.Load(nil, env) },
		Unit:     alarm.Units(), Peers: u.evaluators(broker, o.notify),
	}, o.notify, o.audit, log)
	if err != nil {
		return nil, err
	}
	u.join(o)
	return o, nil
}

func notifyOptions(v *config.Values, dir string) notify.Options {
	return notify.Options{
		Dir: dir, Period: v.Duration("agent.period"),
		ConfigFile: v.String("notify.config"), SMSFile: v.String("notify.sms.config"),
		Webhook: notify.Webhook{URL: notify.Secret(v.String("notify.webhook.url")), Token: notify.Secret(v.String("notify.webhook.token"))},
		Email: notify.Email{
			To: v.List("notify.email.to"), From: v.String("notify.email.from"), Smarthost: v.String("notify.email.smarthost"),
			User: v.String("notify.email.username"), Password: notify.Secret(v.String("notify.email.password")),
			TLS: v.String("notify.email.tls"), CAFile: v.String("notify.email.ca"),
		},
		DeadMan: notify.Secret(v.String("notify.watchdog.url")),
	}
}

// ruleSettings are the settings that rules may be a share of.
var ruleSettings = map[rules.Limit]string{
	rules.PartitionLimit:    "instance.partition.limit",
	rules.GroupBacklogLimit: "alarm.backlog.limit",
	rules.TopicBacklogLimit: "alarm.topic.backlog.limit",
}

// ruleEnv is what rules are checked against. Receiver may be nil: then their names are not checked.
func ruleEnv(v *config.Values, receiver func(string) bool) rules.Env {
	limit := func(l rules.Limit) float64 {
		if l == rules.PartitionLimit {
			return float64(config.PartitionLimit(v, 1))
		}
		return float64(v.Int(ruleSettings[l]))
	}
	setting := func(l rules.Limit) string { return ruleSettings[l] }
	return alarm.Environment(limit, setting, receiver, v.Duration("agent.period"))
}

// loadRuleFiles reads the built-in rules and the files that the patterns name.
func loadRuleFiles(patterns []string, env rules.Env) (*rules.Set, error) {
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("cannot read alarm.rules %q: %w", p, err)
		}
		if len(found) == 0 && !strings.ContainsAny(p, "*?[") {
			found = []string{p} // a file that is missing is an error, a pattern without files is none
		}
		files = append(files, found...)
	}
	return rules.Load(files, env)
}

// sources are the series that these rooms have of themselves.
func (o *office) sources(broker string) []agent.Source {
	return []agent.Source{
		{Name: "alarms", Samples: func() []metric.Sample { return o.alarms.Samples(broker) }},
		{Name: "notification", Samples: func() []metric.Sample { return o.notify.Samples(broker) }},
	}
}

// parts are the rooms that the agent keeps running. The mesh ends after what tells by it; it may be nil.
func (o *office) parts(mesh *gossip.Mesh) []agent.Part {
	all := []agent.Part{{Name: "notify", Runner: o.notify}}
	if mesh != nil {
		all = append(all, agent.Part{Name: "gossip", Runner: mesh})
	}
	return all
}

// known gives what the page of alarms shows.
func (o *office) known(instance func() string) func() agent.Alarms {
	return func() agent.Alarms {
		return agent.Alarms{Instance: instance(), Broker: o.broker, Firing: o.alarms.Firing(), Elsewhere: o.alarms.Elsewhere(), Ended: o.alarms.Ended()}
	}
}

// run keeps the records until ctx ends; the last ones are on disk when it returns.
func (o *office) run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return o.audit.Run(ctx) })
	g.Go(func() error { return o.tasks.Run(ctx) })
	return g.Wait()
}

// Record keeps an act of the guard.
func (o *office) Record(_ context.Context, e guard.Event) {
	level := audit.Warning
	switch {
	case e.Err != "" || e.Kind == guard.RefuseBegan || e.Kind == guard.Deleted:
		level = audit.Incident
	case e.Kind == guard.SettingChanged || e.Kind == guard.RefuseEnded || e.Kind == guard.ProbeRecovered:
		level = audit.Normal
	}
	o.audit.Record(audit.Event{
		Time: e.At, Name: string(e.Kind), Level: level, Resource: "broker", ResourceID: o.broker, User: e.By, Source: "guard",
		Request:  fmt.Sprintf("policy %s, threshold %.4g %%, usage %.4g %%", e.Policy, e.Threshold, e.Percent),
		Response: strings.TrimSpace(e.Text + " " + e.Err),
	})
}

// Begin opens a task for a change of the guard's settings.
func (o *office) Begin(name, by string, params map[string]string) (end func(error)) {
	var what []string
	for _, k := range slices.Sorted(maps.Keys(params)) {
		what = append(what, k+" "+params[k])
	}
	h := o.tasks.Begin(name, strings.Join(what, ", "), by)
	return h.Finish
}
