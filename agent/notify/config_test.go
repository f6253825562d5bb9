package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/alarm"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestANativeConfigurationFile uses what people bring along: routes by severity,
// templates of their own, a payload, an inhibition, SNS, and our SMS beside it.
func TestANativeConfigurationFile(t *testing.T) {
	all, payload, sms, sns := newHTTPSink(t), newHTTPSink(t), newHTTPSink(t), newHTTPSink(t)
	sns.set(200, `<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`, nil)
	templates := writeFile(t, "own.tmpl", `{{ define "belfry.sms" }}OWN {{ .CommonLabels.alertname }}{{ end }}`)
	conf := writeFile(t, "alertmanager.yml", fmt.Sprintf(`
templates: [%q]
route:
  receiver: all
  group_by: [alertname]
  group_wait: 50ms
  group_interval: 200ms
  routes:
    - matchers: [severity="critical"]
      receiver: phones
      continue: true
    - matchers: [severity=~"critical|major"]
      receiver: all
    - matchers: ['"größe.label"="x"']
      receiver: phones
inhibit_rules:
  - source_matchers: [alertname="guard_active"]
    target_matchers: [alertname="broker_disk_usage"]
    equal: [kafka_broker]
receivers:
  - name: all
    webhook_configs: [{url: %q, max_alerts: 1}]
  - name: phones
    webhook_configs: [{url: %q, payload: {what: '{{ .CommonLabels.alertname }}'}}]
    sns_configs:
      - api_url: %q
        sigv4: {region: eu-west-1, access_key: k, secret_key: s}
        topic_arn: arn:aws:sns:eu-west-1:1:t
        subject: s
        message: '{{ .CommonLabels.alertname }}'
`, templates, all.URL, payload.URL, sns.URL))
	texts := writeFile(t, "sms.yaml", fmt.Sprintf("sms: [{receiver: phones, url: %q, form: {text: '{{ .Text }}'}, recipients: ['1']}]", sms.URL))
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, ConfigFile: conf, SMSFile: texts})

	fired := time.Now().Add(-time.Second)
	guard, disk, minor := diskAlarm(fired), diskAlarm(fired), diskAlarm(fired)
	guard.Rule, minor.Rule, minor.Severity = "guard_active", "minor_thing", "minor"
	e.Sync([]alarm.Alarm{guard, disk, minor}, nil)
	eventually(t, "all of it", func() bool {
		return len(all.taken()) == 2 && len(payload.taken()) == 1 && len(sms.taken()) == 1 && len(sns.taken()) == 1
	})
	settled()
	for _, g := range all.taken() {
		if strings.Contains(g.body, `"alertname":"broker_disk_usage"`) {
			t.Errorf("an inhibited alarm was told: %s", g.body)
		}
	}
	if len(all.taken()) != 2 {
		t.Errorf("%d messages to all, want 2", len(all.taken()))
	}
	if g := payload.taken()[0]; strings.TrimSpace(g.body) != `{"what":"guard_active"}` || g.header.Get("Idempotency-Key") == "" {
		t.Errorf("payload %s, %v", g.body, g.header)
	}
	if g := sms.taken()[0]; g.body != "text=OWN+guard_active" {
		t.Errorf("text %s", g.body)
	}
	if g := sns.taken()[0]; !strings.Contains(g.body, "guard_active") || !strings.Contains(g.body, "Publish") {
		t.Errorf("SNS %s", g.body)
	}
}

func TestConfigurationRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		want    string
	}{
		"unknown key":       {Options{ConfigFile: writeFile(t, "a", "route: {receiver: x, colour: red}\nreceivers: [{name: x}]")}, "colour"},
		"unknown receiver":  {Options{ConfigFile: writeFile(t, "b", "route: {receiver: y}\nreceivers: [{name: x}]")}, `undefined receiver "y"`},
		"no route":          {Options{ConfigFile: writeFile(t, "c", "receivers: [{name: x}]")}, "no route"},
		"no file":           {Options{ConfigFile: "/nowhere/at/all"}, "/nowhere/at/all"},
		"file and settings": {Options{ConfigFile: writeFile(t, "d", "route: {receiver: x}\nreceivers: [{name: x}]"), Webhook: Webhook{URL: "http://x"}}, "beside the settings"},
		"mail without host": {Options{Email: Email{To: []string{"a@b"}, From: "c@d"}}, "smarthost"},
		"mail TLS":          {Options{Email: Email{To: []string{"a@b"}, From: "c@d", Smarthost: "x:25", TLS: "perhaps"}}, `TLS mode "perhaps"`},
		"bad template":      {Options{ConfigFile: writeFile(t, "e", fmt.Sprintf("templates: [%q]\nroute: {receiver: x}\nreceivers: [{name: x}]", writeFile(t, "t.tmpl", "{{ define")))}, "templates"},
		"bad webhook":       {Options{Webhook: Webhook{URL: "not a url"}}, "notification settings"},
	} {
		o := c.options
		o.Dir = t.TempDir()
		if _, err := Open(o, quiet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestNothingConfiguredTellsNobody(t *testing.T) {
	e, stop := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond})
	e.Sync([]alarm.Alarm{diskAlarm(time.Now())}, nil)
	settledBriefly()
	stop()
	if s := e.Status(); len(s) != 0 {
		t.Errorf("queues: %+v", s)
	}
}

