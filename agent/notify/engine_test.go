package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// start runs an engine; stop ends it as a process that is asked to ends.
func start(t *testing.T, o Options) (e *Engine, stop func()) {
	t.Helper()
	e, err := Open(o, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// crash gives a copy of the state as it is on the disk at this moment: what a
// process that is killed now leaves behind. The one that runs on has to be stopped
// before it can disturb.
func crash(t *testing.T, dir string) string {
	t.Helper()
	for {
		to := t.TempDir()
		err := os.CopyFS(to, os.DirFS(dir))
		if err == nil {
			return to
		}
		// Why again: a file that was renamed between the listing and its turn is in neither place.
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

// settled waits until messages had every chance to come that should not.
func settled() { time.Sleep(600 * time.Millisecond) }

func diskAlarm(fired time.Time) alarm.Alarm {
	return alarm.Alarm{
		Instance: "inst-1", Rule: "broker_disk_usage", Version: "v1", Severity: rules.Critical,
		Summary: "The disk that holds the messages fills up", Advice: "Extend the storage.",
		Metric: "broker_disk_usage", Condition: "broker_disk_usage > 80 %", Threshold: 80, Unit: "%",
		Labels: metric.Labels("kafka_broker", "0"), State: alarm.Firing, Since: fired, Value: 85.5, IsFiring: true, Fired: fired,
		Repeat: 24 * time.Hour, NotifyOn: []rules.Change{rules.OnAlarm, rules.OnOK},
	}
}

func over(a alarm.Alarm, at time.Time, value float64) alarm.Alarm {
	a.State, a.IsFiring, a.Ended, a.Since, a.Value = alarm.OK, false, at, at, value
	return a
}

// allThree gives settings that tell a webhook, a mailbox and a phone.
func allThree(dir string, hook *httpSink, box *mailSink, sms *httpSink) Options {
	return Options{
		Dir: dir, Period: 100 * time.Millisecond,
		Webhook: Webhook{URL: Secret(hook.URL), Token: "t0ken"},
		Email: Email{To: []string{"ops@example.org"}, From: "Belfry <belfry@example.org>", Smarthost: box.addr,
			User: mailUser, Password: mailPassword, TLS: "starttls", CAFile: box.caFile},
		SMS: []SMS{{URL: sms.URL + "/send", Form: map[string]string{"to": "{{ .To }}", "text": "{{ .Text }}"}, Recipients: []string{"+4915550101"}}},
	}
}

func TestOnceEachWithEverythingThatMatters(t *testing.T) {
	t.Parallel()
	hook, box, sms := newHTTPSink(t), newMailSink(t), newHTTPSink(t)
	e, stop := start(t, allThree(t.TempDir(), hook, box, sms))
	fired := time.Now().Add(-time.Second).UTC().Truncate(time.Second)
	a := diskAlarm(fired)
	for range 5 { // five periods
		e.Sync([]alarm.Alarm{a}, nil)
		settledBriefly()
	}
	eventually(t, "one message each", func() bool {
		return len(hook.taken()) == 1 && len(box.taken()) == 1 && len(sms.taken()) == 1
	})
	ended := fired.Add(time.Minute)
	if now := time.Now(); ended.After(now) {
		ended = now
	}
	for range 3 {
		e.Sync(nil, []alarm.Alarm{over(a, ended, 12)})
		settledBriefly()
	}
	eventually(t, "the end, once each", func() bool {
		return len(hook.taken()) == 2 && len(box.taken()) == 2 && len(sms.taken()) == 2
	})
	settled()
	stop()
	if h, m, s := len(hook.taken()), len(box.taken()), len(sms.taken()); h != 2 || m != 2 || s != 2 {
		t.Fatalf("webhook %d, mailbox %d, phone %d messages; want 2 each", h, m, s)
	}
	checkHook(t, hook.taken(), fired)
	checkMail(t, box.taken())
	checkSMS(t, sms.taken())
	for _, s := range e.Status() {
		if s.Delivered != 2 || s.Failed != 0 || s.Waiting != 0 {
			t.Errorf("status %+v", s)
		}
	}
}

// settledBriefly lets a group's interval pass.
func settledBriefly() { time.Sleep(120 * time.Millisecond) }

func checkHook(t *testing.T, all []got, fired time.Time) {
	t.Helper()
	var msgs []struct {
		Version, Status, IdempotencyKey string
		Alerts                          []struct {
			Status              string
			Labels, Annotations map[string]string
			StartsAt            time.Time
		}
	}
	keys := map[string]bool{}
	for _, g := range all {
		var m struct {
			Version, Status, IdempotencyKey string
			Alerts                          []struct {
				Status              string
				Labels, Annotations map[string]string
				StartsAt            time.Time
			}
		}
		if err := json.Unmarshal([]byte(g.body), &m); err != nil {
			t.Fatal(err)
		}
		if m.IdempotencyKey == "" || m.IdempotencyKey != g.header.Get("Idempotency-Key") || keys[m.IdempotencyKey] {
			t.Errorf("idempotency key %q, header %q", m.IdempotencyKey, g.header.Get("Idempotency-Key"))
		}
		keys[m.IdempotencyKey] = true
		if g.header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("authorization %q", g.header.Get("Authorization"))
		}
		msgs = append(msgs, m)
	}
	if msgs[0].Status != "firing" || msgs[1].Status != "resolved" || len(msgs[0].Alerts) != 1 {
		t.Fatalf("messages: %+v", msgs)
	}
	a := msgs[0].Alerts[0]
	for name, want := range map[string]string{"value": "85.5", "threshold": "80", "unit": "%", "object": "broker 0", "advice": "Extend the storage.",
		"since": fired.Format(time.RFC3339), "condition": "broker_disk_usage > 80 %"} {
		if a.Annotations[name] != want {
			t.Errorf("annotation %s: %q, want %q", name, a.Annotations[name], want)
		}
	}
	if a.Labels["alertname"] != "broker_disk_usage" || a.Labels["severity"] != "critical" || a.Labels["kafka_broker"] != "0" || a.Labels["kafka_instance_id"] != "inst-1" || !a.StartsAt.Equal(fired) {
		t.Errorf("alert: %+v", a)
	}
	if strings.Contains(all[0].body, `"fired":`) {
		t.Errorf("a receiver sees the engine's own label: %s", all[0].body)
	}
	if v := msgs[1].Alerts[0].Annotations["value"]; v != "12" {
		t.Errorf("value at the end: %q", v)
	}
}

func checkMail(t *testing.T, all []string) {
	t.Helper()
	subjects := []string{"[CRITICAL] broker_disk_usage: broker 0, value 85.5 %", "[OK] broker_disk_usage: broker 0, value 12 %"}
	for i, raw := range all {
		m, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || subject != subjects[i] {
			t.Errorf("subject %q, %v; want %q", subject, err, subjects[i])
		}
		if m.Header.Get("Message-Id") == "" || m.Header.Get("To") != "ops@example.org" || !strings.Contains(m.Header.Get("From"), "belfry@example.org") {
			t.Errorf("headers: %v", m.Header)
		}
		_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(m.Body, params["boundary"])
		for _, kind := range []string{"text/plain", "text/html"} {
			p, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(quotedprintable.NewReader(p))
			if err != nil || !strings.HasPrefix(p.Header.Get("Content-Type"), kind) {
				t.Errorf("part %v, %v", p.Header, err)
			}
			wants := []string{"Extend the storage.", "80 %", "broker 0", "since", "inst-1"}
			if i == 1 {
				wants = append(wants, "ended")
			}
			for _, want := range wants {
				if !strings.Contains(string(b), want) {
					t.Errorf("%s of mail %d lacks %q:\n%s", kind, i, want, b)
				}
			}
		}
	}
}

func checkSMS(t *testing.T, all []got) {
	t.Helper()
	for i, wants := range [][]string{
		{"[CRITICAL] broker_disk_usage: broker 0, value 85.5 %, threshold 80 %, since ", "Extend the storage."},
		{"[OK] broker_disk_usage: broker 0, value 12 %, over "},
	} {
		form, err := url.ParseQuery(all[i].body)
		if err != nil || form.Get("to") != "+4915550101" {
			t.Errorf("form %v, %v", form, err)
		}
		for _, want := range wants {
			if !strings.Contains(form.Get("text"), want) {
				t.Errorf("text %q lacks %q", form.Get("text"), want)
			}
		}
	}
}

func TestAHangingReceiverDelaysNoOther(t *testing.T) {
	t.Parallel()
	hook, box, sms := newHTTPSink(t), newMailSink(t), newHTTPSink(t)
	hang := make(chan struct{})
	hook.set(200, "", hang)
	box.silent = true
	e, _ := start(t, allThree(t.TempDir(), hook, box, sms))
	var firing []alarm.Alarm
	for i := range 10 {
		a := diskAlarm(time.Now().Add(-time.Second))
		a.Labels = metric.Labels("kafka_broker", fmt.Sprint(i))
		firing = append(firing, a)
		e.Sync(firing, nil)
	}
	// Far sooner than an attempt at the others is given up.
	eventually(t, "ten text messages", func() bool { return len(sms.taken()) == 10 })
	if len(hook.taken()) != 0 {
		t.Errorf("the webhook that hangs took %d", len(hook.taken()))
	}
	hook.set(200, "", nil)
	close(hang)
	eventually(t, "what waited", func() bool { return len(hook.taken()) == 10 })
}

func TestARestartRepeatsAndLosesNothing(t *testing.T) {
	t.Parallel()
	hook, box, sms := newHTTPSink(t), newMailSink(t), newHTTPSink(t)
	dir := t.TempDir()
	o := allThree(dir, hook, box, sms)
	fired := time.Now().Add(-time.Second)
	a, b := diskAlarm(fired), diskAlarm(fired)
	b.Rule, b.Metric = "broker_memory_usage", "broker_memory_usage"
	counts := func() string { return fmt.Sprint(len(hook.taken()), len(box.taken()), len(sms.taken())) }

	// A first life that tells two of the three and is killed.
	hook.set(503, "", nil)
	e, stop := start(t, o)
	e.Sync([]alarm.Alarm{a, b}, nil)
	eventually(t, "mail and text", func() bool { return counts() == "0 2 2" && hook.tried() > 0 })
	eventually(t, "notes of it", func() bool { return delivered(e, "email") == 2 && delivered(e, "sms") == 2 })
	settledBriefly()

	// A second life: the same alarms fire. Only what was owed is delivered.
	o.Dir = crash(t, dir)
	stop()
	hook.set(200, "", nil)
	e2, stop2 := start(t, o)
	e2.Sync([]alarm.Alarm{a, b}, nil)
	eventually(t, "what the webhook was owed", func() bool { return counts() == "2 2 2" })
	settled()
	if got := counts(); got != "2 2 2" {
		t.Fatalf("after the crash: %s, want 2 2 2", got)
	}
	stop2()

	// A third life, after one that was stopped: a ended meanwhile.
	ended := over(a, time.Now(), 10)
	e3, stop3 := start(t, o)
	e3.Sync([]alarm.Alarm{b}, []alarm.Alarm{ended})
	eventually(t, "the end", func() bool { return counts() == "3 3 3" })
	settled()

	eventually(t, "notes of it", func() bool {
		return delivered(e3, "webhook") == 1 && delivered(e3, "email") == 1 && delivered(e3, "sms") == 1
	})

	// A fourth, after a crash right behind it: nothing is repeated.
	o.Dir = crash(t, o.Dir)
	stop3()
	e4, _ := start(t, o)
	for range 3 {
		e4.Sync([]alarm.Alarm{b}, []alarm.Alarm{ended})
		settledBriefly()
	}
	settled()
	settled()
	if got := counts(); got != "3 3 3" {
		t.Errorf("after the last crash: %s, want 3 3 3", got)
	}
}

func delivered(e *Engine, kind string) int {
	n := 0
	for _, s := range e.Status() {
		if s.Receiver == "default/"+kind {
			n += int(s.Delivered)
		}
	}
	return n
}

// TestNothingIsRepeatedWithoutTheNotificationLog takes all of Alertmanager's state
// away: the queues alone keep messages from being repeated or lost.
func TestNothingIsRepeatedWithoutTheNotificationLog(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	o := Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}}
	a := diskAlarm(time.Now().Add(-time.Second))
	e, stop := start(t, o)
	e.Sync([]alarm.Alarm{a}, nil)
	eventually(t, "the alarm", func() bool { return delivered(e, "webhook") == 1 })
	stop()
	for _, name := range []string{"nflog", "silences", "mark"} {
		if err := os.Remove(filepath.Join(o.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// The alarm ended while nobody was there.
	e, stop = start(t, o)
	e.Sync(nil, []alarm.Alarm{over(a, time.Now(), 10)})
	eventually(t, "the end", func() bool { return delivered(e, "webhook") == 1 })
	settled()
	stop()
	if all := hook.taken(); len(all) != 2 || !strings.Contains(all[1].body, `"status":"resolved"`) {
		t.Errorf("%d messages: %v", len(all), all)
	}
}

// TestAnAlarmThatCameAndWentUnseenIsTold: the evaluator saw it, the process was
// killed before anybody was told, and it was over when the next one began.
func TestAnAlarmThatCameAndWentUnseenIsTold(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}})
	e.Sync(nil, []alarm.Alarm{over(diskAlarm(time.Now().Add(-2*time.Minute)), time.Now().Add(-time.Minute), 10)})
	eventually(t, "begin and end", func() bool { return len(hook.taken()) == 2 })
	if all := hook.taken(); !strings.Contains(all[0].body, `"status":"firing"`) || !strings.Contains(all[1].body, `"status":"resolved"`) {
		t.Errorf("messages: %v", all)
	}
}

func TestAnAlarmThatMovedToAnotherNodeIsNotOver(t *testing.T) {
	hook := newHTTPSink(t)
	o := Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}}
	e, stop := start(t, o)
	moves, ends := diskAlarm(time.Now()), diskAlarm(time.Now())
	moves.Rule, ends.Rule = "moves", "ends"
	e.Sync([]alarm.Alarm{moves, ends}, nil)
	eventually(t, "both are told", func() bool { return count(hook, `"moves"`) > 0 && count(hook, `"ends"`) > 0 })
	told := count(hook, `"moves"`)
	moved, ended := over(moves, time.Now(), 95), over(ends, time.Now(), 10)
	moved.Moved = true
	e.Sync(nil, []alarm.Alarm{moved, ended})
	eventually(t, "one is over", func() bool { return count(hook, `"ends"`) > 1 })
	settled()
	stop()
	// A process that never told of it does not begin to.
	o.Dir = t.TempDir()
	e, stop = start(t, o)
	e.Sync(nil, []alarm.Alarm{moved})
	settled()
	stop()
	if n := count(hook, `"moves"`); n != told {
		t.Errorf("an alarm that moved was told %d times, and %d before it did", n, told)
	}
}

