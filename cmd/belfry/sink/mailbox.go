package sink

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// MailboxOptions say what a mailbox asks of its senders. The zero value asks nothing.
type MailboxOptions struct {
	User, Password string      // AUTH PLAIN and LOGIN with these; "" = no login
	TLS            *tls.Config // offers STARTTLS
	RequireTLS     bool        // takes no mail and no password before STARTTLS
}

// Mailbox is an SMTP server that takes every mail for everybody.
// Source: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH).
type Mailbox struct {
	inbox
	o MailboxOptions
}

// NewMailbox makes a mailbox.
func NewMailbox(o MailboxOptions) *Mailbox { return &Mailbox{newInbox(), o} }

// Listen opens the socket and gives host:port, as SMTP clients want it. Port 0 takes a free one.
func (m *Mailbox) Listen(address string) (string, error) {
	if err := m.listen(address); err != nil {
		return "", err
	}
	return m.Addr(), nil
}

// maxSessions bounds the connections served at once; idleLimit how long one may be silent.
const (
	maxSessions = 64
	idleLimit   = time.Minute
)

// Run serves until ctx ends. Requires: Listen.
func (m *Mailbox) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = m.listener.Close() }) // Accept ends with it
	defer stop()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	free := make(chan struct{}, maxSessions)
	for {
		conn, err := m.listener.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("cannot serve on %q: %w", m.Addr(), err)
		}
		free <- struct{}{}
		sessions.Go(func() {
			defer func() { <-free }()
			hangUp := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer hangUp()
			s := &session{box: m, conn: conn}
			s.serve()
			_ = s.conn.Close()
		})
	}
}

// session is one SMTP connection.
type session struct {
	box    *Mailbox
	conn   net.Conn
	budget *budget
	text   *textproto.Conn
	secure bool
	user   string
	from   *string
	to     []string
}

// errEnd ends a session in good order.
var errEnd = errors.New("session ended")

func (s *session) serve() {
	s.speak(s.conn)
	if s.say(220, "belfry mailbox") != nil {
		return
	}
	for {
		_ = s.conn.SetDeadline(time.Now().Add(idleLimit)) // fails only on a closed connection, as the read will
		s.budget.left = commandLimit
		line, err := s.text.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		if s.command(strings.ToUpper(verb), strings.TrimSpace(rest)) != nil {
			return
		}
	}
}

func (s *session) speak(conn net.Conn) {
	s.conn, s.budget = conn, &budget{Conn: conn, left: commandLimit}
	s.text = textproto.NewConn(s.budget)
}

func (s *session) command(verb, rest string) error {
	switch verb {
	case "EHLO", "HELO":
		return s.hello(verb)
	case "STARTTLS":
		return s.startTLS()
	case "AUTH":
		return s.auth(rest)
	case "MAIL":
		return s.mail(rest)
	case "RCPT":
		address, ok := path(rest, "TO:")
		if !ok || s.from == nil {
			return s.say(503, "MAIL and an address first")
		}
		s.to = append(s.to, address)
		return s.say(250, "ok")
	case "DATA":
		return s.data()
	case "RSET":
		s.from, s.to = nil, nil
		return s.say(250, "ok")
	case "NOOP":
		return s.say(250, "ok")
	case "QUIT":
		_ = s.say(221, "bye") // it is leaving anyway
		return errEnd
	}
	return s.say(502, "not known")
}

func (s *session) hello(verb string) error {
	s.from, s.to = nil, nil
	if verb == "HELO" {
		return s.say(250, "belfry")
	}
	lines := []string{"belfry", "8BITMIME", "SMTPUTF8", fmt.Sprintf("SIZE %d", bodyLimit)}
	if s.box.o.TLS != nil && !s.secure {
		lines = append(lines, "STARTTLS")
	}
	if s.box.o.User != "" && (s.secure || !s.box.o.RequireTLS) {
		lines = append(lines, "AUTH PLAIN LOGIN")
	}
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		if err := s.text.PrintfLine("250%s%s", separator, line); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) startTLS() error {
	if s.box.o.TLS == nil || s.secure {
		return s.say(502, "no TLS here")
	}
	if err := s.say(220, "go ahead"); err != nil {
		return err
	}
	conn := tls.Server(s.conn, s.box.o.TLS)
	if err := conn.Handshake(); err != nil {
		return err
	}
	s.secure = true
	s.speak(conn) // with a new reader: what was sent before the handshake is dropped
	s.user, s.from, s.to = "", nil, nil
	return nil
}

