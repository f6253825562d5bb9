package notify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/belfry-mq/belfry/rules"
)

// SMS says how alarms become text messages: an HTTP request to a gateway for each
// recipient. In a file:
//
//	sms:
//	  - receiver: oncall              # a receiver of the routes; not needed without them
//	    preset: twilio                # fills in method, url, body, auth and success
//	    vars: {account: AC0123, from: "+15550100"}
//	    auth: {user: AC0123, password_file: /etc/belfry/twilio}
//	    recipients: ["+4915550101", "+4915550102"]
//	    min_severity: major           # critical major minor info; default info
//	    resolved: true                # also when it is over; default true
//	    max_parts: 2                  # longer texts are cut; 1 to 10, default 3
//	    rate: 10/1h                   # to each recipient; default 20/1h, none = no limit
//
// Without a preset, or to change one:
//
//	method: POST                  # default POST
//	url: "https://sms.example.org/{{ .Vars.account }}/send"
//	headers: {X-Api-Key: "{{ .Vars.key }}"}
//	auth: {type: bearer, token_file: /etc/belfry/sms}
//	query: {dest: "{{ .To }}"}    # added to the URL
//	form: {to: "{{ .To }}", text: "{{ .Text }}"}   # or json: any structure of such texts
//	timeout: 10s
//	success: {status: 200-299, body: '"ok":true', json: {path: messages.0.status, equals: "0"}}
//
// url, headers, query, form and json are templates with .To, .Text (the message),
// .Key (the same when a message is sent again), .Vars, .Severity, .Status and
// .Unicode (the text needs 16-bit characters). Values in query, form and json are
// escaped as their place needs it; in url and headers write {{ urlquery .To }}.
//
// A message that a recipient's rate does not allow yet waits in the queue.
type SMS struct {
	Receiver    string            `yaml:"receiver"`
	Preset      string            `yaml:"preset"` // twilio, vonage, huawei-smn, or empty
	Method      string            `yaml:"method"`
	URL         string            `yaml:"url"`
	Headers     map[string]string `yaml:"headers"`
	Auth        SMSAuth           `yaml:"auth"`
	Query       map[string]string `yaml:"query"`
	Form        map[string]string `yaml:"form"`
	JSON        any               `yaml:"json"`
	Vars        map[string]string `yaml:"vars"`
	Recipients  []string          `yaml:"recipients"`
	Template    string            `yaml:"template"` // text of the message; default {{ template "belfry.sms" . }}
	MaxParts    int               `yaml:"max_parts"`
	Rate        string            `yaml:"rate"`
	MinSeverity rules.Severity    `yaml:"min_severity"`
	Resolved    *bool             `yaml:"resolved"`
	Timeout     time.Duration     `yaml:"timeout"` // default 10 s, at most 30 s
	Success     SMSSuccess        `yaml:"success"`

	rate rate // Rate, read
}

// SMSAuth is how a request says who sends it.
type SMSAuth struct {
	Type         string `yaml:"type"` // basic, bearer, huawei; default basic with a user, bearer with a token
	User         string `yaml:"user"` // for huawei: the access key
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	Token        Secret `yaml:"token"`
	TokenFile    string `yaml:"token_file"`
}

// SMSSuccess says when a gateway took a message. What is given has to hold.
type SMSSuccess struct {
	Status string   `yaml:"status"` // number or range; default 200-299
	Body   string   `yaml:"body"`   // regular expression that the answer holds
	JSON   SMSField `yaml:"json"`   // field of the answer

	low, high int
	body      *regexp.Regexp
}

// SMSField is a field of a JSON answer and the text that it has to be.
type SMSField struct {
	Path   string `yaml:"path"` // names and numbers with dots between, e.g. messages.0.status
	Equals string `yaml:"equals"`
}

// rate is so many messages in a time; zero = no limit.
type rate struct {
	n   int
	per time.Duration
}

const (
	defaultParts = 3
	mostParts    = 10
	defaultRate  = "20/1h"
	mostSMS      = 100 // recipients of one block: each has a queue of its own
)