func TestAnAlarmThatComesAgainIsToldAgain(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}})
	first := diskAlarm(time.Now().Add(-10 * time.Second))
	e.Sync([]alarm.Alarm{first}, nil)
	eventually(t, "the first", func() bool { return len(hook.taken()) == 1 })
	ended := over(first, time.Now(), 10)
	e.Sync(nil, []alarm.Alarm{ended})
	eventually(t, "its end", func() bool { return len(hook.taken()) == 2 })
	e.Sync([]alarm.Alarm{diskAlarm(time.Now())}, []alarm.Alarm{ended})
	eventually(t, "the second", func() bool { return len(hook.taken()) == 3 })
	settled()
	if n := len(hook.taken()); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

func TestWhatARuleSaysAboutItsNotification(t *testing.T) {
	t.Parallel()
	hook, other := newHTTPSink(t), newHTTPSink(t)
	conf := filepath.Join(t.TempDir(), "alertmanager.yml")
	text := fmt.Sprintf(`
route: {receiver: all}
receivers:
  - name: all
    webhook_configs: [{url: %q}]
  - name: oncall
    webhook_configs: [{url: %q}]
`, hook.URL, other.URL)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, ConfigFile: conf})
	if !e.HasReceiver("oncall") || e.HasReceiver("nobody-else") {
		t.Errorf("receivers: %v", e.Receivers())
	}
	fired := time.Now().Add(-time.Second)
	named, repeating, silent := diskAlarm(fired), diskAlarm(fired), diskAlarm(fired)
	named.Rule, named.Receivers = "named", []string{"oncall"}
	repeating.Rule, repeating.Repeat = "repeating", time.Second
	silent.Rule, silent.NotifyOn = "silent", []rules.Change{rules.OnOK}
	began := time.Now()
	for range 30 {
		e.Sync([]alarm.Alarm{named, repeating, silent}, nil)
		settledBriefly()
	}
	eventually(t, "the repetition", func() bool { return count(hook, `"repeating"`) >= 3 })
	if n, took := count(hook, `"repeating"`), time.Since(began); n > int(took/time.Second)+2 {
		t.Errorf("%d messages in %v with a repeat interval of 1 s", n, took)
	}
	if count(other, `"named"`) != 1 || count(hook, `"named"`) != 0 || len(other.taken()) != 1 {
		t.Errorf("named receiver: %d there, %d at the route's", count(other, `"named"`), count(hook, `"named"`))
	}
	if count(hook, `"silent"`) != 0 {
		t.Error("a rule that notifies on ok alone was told when it fired")
	}
	e.Sync(nil, []alarm.Alarm{over(silent, time.Now(), 1)})
	eventually(t, "the end of the silent one", func() bool { return count(hook, `"silent"`) == 1 })
}