func TestMail(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Email)
		fault  string // what the queue reports; empty = the mail arrives
	}{
		"as it should be":     {func(*Email) {}, ""},
		"the default is TLS":  {func(e *Email) { e.TLS = "" }, ""},
		"password from file":  {func(e *Email) { e.Password, e.PasswordFile = "", writeFile(t, "pw", mailPassword+"\n") }, ""},
		"wrong password":      {func(e *Email) { e.Password = "wrong" }, "who are you?"},
		"unknown certificate": {func(e *Email) { e.CAFile = "" }, "certificate"},
		"log-in without TLS":  {func(e *Email) { e.TLS = "none" }, "to log in"},
	} {
		t.Run(name, func(t *testing.T) {
			box := newMailSink(t)
			o := Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Email: Email{To: []string{"Ops <ops@example.org>", "b@example.org"},
				From: "belfry@example.org", Smarthost: box.addr, User: mailUser, Password: mailPassword, TLS: "starttls", CAFile: box.caFile, Hello: "node.example.org"}}
			c.change(&o.Email)
			box.tolerant = c.fault != ""
			e, _ := start(t, o)
			e.Sync([]alarm.Alarm{diskAlarm(time.Now().Add(-time.Second))}, nil)
			if c.fault == "" {
				eventually(t, "a mail", func() bool { return len(box.taken()) == 1 })
				return
			}
			eventually(t, "the fault", func() bool { return strings.Contains(e.Status()[0].LastError, c.fault) })
			if len(box.taken()) != 0 || e.Status()[0].Waiting != 1 {
				t.Errorf("%d mails, status %+v", len(box.taken()), e.Status()[0])
			}
		})
	}
}

func TestAHeaderCannotBeSmuggledIn(t *testing.T) {
	box := newMailSink(t)
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Email: Email{To: []string{"ops@example.org"},
		From: "belfry@example.org", Smarthost: box.addr, User: mailUser, Password: mailPassword, CAFile: box.caFile}})
	a := diskAlarm(time.Now().Add(-time.Second))
	a.Labels[0].Value = "0\r\nBcc: evil@example.org\r\n.\r\nMAIL FROM:<x>"
	a.Summary = "first\r\n.\r\nQUIT\r\n"
	e.Sync([]alarm.Alarm{a}, nil)
	eventually(t, "a mail", func() bool { return len(box.taken()) == 1 })
	head, _, _ := strings.Cut(box.taken()[0], "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(line, "Bcc") || strings.HasPrefix(line, "MAIL") {
			t.Errorf("smuggled header:\n%s", head)
		}
	}
}

// TestTheWatchdogBesideAFile: routes of a file that do not speak of the watchdog do not bring it to people; the
// setting for its URL holds beside them, and its pace stays the rule's.
func TestTheWatchdogBesideAFile(t *testing.T) {
	people, dead := newHTTPSink(t), newHTTPSink(t)
	file := func(routes string) string {
		return writeFile(t, "alertmanager.yml", fmt.Sprintf("route: {receiver: people, group_by: [alertname], group_wait: 10ms, group_interval: 100ms, repeat_interval: 4h%s}\n"+
			"receivers: [{name: people, webhook_configs: [{url: %q}]}]\n", routes, people.URL))
	}
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, ConfigFile: file(""), DeadMan: Secret(dead.URL)})
	w, disk := diskAlarm(time.Now()), diskAlarm(time.Now())
	w.Rule, w.Metric, w.Watchdog, w.Repeat = "watchdog", "", true, time.Second
	e.Sync([]alarm.Alarm{w, disk}, nil)
	eventually(t, "the switch again and again", func() bool { return len(dead.taken()) > 2 && len(people.taken()) > 0 })
	for _, g := range people.taken() {
		if strings.Contains(g.body, "watchdog") {
			t.Errorf("people were told of the watchdog: %s", g.body)
		}
	}
	o := Options{ConfigFile: file(`, routes: [{receiver: people, matchers: [watchdog="true"]}]`), DeadMan: Secret(dead.URL)}
	if _, _, err := loadConfig(o); err == nil || !strings.Contains(err.Error(), "take one of both out") {
		t.Errorf("two places for the watchdog: %v", err)
	}
	o.DeadMan = ""
	if conf, _, err := loadConfig(o); err != nil || len(conf.Route.Routes) != 1 {
		t.Errorf("a file that routes the watchdog itself: %v", err)
	}
}
