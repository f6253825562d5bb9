package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// routes tell everybody of everything.
// Arguments: hook, mail server, CA file, hanging, refusing.
const routes = `route:
  receiver: hook
  routes:
    - {receiver: hanging, continue: true}
    - {receiver: refusing, continue: true}
    - {receiver: hook, continue: true}
    - {receiver: mail, continue: true}
    - {receiver: phone, continue: true}
receivers:
  - {name: hook, webhook_configs: [{url: %q}]}
  - name: mail
    email_configs:
      - {to: ops@example.org, from: belfry@example.org, smarthost: %q, auth_username: belfry, auth_password: s3cret, send_resolved: true, tls_config: {ca_file: %q}}
  - {name: phone}
  - {name: hanging, webhook_configs: [{url: %q}]}
  - {name: refusing, webhook_configs: [{url: %q}]}
`

// limitOfDelay is how long the way from a cause to the readers may take: some periods of 1 s on a busy
// machine, but far less than the time-out of the receiver that hangs.
const limitOfDelay = 15 * time.Second

// TestAlarmRoad follows two alarms from their causes to webhook, mailbox and telephone and back, beside a
// receiver that hangs and one that refuses.
func TestAlarmRoad(t *testing.T) {
	t.Parallel()
	c := newCredentials(t)
	hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	mail, mailAddr := listen(t, "mailbox", "", c.mailbox(), readMail)
	sms, smsURL := listen(t, "SMS", "", sink.NewSMS(), readSMS)
	_, hangURL := listen(t, "hanging", "", sink.NewWebhook(func(int) int { return sink.Hang }), readHook)
	_, refuseURL := listen(t, "refusing", "", sink.NewWebhook(func(int) int { return http.StatusInternalServerError }), readHook)
	deadMan, switchURL := listen(t, "switch", "", sink.NewWebhook(nil), readHook)
	rules := write(t, "rules.yaml", quiet+backlogRule+"  - {name: watchdog, repeat: 1s}\n")
	const capacity = 40 << 20
	n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{
		"alarm.rules": rules, "notify.sms.config": gateways(t, smsURL, "phone"),
		"notify.config":       write(t, "routes.yaml", fmt.Sprintf(routes, hookURL, mailAddr, c.ca, hangURL, refuseURL)),
		"notify.watchdog.url": switchURL,
		"storage_capacity":    fmt.Sprint(capacity), "storage.reserve.bytes": "1048576",
	})})
	readers := []*ear{hook, mail, sms}
	u := newUser(t, n.Kafka)
	u.topic("orders", 2)

	begin := time.Now()
	u.produce("orders", 0, 90, 100)
	u.produce("orders", 1, 61, 100)
	u.commit("billing", "orders", 0, 0)
	u.commit("billing", "orders", 1, 0)
	awaitAll(t, readers, "backlog", "billing", false)
	timely(t, begin, readers, "backlog", false)
	// On a storage of 40 MB 86 % are some 33 MB more than what is there already.
	used := 0.0
	awaitValue(t, n, func(v float64) bool { used = v; return v > 0 }, "broker_disk_usage")
	begin = time.Now()
	u.produce("orders", 0, int((86-used)/100*capacity)>>16, 1<<16)
	awaitAll(t, readers, "broker_disk_usage", "", false)
	timely(t, begin, readers, "broker_disk_usage", false)

	begin = time.Now()
	u.commit("billing", "orders", 0, 90)
	u.commit("billing", "orders", 0, 90+(int64((86-used)/100*capacity)>>16))
	u.capacity(2 * capacity) // what the advice says
	awaitAll(t, readers, "backlog", "billing", true)
	awaitAll(t, readers, "broker_disk_usage", "", true)
	timely(t, begin, readers, "broker_disk_usage", true)

	readableHook(t, hook)
	readableMail(t, mail)
	readableSMS(t, sms)
	failuresAreVisible(t, n)
	eventually(t, "the dead man's switch hears again and again", func() bool { return len(deadMan.of("watchdog", "", false)) > 3 })
	n.Stop()
	once := map[string]int{
		"backlog, group billing, topic orders, alarm": 1, "backlog, group billing, topic orders, over": 1,
		"broker_disk_usage, broker 0, alarm": 1, "broker_disk_usage, broker 0, over": 1,
	}
	for _, r := range readers {
		if got := r.tally("backlog", "broker_disk_usage"); !maps.Equal(got, once) {
			t.Errorf("%s heard %v, want each once", r.name, got)
		}
	}
}

