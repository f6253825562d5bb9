package notify

import (
	"cmp"
	"log/slog"
	"time"
)

// Options are the settings of notification. With ConfigFile, routes and
// receivers come from that file; without, one route tells Webhook, Email and SMS
// of every alarm, each as far as it is set.
type Options struct {
	Dir    string        // directory for the state; made when it is missing
	Period time.Duration // sampling period; default 1 minute

	ExternalURL string // where a link in a message leads; may be empty
	ConfigFile  string // Alertmanager's configuration file (route, receivers, inhibit_rules, templates, time_intervals)
	SMSFile     string // SMS receivers, see SMS; with ConfigFile they name receivers of it

	Webhook Webhook
	Email   Email
	SMS     []SMS  // beside SMSFile
	DeadMan Secret // URL that gets the watchdog every time it repeats; empty = nobody gets it

	Peers Peers // the notifiers of a cluster's other nodes

	MaxAge     time.Duration // after this an undelivered message is a dead letter; default 24 h
	QueueLimit int           // messages that may wait for one receiver; default 10 000
}

// Webhook is a URL that gets every alarm as JSON.
type Webhook struct {
	URL       Secret // empty = none
	Token     Secret // sent as a bearer token; may be empty
	TokenFile string // file that holds it
	CAFile    string // certificates to trust besides the system's
}

// Email is a mailbox or several that get every alarm.
type Email struct {
	To           []string // empty = none
	From         string   // needed with To
	Smarthost    string   // HOST:PORT; needed with To
	Hello        string   // name in EHLO; default localhost
	User         string   // empty = no authentication
	Password     Secret
	PasswordFile string // file that holds it
	TLS          string // "starttls" (default), "tls" (from the first byte; default for port 465), "none"
	CAFile       string // certificates to trust besides the system's
}

// Secret is a text that no log shows.
type Secret string

// LogValue hides the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "<secret>"
}

func (o Options) withDefaults() Options {
	o.Period = cmp.Or(o.Period, time.Minute)
	o.MaxAge = cmp.Or(o.MaxAge, 24*time.Hour)
	o.QueueLimit = cmp.Or(o.QueueLimit, 10_000)
	return o
}

// groupInterval is the pause between looks at a group: how late the end of an
// alarm may be told.
func (o Options) groupInterval() time.Duration {
	return min(max(o.Period, 100*time.Millisecond), 10*time.Second)
}
