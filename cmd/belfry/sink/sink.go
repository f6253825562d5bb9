// Package sink receives what the alarm road sends, on loopback: a webhook, a mailbox that speaks SMTP, and an SMS gateway.
// The demo prints what arrives, tests read it. They are no servers for the world: a sink keeps nothing, trusts everybody
// who reaches it, and bounds what it takes.
//
// The road in: a socket; the road out: the channel of Messages. When nobody reads the channel and it is full, a sink
// refuses what comes (HTTP 503, SMTP 452), as a busy receiver does.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Message is one thing that arrived.
type Message struct {
	At      time.Time
	To      []string // addresses or telephone numbers; empty for a webhook
	From    string   // the sender of a mail or SMS, if it says
	Subject string   // of a mail
	Text    string   // the body: JSON of a webhook, the readable part of a mail, the text of an SMS
	User    string   // who logged in, for a mailbox that asks for it
	Secure  bool     // came over TLS
	Header  map[string][]string
}

// queueLength bounds the messages that wait to be read; bodyLimit one message.
const (
	queueLength = 256
	bodyLimit   = 1 << 20
)

// inbox is what all sinks share: the listener and the way out.
type inbox struct {
	listener net.Listener
	messages chan Message
	refused  atomic.Int64
}

func newInbox() inbox { return inbox{messages: make(chan Message, queueLength)} }

// Messages gives what arrived, in order of arrival. It is never closed.
func (i *inbox) Messages() <-chan Message { return i.messages }

// Refused counts messages that were turned away because nobody read the channel.
func (i *inbox) Refused() int64 { return i.refused.Load() }

// Addr gives host and port after Listen.
func (i *inbox) Addr() string { return i.listener.Addr().String() }

func (i *inbox) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	i.listener = l
	return nil
}

// take passes a message on; false when there is no room.
func (i *inbox) take(m Message) bool {
	m.At = time.Now()
	select {
	case i.messages <- m:
		return true
	default:
		i.refused.Add(1)
		return false
	}
}

// headerTimeout bounds how long an HTTP client may take for its headers.
const headerTimeout = 10 * time.Second

// serveHTTP serves until ctx ends; then it ends requests that still hang.
func (i *inbox) serveHTTP(ctx context.Context, h http.HandlerFunc) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // its listener is ours and closed with it
	defer stop()
	if err := server.Serve(i.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve on %q: %w", i.Addr(), err)
	}
	return nil
}

// Webhook takes every POST as a message.
type Webhook struct {
	inbox
	answer func(n int) int
}

// Hang is an answer that never comes: the request is kept until its sender gives up.
const Hang = 0

// NewWebhook makes a webhook. answer chooses the status for the n-th request, from 1; nil: always 200. What is not
// answered with 2xx is not taken.
func NewWebhook(answer func(n int) int) *Webhook { return &Webhook{newInbox(), answer} }

// Listen opens the socket and gives the URL to send to. Port 0 takes a free one.
func (w *Webhook) Listen(address string) (string, error) {
	if err := w.listen(address); err != nil {
		return "", err
	}
	return "http://" + w.Addr() + "/alarms", nil
}

// Run serves until ctx ends. Requires: Listen.
func (w *Webhook) Run(ctx context.Context) error {
	var n atomic.Int64
	return w.serveHTTP(ctx, func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, bodyLimit))
		status := http.StatusOK
		if w.answer != nil { // when the message has arrived
			status = w.answer(int(n.Add(1)))
		}
		switch {
		case err != nil:
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		case status == Hang:
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // Why: a handler that only returns has answered 200, if the connection still stands
		case r.Method != http.MethodPost:
			status = http.StatusMethodNotAllowed
		case status/100 == 2 && !w.take(Message{Text: string(body), Header: r.Header}):
			status = http.StatusServiceUnavailable
		}
		out.WriteHeader(status)
	})
}