func awaitAll(t *testing.T, readers []*ear, rule, object string, over bool) {
	t.Helper()
	for _, r := range readers {
		eventually(t, fmt.Sprintf("%s hears of %s %s, over %v", r.name, rule, object, over), func() bool {
			return len(r.of(rule, object, over)) > 0
		})
	}
}

// timely fails the test when a reader heard late: the receiver that hangs must not be in the way.
func timely(t *testing.T, begin time.Time, readers []*ear, rule string, over bool) {
	t.Helper()
	for _, r := range readers {
		if took := r.of(rule, "", over)[0].At.Sub(begin); took > limitOfDelay {
			t.Errorf("%s heard of %s after %v", r.name, rule, took)
		} else {
			t.Logf("%s heard of %s (over: %v) after %v", r.name, rule, over, took.Round(time.Millisecond))
		}
	}
}

func readableHook(t *testing.T, hook *ear) {
	t.Helper()
	m := hook.of("backlog", "billing", false)[0]
	t.Logf("webhook:\n%s", m.Text)
	var body hookBody
	if err := json.Unmarshal([]byte(m.Text), &body); err != nil {
		t.Fatal(err)
	}
	a := body.Alerts[0]
	for name, want := range map[string]string{
		"value": "151", "threshold": "100", "object": "group billing, topic orders", "advice": "Add a consumer to the group.",
		"summary": "Orders pile up", "metric": "topic_messages_remained", "since": a.StartsAt.UTC().Format(time.RFC3339),
	} {
		if a.Annotations[name] != want {
			t.Errorf("webhook: annotation %s is %q, want %q", name, a.Annotations[name], want)
		}
	}
	for name, want := range map[string]string{"alertname": "backlog", "severity": "major", "kafka_groups": "billing", "kafka_topics": "orders"} {
		if a.Labels[name] != want {
			t.Errorf("webhook: label %s is %q, want %q", name, a.Labels[name], want)
		}
	}
	if a.Labels["kafka_instance_id"] == "" || time.Since(a.StartsAt) > 2*patience || m.key == "" || strings.Join(m.Header["Idempotency-Key"], "") != m.key {
		t.Errorf("webhook: labels %v, since %v, key %q, header %q", a.Labels, a.StartsAt, m.key, m.Header["Idempotency-Key"])
	}
}

func readableMail(t *testing.T, mail *ear) {
	t.Helper()
	m, over := mail.of("broker_disk_usage", "", false)[0], mail.of("broker_disk_usage", "", true)[0]
	t.Logf("mail:\nSubject: %s\n\n%s", m.Subject, m.Text)
	t.Logf("mail:\nSubject: %s\n\n%s", over.Subject, over.Text)
	if !m.Secure || m.User != "belfry" || m.From != "belfry@example.org" || m.To[0] != "ops@example.org" {
		t.Errorf("mail from %s to %s, secure %v, user %q", m.From, m.To, m.Secure, m.User)
	}
	if !strings.HasPrefix(m.Subject, "[CRITICAL] broker_disk_usage: broker 0, value 8") || !strings.HasSuffix(m.Subject, " %") {
		t.Errorf("mail: subject %q", m.Subject)
	}
	says(t, "mail", m.Text, "object     broker 0", "value      8", "threshold  80 %", "since      "+time.Now().UTC().Format("2006-"), "advice     Extend the storage.")
	says(t, "mail", over.Subject, "[OK] broker_disk_usage: broker 0, value 4")
	says(t, "mail", over.Text, "ended      "+time.Now().UTC().Format("2006-"), "threshold  80 %")
}

