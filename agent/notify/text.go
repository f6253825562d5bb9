package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	texttemplate "text/template"
	"time"

	"github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
)

// texter sends text messages to one recipient.
type texter struct {
	sms    SMS
	to     string
	tmpl   *template.Template
	log    *slog.Logger
	client *http.Client
}

// textData is what an SMS gateway's templates see.
type textData struct {
	To, Text, Key    string
	Vars             map[string]string
	Severity, Status string
	Unicode          bool
}

func newText(s SMS, to string, tmpl *template.Template, log *slog.Logger) (*texter, error) {
	t := &texter{sms: s, to: to, tmpl: tmpl, log: log, client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}
	// Why: a template that is wrong is to be found when it is read, not when the
	// first alarm comes.
	_, err := t.request(context.Background(), textData{To: to, Text: "x", Key: "x", Vars: s.Vars})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Notify sends one text; true = trying again may help.
func (t *texter) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	data := amnotify.GetTemplateData(ctx, t.tmpl, alerts, t.log)
	text, err := t.tmpl.ExecuteTextString(t.sms.Template, data)
	if err != nil {
		return false, fmt.Errorf("cannot render the text message: %w", err)
	}
	text = fit(text, t.sms.MaxParts)
	_, unicode := places(text)
	ctx, cancel := context.WithTimeout(ctx, t.sms.Timeout)
	defer cancel()
	req, err := t.request(ctx, textData{
		To: t.to, Text: text, Key: keyOf(ctx), Vars: t.sms.Vars,
		Severity: data.CommonLabels["severity"], Status: data.Status, Unicode: unicode,
	})
	if err != nil {
		return false, err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return true, amnotify.RedactURL(err)
	}
	defer resp.Body.Close()
	return t.sms.Success.judge(resp)
}

// request makes the gateway's request.
func (t *texter) request(ctx context.Context, d textData) (*http.Request, error) {
	target, err := render(t.sms.URL, d)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("its url is no http or https address")
	}
	query := u.Query()
	for name, text := range t.sms.Query {
		value, err := render(text, d)
		if err != nil {
			return nil, err
		}
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	body, kind, err := t.body(d)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, t.sms.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, amnotify.RedactURL(err)
	}
	req.Header.Set("User-Agent", "belfry")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for name, text := range t.sms.Headers {
		value, err := render(text, d)
		if err != nil {
			return nil, err
		}
		req.Header.Set(name, value)
	}
	return req, t.sms.Auth.apply(req, body)
}

func (t *texter) body(d textData) (body []byte, kind string, err error) {
	switch {
	case t.sms.Form != nil:
		form := url.Values{}
		for name, text := range t.sms.Form {
			value, err := render(text, d)
			if err != nil {
				return nil, "", err
			}
			form.Set(name, value)
		}
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	case t.sms.JSON != nil:
		filled, err := renderAll(t.sms.JSON, d)
		if err != nil {
			return nil, "", err
		}
		body, err := json.Marshal(filled)
		if err != nil {
			return nil, "", fmt.Errorf("its json cannot be encoded: %w", err)
		}
		return body, "application/json", nil
	}
	return nil, "", nil
}

// render fills a template in. A name that is not there is an error: a request
// without its account would fail anyway, and without saying why.
func render(text string, d textData) (string, error) {
	t, err := texttemplate.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("its template %q is wrong: %w", text, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("its template %q cannot be filled in: %w", text, err)
	}
	return b.String(), nil
}

// renderAll fills in every text of a structure.
func renderAll(v any, d textData) (any, error) {
	switch v := v.(type) {
	case string:
		return render(v, d)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			filled, err := renderAll(item, d)
			if err != nil {
				return nil, err
			}
			out[i] = filled
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			filled, err := renderAll(item, d)
			if err != nil {
				return nil, err
			}
			out[name] = filled
		}
		return out, nil
	}
	return v, nil // numbers, booleans, null
}

func (a *SMSAuth) apply(req *http.Request, body []byte) error {
	switch a.Type {
	case "basic":
		password, err := secretOf(string(a.Password), a.PasswordFile)
		if err != nil {
			return err
		}
		req.SetBasicAuth(a.User, password)
	case "bearer":
		token, err := secretOf(string(a.Token), a.TokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	case "huawei":
		secret, err := secretOf(string(a.Password), a.PasswordFile)
		if err != nil {
			return err
		}
		signHuawei(req, body, a.User, secret, time.Now())
	}
	return nil
}

// judge decides whether the gateway took the message. Gateways answer a wrong
// number or a text they do not like in as many ways as there are gateways: what
// is not success is tried again until it is given up for its age, except where
// HTTP itself says that the request is wrong.
func (s *SMSSuccess) judge(resp *http.Response) (again bool, err error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return true, fmt.Errorf("the gateway's answer broke off: %w", err)
	}
	if resp.StatusCode < s.low || resp.StatusCode > s.high {
		wrong := resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnprocessableEntity
		return !wrong, fmt.Errorf("the gateway answered %s: %.200s", resp.Status, raw)
	}
	if !s.body.Match(raw) {
		return true, fmt.Errorf("the gateway's answer does not match %q: %.200s", s.Body, raw)
	}
	if s.JSON.Path != "" {
		if have, ok := field(raw, s.JSON.Path); !ok || have != s.JSON.Equals {
			return true, fmt.Errorf("the gateway's answer has %s = %q, not %q: %.200s", s.JSON.Path, have, s.JSON.Equals, raw)
		}
	}
	return false, nil
}

// field finds a value of a JSON text by names and numbers with dots between.
func field(raw []byte, path string) (string, bool) {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return "", false
	}
	for _, step := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[step]
			if !ok {
				return "", false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(at) {
				return "", false
			}
			v = at[i]
		default:
			return "", false
		}
	}
	return fmt.Sprint(v), true
}

// pace lets so many messages through in a time, unevenly if need be: a bucket
// that fills again. A nil pace never waits.
type pace struct {
	rate rate
	mu   sync.Mutex
	left float64
	last time.Time
}

func newPace(r rate) *pace {
	if r.n == 0 {
		return nil
	}
	return &pace{rate: r, left: float64(r.n)}
}

// wait says how long until a message may go.
func (p *pace) wait(now time.Time) time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill(now)
	if p.left >= 1 {
		return 0
	}
	return time.Duration((1 - p.left) / float64(p.rate.n) * float64(p.rate.per))
}

// take counts a message that went.
func (p *pace) take(now time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill(now)
	p.left--
}

func (p *pace) fill(now time.Time) {
	if !p.last.IsZero() {
		gained := float64(now.Sub(p.last)) / float64(p.rate.per) * float64(p.rate.n)
		p.left = min(p.left+max(gained, 0), float64(p.rate.n))
	}
	p.last = now
}
