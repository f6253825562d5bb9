package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	amnotify "github.com/prometheus/alertmanager/notify"
	amemail "github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
)

// mailer sends mails over SMTP. It takes Alertmanager's e-mail configuration.
// Why not Alertmanager's sender: that one waits for a server that hangs without
// end, and its messages have no identity that is the same when they are sent again.
type mailer struct {
	conf *config.EmailConfig
	tmpl *template.Template
	log  *slog.Logger
	host string
}

func newMail(c *config.EmailConfig, tmpl *template.Template, log *slog.Logger) *mailer {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return &mailer{conf: c, tmpl: tmpl, log: log, host: host}
}

// Notify sends one mail; true = trying again may help.
func (m *mailer) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	data := amnotify.GetTemplateData(ctx, m.tmpl, alerts, m.log)
	from, to, err := m.addresses(data)
	if err != nil {
		return false, err
	}
	body, err := m.compose(ctx, data)
	if err != nil {
		return false, err
	}
	client, err := m.connect(ctx)
	if err != nil {
		return true, err
	}
	// Why: a connection that is closed under it is what ends a server that hangs.
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	if err := m.deliver(client, from, to, body); err != nil {
		_ = client.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("the mail server did not answer in time: %w", err)
		}
		return !refusedForGood(err), err
	}
	// The server has the mail; how it says good-bye changes nothing.
	_ = client.Quit()
	return false, nil
}

// refusedForGood says that a server refused this mail for what it is. Sender,
// recipients and log-in may be repaired, so those are tried again.
func refusedForGood(err error) bool {
	var said *textproto.Error
	if !errors.As(err, &said) {
		return false
	}
	return said.Code == 552 || said.Code == 554
}

func (m *mailer) connect(ctx context.Context) (*smtp.Client, error) {
	implicit := m.conf.Smarthost.Port == "465"
	if m.conf.ForceImplicitTLS != nil {
		implicit = *m.conf.ForceImplicitTLS
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.conf.Smarthost.String())
	if err != nil {
		return nil, fmt.Errorf("cannot reach the mail server: %w", err)
	}
	// Why: net/smtp has no context; closing the connection is what reaches it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := m.greet(conn, implicit)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot talk to the mail server %s: %w", m.conf.Smarthost, err)
	}
	return client, nil
}

// greet goes as far as the log-in.
func (m *mailer) greet(conn net.Conn, implicit bool) (*smtp.Client, error) {
	security, err := commoncfg.NewTLSConfig(m.conf.TLSConfig)
	if err != nil {
		return nil, err
	}
	if security.ServerName == "" {
		security.ServerName = m.conf.Smarthost.Host
	}
	if implicit {
		conn = tls.Client(conn, security)
	}
	client, err := smtp.NewClient(conn, m.conf.Smarthost.Host)
	if err != nil {
		return nil, err
	}
	if m.conf.Hello != "" {
		if err := client.Hello(m.conf.Hello); err != nil {
			return nil, err
		}
	}
	if !implicit && *m.conf.RequireTLS {
		if ok, _ := client.Extension("STARTTLS"); !ok {
			return nil, errors.New("it offers no STARTTLS, and mails go encrypted unless it is turned off by name")
		}
		if err := client.StartTLS(security); err != nil {
			return nil, err
		}
	}
	if m.conf.AuthUsername == "" {
		return client, nil
	}
	auth, err := m.auth(client)
	if err != nil {
		return nil, err
	}
	return client, client.Auth(auth)
}

func (m *mailer) auth(client *smtp.Client) (smtp.Auth, error) {
	_, offered := client.Extension("AUTH")
	ways := strings.Fields(offered)
	password, err := secretOf(string(m.conf.AuthPassword), m.conf.AuthPasswordFile)
	if err != nil {
		return nil, err
	}
	shared, err := secretOf(string(m.conf.AuthSecret), m.conf.AuthSecretFile)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(ways, "CRAM-MD5") && shared != "":
		return smtp.CRAMMD5Auth(m.conf.AuthUsername, shared), nil
	case slices.Contains(ways, "PLAIN"):
		return smtp.PlainAuth(m.conf.AuthIdentity, m.conf.AuthUsername, password, m.conf.Smarthost.Host), nil
	case slices.Contains(ways, "LOGIN"):
		return amemail.LoginAuth(m.conf.AuthUsername, password), nil
	}
	return nil, fmt.Errorf("it offers none of PLAIN, LOGIN, CRAM-MD5 (with a secret) to log in, but %q", offered)
}

