package notify

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/rules"
)

func TestPartsOfATextMessage(t *testing.T) {
	for _, c := range []struct {
		text  string
		parts int
		ucs   bool
	}{
		{"", 1, false},
		{strings.Repeat("a", 160), 1, false},
		{strings.Repeat("a", 161), 2, false},
		{strings.Repeat("a", 306), 2, false},
		{strings.Repeat("a", 307), 3, false},
		{strings.Repeat("€", 80), 1, false},          // two places each
		{strings.Repeat("€", 80) + "a", 2, false},    // 161 places
		{strings.Repeat("ä", 160), 1, false},         // in the alphabet
		{strings.Repeat("я", 70), 1, true},           // not in it
		{strings.Repeat("я", 71), 2, true},           //
		{strings.Repeat("a", 100) + "я", 2, true},    // one letter decides for all
		{strings.Repeat("😀", 35), 1, true},           // two units each
		{strings.Repeat("😀", 36), 2, true},           //
		{"磁盘使用率超过百分之八十", 1, true},                    //
		{strings.Repeat("я", 67*3), 3, true},         //
		{strings.Repeat("я", 67*3) + "я", 4, true},   //
		{strings.Repeat("a", 153*3) + "{", 4, false}, // the brace takes two
	} {
		_, ucs := places(c.text)
		if got := parts(c.text); got != c.parts || ucs != c.ucs {
			t.Errorf("%.20q… of %d letters: %d parts, 16-bit %v; want %d, %v", c.text, len([]rune(c.text)), got, ucs, c.parts, c.ucs)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		text, want string
		most       int
	}{
		{"a\n  b – c…", "a b - c...", 1},
		{strings.Repeat("a", 200), strings.Repeat("a", 157) + "...", 1},
		{strings.Repeat("я", 200), strings.Repeat("я", 67) + "...", 1},
		{strings.Repeat("я", 140), strings.Repeat("я", 131) + "...", 2},
	} {
		got := fit(c.text, c.most)
		if got != c.want || parts(got) > c.most {
			t.Errorf("%.10q to %d parts: %q (%d parts), want %q", c.text, c.most, got, parts(got), c.want)
		}
	}
}

func FuzzFit(f *testing.F) {
	f.Add("disk \x00 {я} 😀", 1)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = 1 + (most%mostParts+mostParts)%mostParts
		if got := fit(text, most); parts(got) > most {
			t.Errorf("%q has %d parts, allowed are %d", got, parts(got), most)
		}
	})
}

// textOnce tells one alarm over an SMS block and gives what the gateway took.
func textOnce(t *testing.T, s SMS, sink *httpSink) got {
	t.Helper()
	e, stop := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, SMS: []SMS{s}})
	e.Sync([]alarm.Alarm{diskAlarm(time.Now().Add(-time.Second))}, nil)
	eventually(t, "a text message", func() bool { return len(sink.taken()) == 1 })
	stop()
	return sink.taken()[0]
}