func readableSMS(t *testing.T, sms *ear) {
	t.Helper()
	m, over := sms.of("broker_disk_usage", "", false)[0], sms.of("broker_disk_usage", "", true)[0]
	t.Logf("SMS: %s", m.Text)
	t.Logf("SMS: %s", over.Text)
	says(t, "SMS", m.Text, "[CRITICAL] broker_disk_usage: broker 0, value 8", " %, threshold 80", ", since ", "Extend the storage.")
	says(t, "SMS", over.Text, "[OK] broker_disk_usage: broker 0, value 4", ", over ")
	if len(m.Text) > 160 {
		t.Errorf("SMS has %d characters, more than one message holds", len(m.Text))
	}
}

func says(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: no %q in %q", what, p, text)
		}
	}
}

// failuresAreVisible looks at what a Prometheus would see of the receivers.
func failuresAreVisible(t *testing.T, n *nodetest.Node) {
	t.Helper()
	awaitValue(t, n, atLeast(1), "belfry_notifications_failed_total", "receiver", "refusing/webhook")
	awaitValue(t, n, atLeast(2), "belfry_notifications_waiting", "receiver", "refusing/webhook")
	awaitValue(t, n, atLeast(2), "belfry_notifications_waiting", "receiver", "hanging/webhook")
	for _, receiver := range []string{"hook/webhook", "mail/email", "phone/sms"} {
		awaitValue(t, n, atLeast(4), "belfry_notifications_total", "receiver", receiver)
		awaitValue(t, n, equals(0), "belfry_notifications_failed_total", "receiver", receiver)
	}
}

// TestRulesWhileRunning changes the rule file under a running node: a bad one is refused as a whole, the old
// rules stay in force, and a good one takes over.
func TestRulesWhileRunning(t *testing.T) {
	t.Parallel()
	hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	rules := write(t, "rules.yaml", quiet+backlogRule)
	n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{"alarm.rules": rules, "notify.webhook.url": hookURL})})
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := newUser(t, n.Kafka)
	u.topic("orders", 1)
	awaitValue(t, n, equals(0), "belfry_rule_reload_failures_total")
	change(quiet + strings.Replace(backlogRule, "> 100", "> 50 apples", 1))
	awaitValue(t, n, atLeast(1), "belfry_rule_reload_failures_total")
	says(t, "log", n.Log(), rules, "apples")

	u.produce("orders", 0, 80, 10) // the refused rule would fire now
	u.commit("billing", "orders", 0, 0)
	awaitValue(t, n, equals(80), "topic_messages_remained")
	u.produce("orders", 0, 80, 10)
	awaitAll(t, []*ear{hook}, "backlog", "billing", false)
	if got := value(t, hook.of("backlog", "billing", false)[0]); got != "160" {
		t.Errorf("the alarm came with value %s, so not by the old rule", got)
	}

	change(quiet + strings.Replace(backlogRule, "> 100", "> 500", 1))
	awaitAll(t, []*ear{hook}, "backlog", "billing", true)
	t.Log("the new rule has ended the alarm")
	u.produce("orders", 0, 400, 10)
	eventually(t, "the new rule fires", func() bool { return len(hook.of("backlog", "billing", false)) == 2 })
	if got := value(t, hook.of("backlog", "billing", false)[1]); got != "560" {
		t.Errorf("the second alarm came with value %s", got)
	}
}

// value gives the value in a webhook's first alarm.
func value(t *testing.T, n notice) string {
	t.Helper()
	var body hookBody
	if err := json.Unmarshal([]byte(n.Text), &body); err != nil {
		t.Fatal(err)
	}
	return body.Alerts[0].Annotations["value"]
}