func secretOf(text, file string) (string, error) {
	if text != "" || file == "" {
		return text, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (m *mailer) deliver(client *smtp.Client, from string, to []string, body []byte) error {
	if err := client.Mail(from); err != nil {
		return fmt.Errorf("the mail server refuses the sender %s: %w", from, err)
	}
	for _, one := range to {
		if err := client.Rcpt(one); err != nil {
			return fmt.Errorf("the mail server refuses the recipient %s: %w", one, err)
		}
	}
	w, err := client.Data()
	if err != nil {
		return fmt.Errorf("the mail server refuses the mail: %w", err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("cannot send the mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("the mail server refuses the mail: %w", err)
	}
	return nil
}

func (m *mailer) addresses(data *template.Data) (from string, to []string, err error) {
	senders, err := m.parse(m.conf.From, data)
	if err != nil {
		return "", nil, fmt.Errorf("%q is no sender's address: %w", m.conf.From, err)
	}
	if len(senders) != 1 {
		return "", nil, fmt.Errorf("%q is not one sender's address", m.conf.From)
	}
	if to, err = m.parse(m.conf.To, data); err != nil {
		return "", nil, fmt.Errorf("%q is no list of addresses: %w", m.conf.To, err)
	}
	return senders[0], to, nil
}

func (m *mailer) parse(text string, data *template.Data) ([]string, error) {
	text, err := m.tmpl.ExecuteTextString(text, data)
	if err != nil {
		return nil, err
	}
	list, err := mail.ParseAddressList(text)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, len(list))
	for i, a := range list {
		addresses[i] = a.Address
	}
	return addresses, nil
}

// compose writes headers and both bodies. The Message-Id is made of the
// idempotency key: a mail that is sent again is the same mail.
func (m *mailer) compose(ctx context.Context, data *template.Data) ([]byte, error) {
	headers := map[string]string{"From": m.conf.From, "To": m.conf.To}
	maps.Copy(headers, m.conf.Headers)
	now, _ := amnotify.Now(ctx)
	var b, parts bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value, err := m.tmpl.ExecuteTextString(headers[name], data)
		if err != nil {
			return nil, fmt.Errorf("cannot render the header %q: %w", name, err)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, encodeHeader(name, value))
	}
	fmt.Fprintf(&b, "Message-Id: <%s@%s>\r\n", keyOf(ctx), m.host)
	if m.conf.Threading.Enabled {
		groupKey, _ := amnotify.GroupKey(ctx)
		thread := fmt.Sprintf("<alarm-%s-%s@%s>", amnotify.Key(groupKey).Hash()[:16], threadDay(m.conf, now.Format("2006-01-02")), m.host)
		fmt.Fprintf(&b, "References: %s\r\nIn-Reply-To: %s\r\n", thread, thread)
	}
	w := multipart.NewWriter(&parts)
	fmt.Fprintf(&b, "Date: %s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=%s\r\n\r\n",
		now.Format("Mon, 02 Jan 2006 15:04:05 -0700"), w.Boundary())
	for _, part := range []struct {
		kind, text string
		render     func(string, any) (string, error)
	}{
		{"text/plain", m.conf.Text, m.tmpl.ExecuteTextString},
		{"text/html", m.conf.HTML, m.tmpl.ExecuteHTMLString},
	} {
		if part.text == "" {
			continue
		}
		text, err := part.render(part.text, data)
		if err != nil {
			return nil, fmt.Errorf("cannot render the mail: %w", err)
		}
		if err := writePart(w, part.kind, text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	b.Write(parts.Bytes())
	return b.Bytes(), nil
}

func threadDay(c *config.EmailConfig, today string) string {
	if c.Threading.ThreadByDate == "none" {
		return ""
	}
	return today
}

// encodeHeader keeps a value on one line, so that a label cannot add headers.
func encodeHeader(name, value string) string {
	value = strings.Join(strings.Fields(value), " ")
	switch name {
	case "From", "To", "Cc", "Reply-To", "Sender":
		return value
	}
	return mime.QEncoding.Encode("utf-8", value)
}

func writePart(w *multipart.Writer, kind, text string) error {
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Type":              {kind + "; charset=UTF-8"},
		"Content-Transfer-Encoding": {"quoted-printable"},
	})
	if err != nil {
		return err
	}
	q := quotedprintable.NewWriter(part)
	if _, err := q.Write([]byte(text)); err != nil {
		return err
	}
	return q.Close()
}