func TestPresets(t *testing.T) {
	for name, c := range map[string]struct {
		sms    SMS
		answer string
		status int
		check  func(t *testing.T, g got, form url.Values)
	}{
		"twilio": {
			sms:    SMS{Vars: map[string]string{"account": "AC1", "from": "+15550100"}, Auth: SMSAuth{User: "AC1", Password: "pw"}},
			status: 201,
			check: func(t *testing.T, g got, form url.Values) {
				if g.query != "/2010-04-01/Accounts/AC1/Messages.json" || form.Get("To") != "+4915550101" || form.Get("From") != "+15550100" || !strings.Contains(form.Get("Body"), "broker 0") {
					t.Errorf("%s %v", g.query, form)
				}
				req := http.Request{Header: g.header}
				if user, pw, ok := req.BasicAuth(); !ok || user != "AC1" || pw != "pw" {
					t.Errorf("log-in %q %q %v", user, pw, ok)
				}
			},
		},
		"vonage": {
			sms:    SMS{Vars: map[string]string{"key": "k", "secret": "s", "from": "Belfry"}},
			status: 200, answer: `{"message-count":"1","messages":[{"to":"4915550101","status":"0"}]}`,
			check: func(t *testing.T, g got, form url.Values) {
				if g.query != "/sms/json" || form.Get("api_key") != "k" || form.Get("type") != "text" || form.Get("client-ref") == "" {
					t.Errorf("%s %v", g.query, form)
				}
			},
		},
		"huawei-smn": {
			sms:    SMS{Vars: map[string]string{"region": "r1", "project": "p1"}, Auth: SMSAuth{User: "AK", Password: "SK"}},
			status: 200, answer: `{"request_id":"r","message_id":"m"}`,
			check: func(t *testing.T, g got, _ url.Values) {
				if g.query != "/v2/p1/notifications/topics/+4915550101/publish" || !strings.HasPrefix(g.body, `{"message":"[CRITICAL] broker_disk_usage: broker 0`) {
					t.Errorf("%s %s", g.query, g.body)
				}
				if auth := g.header.Get("Authorization"); !strings.HasPrefix(auth, "SDK-HMAC-SHA256 Access=AK, SignedHeaders=content-type;host;x-sdk-date, Signature=") {
					t.Errorf("authorization %q", auth)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sink := newHTTPSink(t)
			sink.set(c.status, c.answer, nil)
			s := c.sms
			s.Preset, s.Recipients = name, []string{"+4915550101"}
			// The sink plays the gateway: everything but its address is the preset's.
			original, err := url.Parse(strings.NewReplacer("{{ .Vars.account }}", "AC1", "{{ .Vars.region }}", "r1", "{{ .Vars.project }}", "p1", "{{ .To }}", "+4915550101").Replace(presets()[name].sms.URL))
			if err != nil || original.Scheme != "https" {
				t.Fatalf("url of the preset: %v, %v", original, err)
			}
			s.URL = sink.URL + original.Path
			g := textOnce(t, s, sink)
			form, _ := url.ParseQuery(g.body)
			c.check(t, g, form)
		})
	}
}

func TestSignHuawei(t *testing.T) {
	req, err := http.NewRequest("POST", "https://h.example.org/v2/p/notifications/topics/urn:smn:r:p:t/publish?b=2&a=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	signHuawei(req, []byte(`{}`), "AK", "SK", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	// Computed apart from this code, in Python, after the published steps.
	const want = "SDK-HMAC-SHA256 Access=AK, SignedHeaders=content-type;host;x-sdk-date, Signature=f22ef45a6ba082f47b34d672c39338909b33d6e22774d6036e930f6ca2fc1f0f"
	if got := req.Header.Get("Authorization"); got != want || req.Header.Get("X-Sdk-Date") != "20260301T120000Z" {
		t.Errorf("authorization\n %s, want\n %s", got, want)
	}
}

func TestAGatewaysAnswerDecides(t *testing.T) {
	success := SMSSuccess{Status: "200-201", Body: `"ok"`, JSON: SMSField{Path: "list.0.code", Equals: "0"}}
	if err := success.check(); err != nil {
		t.Fatal(err)
	}
	sink := newHTTPSink(t)
	for _, c := range []struct {
		status      int
		answer      string
		good, again bool
	}{
		{200, `{"say":"ok","list":[{"code":0}]}`, true, false},
		{201, `{"say":"ok","list":[{"code":"0"}]}`, true, false},
		{202, `{"say":"ok","list":[{"code":0}]}`, false, true},
		{200, `{"say":"no","list":[{"code":0}]}`, false, true},
		{200, `{"say":"ok","list":[{"code":7}]}`, false, true},
		{200, `{"say":"ok","list":[]}`, false, true},
		{200, `"ok"`, false, true},
		{400, ``, false, false},
		{401, ``, false, true},
		{429, ``, false, true},
		{500, ``, false, true},
	} {
		sink.set(c.status, c.answer, nil)
		resp, err := http.Get(sink.URL)
		if err != nil {
			t.Fatal(err)
		}
		again, err := success.judge(resp)
		resp.Body.Close()
		if (err == nil) != c.good || again != c.again {
			t.Errorf("%d %s: again %v, %v", c.status, c.answer, again, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestRequestParts(t *testing.T) {
	sink := newHTTPSink(t)
	s := SMS{
		Method: "put", URL: sink.URL + "/{{ urlquery .Vars.a }}/x?fix=1", Headers: map[string]string{"X-Key": "{{ .Key }}"},
		Query: map[string]string{"to": "{{ .To }}"}, Vars: map[string]string{"a": "b c"}, Auth: SMSAuth{Token: "tok"},
		JSON:       map[string]any{"n": 1, "list": []any{map[string]any{"text": "{{ .Text }}"}, true}},
		Recipients: []string{"+1&2"}, Template: `"{{ len .Alerts }}" alarms & more`,
	}
	g := textOnce(t, s, sink)
	if g.query != "/b%20c/x?fix=1&to=%2B1%262" && g.query != "/b+c/x?fix=1&to=%2B1%262" {
		t.Errorf("address %s", g.query)
	}
	if g.body != `{"list":[{"text":"\"1\" alarms \u0026 more"},true],"n":1}` {
		t.Errorf("body %s", g.body)
	}
	if len(g.header.Get("X-Key")) != 32 || g.header.Get("Authorization") != "Bearer tok" || g.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", g.header)
	}
}

func TestEachRecipientHasAQueueSeverityAndPace(t *testing.T) {
	sink := newHTTPSink(t)
	no := false
	s := SMS{URL: sink.URL, Form: map[string]string{"to": "{{ .To }}", "text": "{{ .Text }}"}, Recipients: []string{"1", "2"}, MinSeverity: rules.Major, Resolved: &no, Rate: "2/1h"}
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, SMS: []SMS{s}})
	var firing []alarm.Alarm
	for i, severity := range []rules.Severity{rules.Critical, rules.Major, rules.Minor, rules.Info, rules.Critical} {
		a := diskAlarm(time.Now().Add(-time.Second))
		a.Rule, a.Severity = fmt.Sprintf("rule%d", i), severity
		firing = append(firing, a)
	}
	e.Sync(firing, nil)
	eventually(t, "two for each, one waiting", func() bool {
		s := e.Status()
		return len(sink.taken()) == 4 && s[0].Waiting == 1 && s[1].Waiting == 1
	})
	to := map[string]int{}
	for _, g := range sink.taken() {
		form, _ := url.ParseQuery(g.body)
		to[form.Get("to")]++
		if strings.Contains(form.Get("text"), "MINOR") || strings.Contains(form.Get("text"), "INFO") {
			t.Errorf("below the least severity: %s", form.Get("text"))
		}
	}
	if to["1"] != 2 || to["2"] != 2 {
		t.Errorf("messages: %v", to)
	}
	var ended []alarm.Alarm
	for _, a := range firing {
		ended = append(ended, over(a, time.Now(), 1))
	}
	e.Sync(nil, ended)
	settled()
	if n := len(sink.taken()); n != 4 {
		t.Errorf("%d messages, want 4: ends are not told", n)
	}
}

func TestPace(t *testing.T) {
	p := newPace(rate{n: 2, per: time.Hour})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after, wait time.Duration
	}{{0, 0}, {0, 0}, {0, 30 * time.Minute}, {10 * time.Minute, 20 * time.Minute}, {20 * time.Minute, 0}} {
		now = now.Add(c.after)
		if got := p.wait(now).Round(time.Second); got != c.wait {
			t.Errorf("at %v: wait %v, want %v", now, got, c.wait)
		}
		if c.wait == 0 {
			p.take(now)
		}
	}
	if (*pace)(nil).wait(now) != 0 {
		t.Error("no limit waits")
	}
}

func TestSMSFileRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"sms: [{url: http://x, recipients: [1], colour: red}]":                        "colour",
		"sms: [{recipients: [1]}]":                                                    "needs a url or a preset",
		"sms: [{url: http://x}]":                                                      "has no recipients",
		"sms: [{preset: pigeon, recipients: [1]}]":                                    `preset "pigeon" is none of huawei-smn, twilio, vonage`,
		"sms: [{preset: twilio, vars: {account: a}, recipients: [1]}]":                "needs vars: account, from",
		"sms: [{preset: huawei-smn, vars: {region: r, project: p}, recipients: [1]}]": "auth huawei needs user",
		"sms: [{url: http://x, recipients: [1], rate: fast}]":                         `rate "fast"`,
		"sms: [{url: http://x, recipients: [1], max_parts: 11}]":                      "max_parts 11 is not from 1 to 10",
		"sms: [{url: http://x, recipients: [1], min_severity: bad}]":                  `min_severity "bad"`,
		"sms: [{url: http://x, recipients: [1], timeout: 1m}]":                        "timeout 1m0s",
		"sms: [{url: http://x, recipients: [1], success: {status: fine}}]":            `success status "fine"`,
		"sms: [{url: http://x, recipients: [1], success: {body: '('}}]":               "no regular expression",
		"sms: [{url: http://x, recipients: [1], form: {a: '{{ .Vars.x }}'}}]":         "cannot be filled in",
		"sms: [{url: http://x, recipients: [1], form: {a: b}, json: {a: b}}]":         "either form or json",
		"sms: [{url: 'ftp://x', recipients: [1]}]":                                    "no http or https address",
		"sms: [{url: http://x, recipients: [1], method: SEND}]":                       `method "SEND"`,
		"sms: [{url: http://x, recipients: [1], auth: {type: magic}}]":                `auth type "magic"`,
		"sms: [{url: http://x, recipients: [1], receiver: somebody}]":                 `SMS receiver "somebody" is not among the receivers`,
	} {
		file := filepath.Join(t.TempDir(), "sms.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: t.TempDir(), SMSFile: file}, quiet)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n: %v, want %q", text, err, want)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	s := Secret("tower")
	if said := fmt.Sprint(s, s.LogValue()); strings.Contains(said, "tower") {
		t.Errorf("a secret says %s", said)
	}
	sink := newHTTPSink(t)
	sink.Close() // nobody answers: the error must not tell the address, which is a secret
	hook := Webhook{URL: Secret(sink.URL + "/token-abc")}
	e, _ := start(t, Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: hook})
	e.Sync([]alarm.Alarm{diskAlarm(time.Now().Add(-time.Second))}, nil)
	eventually(t, "a failure", func() bool { return len(e.Status()) > 0 && e.Status()[0].LastError != "" })
	if said := e.Status()[0].LastError; strings.Contains(said, "token-abc") {
		t.Errorf("the error tells the address: %s", said)
	}
}