func (s *SMS) tellsEnd() bool { return s.Resolved == nil || *s.Resolved }

// loadSMS reads the SMS file and checks its blocks and those of the settings.
func loadSMS(o Options) ([]SMS, error) {
	all := slices.Clone(o.SMS)
	where := "SMS settings"
	if o.SMSFile != "" {
		where = o.SMSFile
		raw, err := os.ReadFile(o.SMSFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the SMS file: %w", err)
		}
		var doc struct {
			SMS []SMS `yaml:"sms"`
		}
		d := yaml.NewDecoder(bytes.NewReader(raw))
		d.KnownFields(true)
		if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", o.SMSFile, err)
		}
		all = append(all, doc.SMS...)
	}
	for i := range all {
		if err := all[i].check(); err != nil {
			return nil, fmt.Errorf("%s: SMS receiver %q: %w", where, cmp.Or(all[i].Receiver, strconv.Itoa(i)), err)
		}
	}
	return all, nil
}

// check fills in preset and defaults and refuses what cannot work.
func (s *SMS) check() error {
	if err := s.usePreset(); err != nil {
		return err
	}
	s.Method = strings.ToUpper(cmp.Or(s.Method, "POST"))
	s.Template = cmp.Or(s.Template, `{{ template "belfry.sms" . }}`)
	s.MaxParts = cmp.Or(s.MaxParts, defaultParts)
	s.MinSeverity = cmp.Or(s.MinSeverity, rules.Info)
	s.Timeout = cmp.Or(s.Timeout, 10*time.Second)
	switch {
	case s.URL == "":
		return errors.New("it needs a url or a preset")
	case len(s.Recipients) == 0:
		return errors.New("it has no recipients")
	case len(s.Recipients) > mostSMS:
		return fmt.Errorf("%d recipients exceed the limit of %d", len(s.Recipients), mostSMS)
	case s.Form != nil && s.JSON != nil:
		return errors.New("a body is either form or json")
	case s.MaxParts < 1 || s.MaxParts > mostParts:
		return fmt.Errorf("max_parts %d is not from 1 to %d", s.MaxParts, mostParts)
	case !slices.Contains(rules.Severities(), s.MinSeverity):
		return fmt.Errorf("min_severity %q is none of %v", s.MinSeverity, rules.Severities())
	case s.Timeout < 0 || s.Timeout > sendTimeout:
		return fmt.Errorf("timeout %v is not above 0 and at most %v", s.Timeout, sendTimeout)
	case !slices.Contains([]string{"GET", "POST", "PUT"}, s.Method):
		return fmt.Errorf("method %q is none of GET, POST, PUT", s.Method)
	}
	var err error
	if s.rate, err = parseRate(cmp.Or(s.Rate, defaultRate)); err != nil {
		return err
	}
	if err := s.Auth.check(); err != nil {
		return err
	}
	return s.Success.check()
}

func (a *SMSAuth) check() error {
	if a.Type == "" {
		switch {
		case a.Token != "" || a.TokenFile != "":
			a.Type = "bearer"
		case a.User != "":
			a.Type = "basic"
		}
	}
	switch a.Type {
	case "":
	case "bearer":
		if a.Token == "" && a.TokenFile == "" {
			return errors.New("auth bearer needs token or token_file")
		}
	case "basic", "huawei":
		if a.User == "" || a.Password == "" && a.PasswordFile == "" {
			return fmt.Errorf("auth %s needs user and password or password_file", a.Type)
		}
	default:
		return fmt.Errorf("auth type %q is none of basic, bearer, huawei", a.Type)
	}
	return nil
}

func (s *SMSSuccess) check() error {
	low, high, isRange := strings.Cut(cmp.Or(s.Status, "200-299"), "-")
	if !isRange {
		high = low
	}
	var err, err2 error
	s.low, err = strconv.Atoi(low)
	s.high, err2 = strconv.Atoi(high)
	if err != nil || err2 != nil || s.low < 100 || s.high > 599 || s.low > s.high {
		return fmt.Errorf("success status %q is no HTTP status or range like 200-299", s.Status)
	}
	if s.body, err = regexp.Compile(s.Body); err != nil {
		return fmt.Errorf("success body %q is no regular expression: %w", s.Body, err)
	}
	if s.JSON.Equals != "" && s.JSON.Path == "" {
		return errors.New("success json needs a path")
	}
	return nil
}

