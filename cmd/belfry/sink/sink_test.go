package sink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/smtp"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a sink until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

func receive(t *testing.T, from <-chan Message) Message {
	t.Helper()
	select {
	case m := <-from:
		if m.At.IsZero() {
			t.Error("no time")
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
	return Message{}
}

func post(t *testing.T, address, kind, body string) (int, string) {
	t.Helper()
	response, err := http.Post(address, kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func TestWebhook(t *testing.T) {
	w := NewWebhook(func(n int) int { return []int{200, 500, 202}[n-1] })
	address, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, w.Run)
	for i, want := range []int{200, 500, 202} {
		if status, _ := post(t, address, "application/json", fmt.Sprintf(`{"n":%d}`, i)); status != want {
			t.Errorf("request %d: status %d, want %d", i, status, want)
		}
	}
	for _, want := range []string{`{"n":0}`, `{"n":2}`} {
		if m := receive(t, w.Messages()); m.Text != want || http.Header(m.Header).Get("Content-Type") != "application/json" {
			t.Errorf("got %+v, want %s", m, want)
		}
	}
}

func TestWebhookThatHangsLetsGoWhenItEnds(t *testing.T) {
	w := NewWebhook(func(int) int { return Hang })
	address, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, gone := make(chan error, 1), make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	conn, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	path := strings.TrimPrefix(address, "http://"+w.Addr())
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		gone <- err
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-gone; err == nil {
		t.Error("a hanging webhook answered")
	}
}

func TestAFullSinkRefusesAndCounts(t *testing.T) {
	w := NewWebhook(nil)
	address, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, w.Run)
	for range queueLength {
		if status, _ := post(t, address, "application/json", "{}"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	if status, _ := post(t, address, "application/json", "{}"); status != 503 || w.Refused() != 1 {
		t.Errorf("status %d, %d refused", status, w.Refused())
	}
}

func TestSMS(t *testing.T) {
	s := NewSMS()
	address, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	for _, c := range []struct{ query, kind, body string }{
		{"", "application/json", `{"to":"+4912","text":"disk 81 %","from":"belfry"}`},
		{"", "application/json; charset=utf-8", `{"To":["+4912"],"message":"disk 81 %","sender":"belfry"}`},
		{"", "application/x-www-form-urlencoded", url.Values{"To": {"+4912"}, "Body": {"disk 81 %"}, "From": {"belfry"}}.Encode()},
		{"?" + url.Values{"phone": {"+4912"}, "text": {"disk 81 %"}, "from": {"belfry"}}.Encode(), "", ""},
	} {
		if status, said := post(t, address+c.query, c.kind, c.body); status != 201 {
			t.Errorf("%s%s: status %d: %s", c.query, c.body, status, said)
			continue
		}
		if m := receive(t, s.Messages()); !slices.Equal(m.To, []string{"+4912"}) || m.Text != "disk 81 %" || m.From != "belfry" {
			t.Errorf("%s%s: got %+v", c.query, c.body, m)
		}
	}
	for _, body := range []string{`{"to":"+4912"}`, `{"text":"x"}`, `nonsense`} {
		if status, said := post(t, address, "application/json", body); status != 400 || !strings.Contains(said, "SMS") {
			t.Errorf("%s: status %d: %s", body, status, said)
		}
	}
}

const simpleMail = "From: belfry@example.org\r\nTo: ops@example.org\r\nSubject: =?UTF-8?q?Disk_81_=25_=E2=80=93_broker_0?=\r\n" +
	"Content-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/html\r\n\r\n<html><head><title>x</title></head><style>a{}</style><b>81&nbsp;%</b></html>\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n81=20%\r\n.dot\r\n--b--\r\n"

func mailbox(t *testing.T, o MailboxOptions) (*Mailbox, string) {
	t.Helper()
	m := NewMailbox(o)
	address, err := m.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, m.Run)
	return m, address
}

func TestMailboxTakesAMail(t *testing.T) {
	m, address := mailbox(t, MailboxOptions{})
	if err := smtp.SendMail(address, nil, "belfry@example.org", []string{"ops@example.org", "boss@example.org"}, []byte(simpleMail)); err != nil {
		t.Fatal(err)
	}
	got := receive(t, m.Messages())
	if got.From != "belfry@example.org" || !slices.Equal(got.To, []string{"ops@example.org", "boss@example.org"}) {
		t.Errorf("envelope %q → %q", got.From, got.To)
	}
	if got.Subject != "Disk 81 % – broker 0" || !strings.HasPrefix(got.Text, "81 %") || !strings.Contains(got.Text, ".dot") {
		t.Errorf("subject %q, text %q", got.Subject, got.Text)
	}
	if got.Secure || got.User != "" {
		t.Errorf("secure %v, user %q", got.Secure, got.User)
	}
}

func TestReadableHTML(t *testing.T) {
	var m Message
	raw := "Subject: x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+RGlzazwvYj4gJmd0OyA4MCZuYnNwOyU=\r\n"
	if err := m.readMail([]byte(raw)); err != nil || m.Text != "Disk > 80 %" {
		t.Errorf("text %q, %v", m.Text, err)
	}
}

// certificate makes one for 127.0.0.1 and the configurations of both sides.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

func TestMailboxWithTLSAndLogin(t *testing.T) {
	server, client := certificate(t)
	m, address := mailbox(t, MailboxOptions{User: "belfry", Password: "s3cret", TLS: server, RequireTLS: true})
	dial := func() *smtp.Client {
		c, err := smtp.Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := dial()
	if err := c.Mail("a@example.org"); err == nil || !strings.Contains(err.Error(), "530") {
		t.Errorf("mail before STARTTLS: %v", err)
	}
	if ok, _ := c.Extension("AUTH"); ok {
		t.Error("a password is asked for in the open")
	}
	if err := c.StartTLS(client); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("a@example.org"); err == nil || !strings.Contains(err.Error(), "530") {
		t.Errorf("mail before AUTH: %v", err)
	}
	bad := dial()
	if err := bad.StartTLS(client); err != nil {
		t.Fatal(err)
	}
	if err := bad.Auth(smtp.PlainAuth("", "belfry", "guess", "127.0.0.1")); err == nil || !strings.Contains(err.Error(), "535") {
		t.Errorf("wrong password: %v", err)
	}
	if err := c.Auth(smtp.PlainAuth("", "belfry", "s3cret", "127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // two mails in one session
		sendOn(t, c)
		if got := receive(t, m.Messages()); !got.Secure || got.User != "belfry" || got.Subject == "" {
			t.Errorf("got %+v", got)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
}

func sendOn(t *testing.T, c *smtp.Client) {
	t.Helper()
	if err := c.Mail("a@example.org"); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt("b@example.org"); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, simpleMail); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMailboxTalk is a session by hand: LOGIN, order of commands, and what a mailbox does not know.
func TestMailboxTalk(t *testing.T) {
	_, address := mailbox(t, MailboxOptions{User: "u", Password: "p"})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() string {
		b := make([]byte, 512)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	read()
	for _, line := range []struct{ say, want string }{
		{"HELO me", "250"}, {"VRFY x", "502"}, {"STARTTLS", "502"}, {"DATA", "503"}, {"RCPT TO:<a@b>", "503"},
		{"AUTH CRAM-MD5", "504"}, {"AUTH LOGIN", "334 VXNlcm5hbWU6"}, {"dQ==", "334 UGFzc3dvcmQ6"}, {"cA==", "235"},
		{"MAIL FROM:a@b", "501"}, {"mail from:<a@b> SIZE=3", "250"}, {"RCPT TO:<c@d>", "250"}, {"RSET", "250"}, {"DATA", "503"},
		{"NOOP", "250"}, {"QUIT", "221"},
	} {
		fmt.Fprintf(conn, "%s\r\n", line.say)
		if got := read(); !strings.HasPrefix(got, line.want) {
			t.Errorf("%s: %s, want %s", line.say, got, line.want)
		}
	}
}

func TestMailboxGivesUpOnALineWithoutEnd(t *testing.T) {
	_, address := mailbox(t, MailboxOptions{})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	chunk := strings.Repeat("x", 4096)
	sent := 0
	for sent < 100*commandLimit {
		n, err := io.WriteString(conn, chunk)
		sent += n
		if err != nil {
			return // hung up on, as it should be
		}
	}
	t.Errorf("%d bytes of one line were read", sent)
}

func FuzzMail(f *testing.F) {
	f.Add([]byte(simpleMail))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if err := m.readMail(raw); err == nil && len(m.Text) > 4*len(raw)+16 {
			t.Errorf("%d bytes of text from a mail of %d", len(m.Text), len(raw))
		}
	})
}