func count(s *httpSink, text string) int {
	n := 0
	for _, g := range s.taken() {
		if strings.Contains(g.body, `"alertname":`+text) && strings.Contains(g.body, `"alerts":[{`) {
			n++
		}
	}
	return n
}

func TestTheWatchdogGoesToItsSwitchOnly(t *testing.T) {
	t.Parallel()
	hook, dead := newHTTPSink(t), newHTTPSink(t)
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}, DeadMan: Secret(dead.URL)})
	w := diskAlarm(time.Now().Add(-time.Second))
	w.Rule, w.Metric, w.Watchdog, w.Repeat, w.NotifyOn = "watchdog", "", true, time.Second, []rules.Change{rules.OnAlarm}
	e.Sync([]alarm.Alarm{w}, nil)
	eventually(t, "three signs of life", func() bool { return len(dead.taken()) == 3 })
	if len(hook.taken()) != 0 {
		t.Errorf("the watchdog was told to the default receiver: %v", hook.taken())
	}
}

func TestDeadLettersAreVisibleAndCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	hook.set(400, "no such thing", nil)
	o := Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}}
	e, stop := start(t, o)
	a := diskAlarm(time.Now().Add(-time.Second))
	e.Sync([]alarm.Alarm{a}, nil)
	eventually(t, "a dead letter", func() bool { return len(e.DeadLetters()) == 1 })
	stop()
	e, _ = start(t, o) // it survives
	e.Sync([]alarm.Alarm{a}, nil)
	letters := e.DeadLetters()
	if len(letters) != 1 || !strings.Contains(letters[0].Error, "no such thing") || letters[0].Alarms[0] != "broker_disk_usage broker 0" {
		t.Fatalf("dead letters: %+v", letters)
	}
	hook.set(200, "", nil)
	if !e.Retry(letters[0].Queue, letters[0].Key) || e.Retry(letters[0].Queue, letters[0].Key) {
		t.Error("Retry took it not once")
	}
	eventually(t, "the letter", func() bool {
		return delivered(e, "webhook") == 1 && len(hook.taken()) == 1 && len(e.DeadLetters()) == 0
	})
	var told float64
	for _, s := range e.Samples("0") {
		if _, ok := metric.Lookup(s.ID); !ok {
			t.Errorf("%s is not in the catalogue", s.ID)
		}
		if s.ID == metric.Notifications && s.Label("receiver") == "default/webhook" {
			told = s.Value
		}
	}
	if told != 1 {
		t.Errorf("%v notifications counted, want 1", told)
	}
}

