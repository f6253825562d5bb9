package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// Receivers that the settings make.
const (
	defaultReceiver = "default"
	deadManReceiver = "dead-man"
	nobody          = "nobody"
)

// newParsers switches Alertmanager to the parsers of matchers that its own program
// uses by default; without, files with UTF-8 matchers would be refused. Why a
// package variable: so is what it guards, in Alertmanager.
var newParsers = sync.OnceFunc(func() {
	compat.InitFromFlags(slog.New(slog.DiscardHandler), featurecontrol.NoopFlags{})
})

// loadConfig gives Alertmanager's configuration and the SMS blocks by receiver.
func loadConfig(o Options) (*config.Config, map[string][]SMS, error) {
	newParsers()
	texts, err := loadSMS(o)
	if err != nil {
		return nil, nil, err
	}
	var conf *config.Config
	if o.ConfigFile != "" {
		if o.Webhook.URL != "" || len(o.Email.To) > 0 {
			return nil, nil, fmt.Errorf("cannot use %q beside the settings for webhook and e-mail: write those receivers into the file", o.ConfigFile)
		}
		if conf, err = config.LoadFile(o.ConfigFile); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.ConfigFile, err)
		}
		if err = routeWatchdog(conf, o); err != nil {
			return nil, nil, err
		}
	} else if conf, err = fromSettings(o); err != nil {
		return nil, nil, err
	}
	byReceiver := map[string][]SMS{}
	names := map[string]bool{}
	for _, r := range conf.Receivers {
		names[r.Name] = true
	}
	for _, s := range texts {
		if s.Receiver == "" && o.ConfigFile == "" {
			s.Receiver = defaultReceiver
		}
		if !names[s.Receiver] {
			return nil, nil, fmt.Errorf("SMS receiver %q is not among the receivers: add \"- name: %s\" to the receivers of the configuration file and a route to it", s.Receiver, s.Receiver)
		}
		byReceiver[s.Receiver] = append(byReceiver[s.Receiver], s)
	}
	ownDefaults(conf, o)
	return conf, byReceiver, nil
}

// ownDefaults fills in what the root route leaves open: one message an alarm, at
// once, repeated as the rule says.
func ownDefaults(conf *config.Config, o Options) {
	r := conf.Route
	if len(r.GroupByStr) == 0 {
		r.GroupByStr, r.GroupByAll = []string{"..."}, true
	}
	duration := func(d time.Duration) *model.Duration { m := model.Duration(d); return &m }
	if r.GroupWait == nil {
		r.GroupWait = duration(0)
	}
	if r.GroupInterval == nil {
		r.GroupInterval = duration(o.groupInterval())
	}
	if r.RepeatInterval == nil {
		r.RepeatInterval = duration(byRule)
	}
	for _, rc := range conf.Receivers {
		for _, mail := range rc.EmailConfigs {
			if mail.HTML == config.DefaultEmailConfig.HTML {
				mail.HTML = `{{ template "belfry.html" . }}`
				if mail.Text == "" {
					mail.Text = `{{ template "belfry.text" . }}`
				}
			}
			if _, own := mail.Headers["Subject"]; !own {
				if mail.Headers == nil {
					mail.Headers = map[string]string{}
				}
				mail.Headers["Subject"] = `{{ template "belfry.subject" . }}`
			}
		}
	}
}

// fromSettings writes the settings as a configuration and reads it, so that
// Alertmanager checks it and fills in its defaults.
func fromSettings(o Options) (*config.Config, error) {
	type m = map[string]any
	all := m{"name": defaultReceiver}
	if o.Webhook.URL != "" {
		http := m{}
		if o.Webhook.Token != "" {
			http["authorization"] = m{"credentials": string(o.Webhook.Token)}
		} else if o.Webhook.TokenFile != "" {
			http["authorization"] = m{"credentials_file": absolute(o.Webhook.TokenFile)}
		}
		if o.Webhook.CAFile != "" {
			http["tls_config"] = m{"ca_file": absolute(o.Webhook.CAFile)}
		}
		all["webhook_configs"] = []m{{"url": string(o.Webhook.URL), "http_config": http, "send_resolved": true}}
	}
	if len(o.Email.To) > 0 {
		mail, err := o.Email.config()
		if err != nil {
			return nil, err
		}
		all["email_configs"] = []m{mail}
	}
	watchdog := m{"name": deadManReceiver}
	to := nobody
	if o.DeadMan != "" {
		watchdog["webhook_configs"] = []m{{"url": string(o.DeadMan), "send_resolved": false}}
		to = deadManReceiver
	}
	doc := m{
		"route": m{
			"receiver": defaultReceiver,
			"routes":   []m{{"receiver": to, "matchers": []string{`watchdog="true"`}}},
		},
		"receivers": []m{all, watchdog, {"name": nobody}},
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("BUG: notification settings cannot be encoded: %v", err))
	}
	conf, err := config.Load(string(text))
	if err != nil {
		return nil, fmt.Errorf("cannot use the notification settings: %w", err)
	}
	return conf, nil
}

