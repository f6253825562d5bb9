package watch

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// refuses starts a program that must not run with its settings, and gives what it said.
func refuses(t *testing.T, o nodetest.Options) string {
	t.Helper()
	n := nodetest.New(t, o)
	n.Launch()
	select {
	case <-n.Gone():
	case <-time.After(patience):
		t.Fatal("it runs with wrong settings")
	}
	if n.ExitError() == nil {
		t.Error("exit code 0")
	}
	return n.Log()
}

// TestWrongSettings looks at what a person is told: the file or setting, the value, the remedy.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	routes := func(text string) string { return write(t, "routes.yaml", text) }
	const nobody = "receivers: [{name: ops}]\n"
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	pem := write(t, "ca.pem", "no certificate")
	for name, c := range map[string]struct {
		agent    bool
		settings map[string]string
		says     []string
	}{
		"routes that do not parse": {settings: map[string]string{"notify.config": routes("route: {receiver: ops\n")}, says: []string{"routes.yaml", "line"}},
		"an unknown word in the routes": {settings: map[string]string{"notify.config": routes("route: {receiver: ops, gruop_by: [x]}\n" + nobody)},
			says: []string{"routes.yaml", "gruop_by"}},
		"a route to nobody":                     {settings: map[string]string{"notify.config": routes("route: {receiver: opps}\n" + nobody)}, says: []string{"routes.yaml", "opps"}},
		"no routes at all":                      {settings: map[string]string{"notify.config": missing}, says: []string{missing}},
		"routes beside simple settings":         {settings: map[string]string{"notify.config": routes("route: {receiver: ops}\n" + nobody), "notify.webhook.url": "http://127.0.0.1:1/x"}, says: []string{"routes.yaml", "webhook"}},
		"routes beside the dead man's switch":   {settings: map[string]string{"notify.config": routes("route: {receiver: ops, routes: [{receiver: ops, matchers: [watchdog=true]}]}\n" + nobody), "notify.watchdog.url": "http://127.0.0.1:1/x"}, says: []string{"routes.yaml", "watchdog"}},
		"an SMS gateway nobody is routed to":    {settings: map[string]string{"notify.sms.config": gateways(t, "http://127.0.0.1:1/x", "nightshift")}, says: []string{"nightshift"}},
		"a mail setting without a server":       {settings: map[string]string{"notify.email.to": "ops@example.org"}, says: []string{"notify.email.smarthost"}},
		"an agent with a node's settings":       {agent: true, settings: map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0"}, says: []string{"listeners"}},
		"an agent without brokers":              {agent: true, settings: map[string]string{"agent.bootstrap.servers": ","}, says: []string{"agent.bootstrap.servers", "HOST:PORT"}},
		"a user without a mechanism":            {agent: true, settings: map[string]string{"agent.sasl.username": "u"}, says: []string{"agent.sasl.mechanism", "SCRAM-SHA-256"}},
		"a mechanism without a password":        {agent: true, settings: map[string]string{"agent.sasl.mechanism": "PLAIN", "agent.sasl.username": "u"}, says: []string{"agent.sasl.password"}},
		"an authority that is none":             {agent: true, settings: map[string]string{"agent.tls.enable": "true", "agent.tls.ca": pem}, says: []string{"agent.tls.ca", pem, "PEM"}},
		"an authority without TLS":              {agent: true, settings: map[string]string{"agent.tls.ca": pem}, says: []string{"agent.tls.enable"}},
		"directories without a broker":          {agent: true, settings: map[string]string{"agent.host.dirs": "/"}, says: []string{"agent.host.broker"}},
		"a directory that is not there":         {agent: true, settings: map[string]string{"agent.host.broker": "1", "agent.host.dirs": missing}, says: []string{"agent.host.dirs", missing}},
		"a metrics port that is somebody's own": {agent: true, settings: map[string]string{"agent.listen": "192.0.2.1:9308"}, says: []string{"192.0.2.1:9308", "agent.listen"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := refuses(t, nodetest.Options{Agent: c.agent, Settings: c.settings})
			t.Log(said)
			says(t, "message", said, c.says...)
			if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
				t.Error("it fell over")
			}
		})
	}
}

// TestWrongRules starts nodes with rule files that are wrong: the node works, with the rules that come with the
// program, and says what is wrong in its log and its metrics.
func TestWrongRules(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for name, c := range map[string]struct {
		file string
		says []string
	}{
		"an unknown receiver": {write(t, "rules.yaml", "rules:\n"+backlogRule+"    receivers: [nightshift]\n"), []string{"rules.yaml:2", "backlog", "nightshift"}},
		"an unknown metric": {
			write(t, "rules.yaml", "rules:\n"+strings.Replace(backlogRule, "messages_remained", "messages_remaind", 1)),
			[]string{"rules.yaml:2", "topic_messages_remaind"},
		},
		"no file": {missing, []string{missing}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
			n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{
				"alarm.rules": c.file, "notify.webhook.url": hookURL, "alarm.topic.backlog.limit": "100",
			})})
			says(t, "log", n.Log(), c.says...)
			awaitValue(t, n, atLeast(1), "belfry_rule_reload_failures_total")
			u := newUser(t, n.Kafka)
			u.topic("orders", 1)
			u.produce("orders", 0, 95, 10)
			u.commit("billing", "orders", 0, 0)
			awaitAll(t, []*ear{hook}, "topic_messages_remained", "billing", false)
		})
	}
}

// TestWrongPassword runs a node whose mail server takes no mail from it: everything else works, and it says why
// there is no mail, without the password.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	c := newCredentials(t)
	hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	mail, mailAddr := listen(t, "mailbox", "", c.mailbox(), readMail)
	n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{
		"alarm.rules": write(t, "rules.yaml", quiet+backlogRule), "notify.webhook.url": hookURL,
		"notify.email.to": "ops@example.org", "notify.email.smarthost": mailAddr, "notify.email.ca": c.ca,
		"notify.email.username": "belfry", "notify.email.password": "wr0ng-one",
	})})
	u := newUser(t, n.Kafka)
	u.topic("orders", 1)
	u.produce("orders", 0, 150, 10)
	u.commit("billing", "orders", 0, 0)
	awaitAll(t, []*ear{hook}, "backlog", "billing", false)
	awaitValue(t, n, atLeast(1), "belfry_notifications_failed_total", "receiver", "default/email")
	awaitValue(t, n, equals(0), "belfry_notifications_failed_total", "receiver", "default/webhook")
	says(t, "log", n.Log(), mailAddr, "535")
	if strings.Contains(n.Log(), "wr0ng-one") {
		t.Error("the log shows the password")
	}
	if _, page := n.HTTP("/metrics"); strings.Contains(page, "wr0ng-one") {
		t.Error("/metrics shows the password")
	}
	if code, why := n.HTTP("/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, why)
	}
	if got := mail.tally("backlog"); len(got) > 0 {
		t.Errorf("the mailbox took %v", got)
	}
}