func TestAStateDirectoryThatTakesNothing(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	dir := t.TempDir()
	e, _ := start(t, Options{Dir: dir, Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}})
	// A file in place of the directory makes every write fail, as a full disk does.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var firing []alarm.Alarm
	for i := range 20 {
		a := diskAlarm(time.Now().Add(-time.Second))
		a.Rule = fmt.Sprintf("rule%d", i)
		firing = append(firing, a)
	}
	e.Sync(firing, nil)
	eventually(t, "the alarms in spite of it", func() bool { return len(hook.taken()) == 20 })
	settled()
	if n := len(hook.taken()); n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
	if e.Status()[0].DiskFails == 0 {
		t.Error("the failing disk is not counted")
	}
}

func TestRunCanBeCalledAgain(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	e, err := Open(Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	a := diskAlarm(time.Now().Add(-time.Second))
	for life := range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		a.Rule = fmt.Sprintf("rule%d", life/2) // the same one twice, then another
		e.Sync([]alarm.Alarm{a}, nil)
		go func() { ended <- e.Run(ctx) }()
		eventually(t, "the alarm", func() bool { return count(hook, `"`+a.Rule+`"`) == 1 })
		families, err := e.Gatherer().Gather()
		if err != nil || len(families) == 0 {
			t.Errorf("%d metric families, %v", len(families), err)
		}
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "alertmanager_notifications_total") {
				t.Errorf("%s counts what only waits in a queue", f.GetName())
			}
		}
		settled()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(hook.taken()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}