func (e Email) config() (map[string]any, error) {
	if e.From == "" || e.Smarthost == "" {
		return nil, errors.New("cannot send e-mail: sender (from) and server (smarthost) have to be set")
	}
	mail := map[string]any{"to": strings.Join(e.To, ", "), "from": e.From, "smarthost": e.Smarthost, "send_resolved": true}
	if e.Hello != "" {
		mail["hello"] = e.Hello
	}
	if e.User != "" {
		mail["auth_username"] = e.User
		if e.Password != "" {
			mail["auth_password"] = string(e.Password)
		} else {
			mail["auth_password_file"] = absolute(e.PasswordFile)
		}
	}
	switch e.TLS {
	case "":
	case "starttls":
		mail["require_tls"], mail["force_implicit_tls"] = true, false
	case "tls":
		mail["force_implicit_tls"] = true
	case "none":
		mail["require_tls"], mail["force_implicit_tls"] = false, false
	default:
		return nil, fmt.Errorf("cannot send e-mail: TLS mode %q is none of starttls, tls, none", e.TLS)
	}
	if e.CAFile != "" {
		mail["tls_config"] = map[string]any{"ca_file": absolute(e.CAFile)}
	}
	return mail, nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// outletsOf makes the outlets of one receiver: our own senders for webhook,
// e-mail and SMS, Alertmanager's for everything else.
func (e *Engine) outletsOf(r config.Receiver, texts []SMS) ([]*outlet, error) {
	var all []*outlet
	for i, c := range r.WebhookConfigs {
		sender, err := newWebhook(c, e.tmpl, e.log)
		if err != nil {
			return nil, err
		}
		all = append(all, &outlet{kind: "webhook", index: i, sender: sender, resolved: c.SendResolved()})
	}
	for i, c := range r.EmailConfigs {
		all = append(all, &outlet{kind: "email", index: i, sender: newMail(c, e.tmpl, e.log), resolved: c.SendResolved()})
	}
	n := 0
	for _, s := range texts {
		for _, recipient := range s.Recipients {
			sender, err := newText(s, recipient, e.tmpl, e.log)
			if err != nil {
				return nil, err
			}
			all = append(all, &outlet{kind: "sms", index: n, sender: sender, resolved: s.tellsEnd(), least: s.MinSeverity, pace: newPace(s.rate)})
			n++
		}
	}
	others := r
	others.WebhookConfigs, others.EmailConfigs = nil, nil
	integrations, err := receiver.BuildReceiverIntegrations(others, e.tmpl, e.log)
	if err != nil {
		return nil, err
	}
	for i := range integrations {
		in := &integrations[i]
		all = append(all, &outlet{kind: in.Name(), index: in.Index(), sender: in, resolved: in.SendResolved()})
	}
	for _, o := range all {
		o.engine, o.receiver, o.log = e, r.Name, e.log
		name := fmt.Sprintf("%s/%s[%d]", r.Name, o.kind, o.index)
		h := sha256.Sum256([]byte(name))
		path := filepath.Join(e.opts.Dir, "queue-"+hex.EncodeToString(h[:8]))
		if o.queue, err = openQueue(path, name, e.opts.QueueLimit, e.log); err != nil {
			return nil, err
		}
	}
	return all, nil
}

var _ amnotify.Notifier = (*amnotify.Integration)(nil)

func intervals(conf *config.Config) map[string][]timeinterval.TimeInterval {
	all := map[string][]timeinterval.TimeInterval{}
	for _, i := range conf.MuteTimeIntervals {
		all[i.Name] = i.TimeIntervals
	}
	for _, i := range conf.TimeIntervals {
		all[i.Name] = i.TimeIntervals
	}
	return all
}

// parseTemplates reads Alertmanager's templates, ours, and the user's, each able
// to replace what came before.
func parseTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in message templates: %w", err)
	}
	if err := t.Parse(strings.NewReader(messageTemplates)); err != nil {
		panic(fmt.Sprintf("BUG: message templates: %v", err))
	}
	for _, glob := range globs {
		if err := t.FromGlob(glob); err != nil {
			return nil, fmt.Errorf("cannot read message templates %q: %w", glob, err)
		}
	}
	return t, nil
}