func parseRate(s string) (rate, error) {
	if s == "none" {
		return rate{}, nil
	}
	count, per, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	d, err2 := time.ParseDuration(per)
	if !ok || err != nil || err2 != nil || n < 1 || d <= 0 {
		return rate{}, fmt.Errorf("rate %q is neither none nor like 10/1h", s)
	}
	return rate{n: n, per: d}, nil
}

// preset is what a gateway needs, as SMS fields, and the vars that it cannot do without.
type preset struct {
	sms  SMS
	vars []string
}

// presets holds the gateways that a template can reach honestly. Those that want
// a text approved beforehand and each request signed in their own way (Alibaba,
// Tencent) are not among them.
func presets() map[string]preset {
	return map[string]preset{
		// Source: Twilio, Programmable Messaging, Message resource. Auth: user =
		// account or API key SID, password = its token or secret.
		"twilio": {
			sms: SMS{
				URL:     "https://api.twilio.com/2010-04-01/Accounts/{{ .Vars.account }}/Messages.json",
				Form:    map[string]string{"To": "{{ .To }}", "From": "{{ .Vars.from }}", "Body": "{{ .Text }}"},
				Success: SMSSuccess{Status: "201"},
			},
			vars: []string{"account", "from"},
		},
		// Source: Vonage, SMS API. The status is in the answer's body.
		"vonage": {
			sms: SMS{
				URL: "https://rest.nexmo.com/sms/json",
				Form: map[string]string{
					"api_key": "{{ .Vars.key }}", "api_secret": "{{ .Vars.secret }}", "from": "{{ .Vars.from }}",
					"to": "{{ .To }}", "text": "{{ .Text }}", "type": "{{ if .Unicode }}unicode{{ else }}text{{ end }}", "client-ref": "{{ .Key }}",
				},
				Success: SMSSuccess{Status: "200", JSON: SMSField{Path: "messages.0.status", Equals: "0"}},
			},
			vars: []string{"key", "secret", "from"},
		},
		// Source: Huawei Cloud, Simple Message Notification, PublishMessage. A
		// recipient is the URN of a topic, and the phones are its subscribers.
		// Auth: user = access key, password = secret key.
		"huawei-smn": {
			sms: SMS{
				URL:     "https://smn.{{ .Vars.region }}.myhuaweicloud.com/v2/{{ .Vars.project }}/notifications/topics/{{ .To }}/publish",
				JSON:    map[string]any{"message": "{{ .Text }}"},
				Auth:    SMSAuth{Type: "huawei"},
				Success: SMSSuccess{Status: "200-299", Body: `"message_id"`},
			},
			vars: []string{"region", "project"},
		},
	}
}

// usePreset fills in what the block leaves open.
func (s *SMS) usePreset() error {
	if s.Preset == "" {
		return nil
	}
	p, ok := presets()[s.Preset]
	if !ok {
		return fmt.Errorf("preset %q is none of %s", s.Preset, strings.Join(slices.Sorted(maps.Keys(presets())), ", "))
	}
	for _, name := range p.vars {
		if s.Vars[name] == "" {
			return fmt.Errorf("preset %s needs vars: %s", s.Preset, strings.Join(p.vars, ", "))
		}
	}
	s.URL = cmp.Or(s.URL, p.sms.URL)
	if s.Form == nil && s.JSON == nil {
		s.Form, s.JSON = p.sms.Form, p.sms.JSON
	}
	s.Auth.Type = cmp.Or(s.Auth.Type, p.sms.Auth.Type)
	if s.Success.Status == "" && s.Success.Body == "" && s.Success.JSON.Path == "" {
		s.Success = p.sms.Success
	}
	return nil
}