func (s *session) auth(rest string) error {
	o := s.box.o
	if o.User == "" || o.RequireTLS && !s.secure {
		return s.say(502, "no login here")
	}
	mechanism, initial, _ := strings.Cut(rest, " ")
	var user, password string
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		answer, err := s.ask(initial, "")
		if err != nil {
			return err
		}
		if parts := strings.Split(answer, "\x00"); len(parts) == 3 {
			user, password = parts[1], parts[2]
		}
	case "LOGIN":
		var err error
		if user, err = s.ask(initial, "Username:"); err == nil {
			password, err = s.ask("", "Password:")
		}
		if err != nil {
			return err
		}
	default:
		return s.say(504, "PLAIN or LOGIN")
	}
	good := subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(o.User+"\x00"+o.Password))
	if good != 1 {
		return s.say(535, "wrong user or password")
	}
	s.user = user
	return s.say(235, "welcome")
}

// ask gets one base64 answer, unless it came with the command.
func (s *session) ask(given, prompt string) (string, error) {
	if given == "" {
		if err := s.text.PrintfLine("334 %s", base64.StdEncoding.EncodeToString([]byte(prompt))); err != nil {
			return "", err
		}
		var err error
		if given, err = s.text.ReadLine(); err != nil {
			return "", err
		}
	}
	b, err := base64.StdEncoding.DecodeString(given)
	if err != nil {
		return "", nil // an answer that is none is a wrong password
	}
	return string(b), nil
}

func (s *session) mail(rest string) error {
	address, ok := path(rest, "FROM:")
	switch {
	case s.box.o.RequireTLS && !s.secure:
		return s.say(530, "STARTTLS first")
	case s.box.o.User != "" && s.user == "":
		return s.say(530, "AUTH first")
	case !ok:
		return s.say(501, "no address")
	}
	s.from, s.to = &address, nil
	return s.say(250, "ok")
}

func (s *session) data() error {
	if s.from == nil || len(s.to) == 0 {
		return s.say(503, "MAIL and RCPT first")
	}
	if err := s.say(354, "go ahead, end with ."); err != nil {
		return err
	}
	s.budget.left = bodyLimit + commandLimit
	body, err := io.ReadAll(io.LimitReader(s.text.DotReader(), bodyLimit+1))
	if err != nil {
		return err
	}
	if len(body) > bodyLimit {
		_ = s.say(552, "too large") // the rest of it is not read: the session ends
		return errEnd
	}
	m := Message{From: *s.from, To: s.to, User: s.user, Secure: s.secure}
	s.from, s.to = nil, nil
	if err := m.readMail(body); err != nil {
		return s.say(554, "not a mail: "+strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if !s.box.take(m) {
		return s.say(452, "mailbox is full")
	}
	return s.say(250, "taken")
}

func (s *session) say(code int, text string) error { return s.text.PrintfLine("%d %s", code, text) }

// path reads FROM:<address> and TO:<address>, with parameters behind.
func path(rest, prefix string) (string, bool) {
	if len(rest) < len(prefix) || !strings.EqualFold(rest[:len(prefix)], prefix) {
		return "", false
	}
	rest = strings.TrimSpace(rest[len(prefix):])
	if !strings.HasPrefix(rest, "<") {
		return "", false
	}
	address, _, ok := strings.Cut(rest[1:], ">")
	return address, ok
}

// commandLimit bounds what one command may send, so that a line without an end is not read for ever.
const commandLimit = 64 << 10

// budget lets a peer send so much and no more.
type budget struct {
	net.Conn
	left int
}

var errBudget = errors.New("too much was sent")

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBudget
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
