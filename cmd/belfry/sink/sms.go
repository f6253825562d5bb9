package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// SMS is a gateway for short messages. It understands what common gateways do: a JSON object or a form, in the body or in
// the query, with a number (to, To, phone) and a text (text, Body, message).
type SMS struct{ inbox }

// NewSMS makes a gateway.
func NewSMS() *SMS { return &SMS{newInbox()} }

// Listen opens the socket and gives the URL to send to. Port 0 takes a free one.
func (s *SMS) Listen(address string) (string, error) {
	if err := s.listen(address); err != nil {
		return "", err
	}
	return "http://" + s.Addr() + "/messages", nil
}

// Run serves until ctx ends. Requires: Listen.
func (s *SMS) Run(ctx context.Context) error {
	return s.serveHTTP(ctx, func(out http.ResponseWriter, r *http.Request) {
		m, err := readSMS(out, r)
		if err != nil {
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		}
		if !s.take(m) {
			http.Error(out, "busy", http.StatusServiceUnavailable)
			return
		}
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(out, `{"status":"queued"}`) // the client may be gone; the message is taken
	})
}

// Names of the fields, in the order in which they are looked for.
var (
	numberFields = [...]string{"to", "phone", "recipient", "recipients"}
	textFields   = [...]string{"text", "body", "message", "content"}
	senderFields = [...]string{"from", "sender"}
)

func readSMS(out http.ResponseWriter, r *http.Request) (Message, error) {
	body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, bodyLimit))
	if err != nil {
		return Message{}, err
	}
	fields := map[string][]string{}
	add := func(values url.Values) {
		for name, v := range values {
			fields[strings.ToLower(name)] = append(fields[strings.ToLower(name)], v...)
		}
	}
	add(r.URL.Query())
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/json" {
		object := map[string]any{}
		if err := json.Unmarshal(body, &object); err != nil {
			return Message{}, fmt.Errorf("cannot read SMS %q: %w", body, err)
		}
		for name, v := range object {
			fields[strings.ToLower(name)] = append(fields[strings.ToLower(name)], texts(v)...)
		}
	} else {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return Message{}, fmt.Errorf("cannot read SMS %q: %w", body, err)
		}
		add(form)
	}
	m := Message{To: first(fields, numberFields[:]), Text: strings.Join(first(fields, textFields[:]), ""), Header: r.Header}
	m.From = strings.Join(first(fields, senderFields[:]), "")
	if len(m.To) == 0 || m.Text == "" {
		return Message{}, fmt.Errorf("cannot send SMS %q: it has no number or no text", body)
	}
	return m, nil
}

func first(fields map[string][]string, names []string) []string {
	for _, name := range names {
		if v := fields[name]; len(v) > 0 {
			return v
		}
	}
	return nil
}

// texts gives a JSON string, or the strings in a list.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, each := range v {
			all = append(all, texts(each)...)
		}
		return all
	}
	return nil
}
