package sink

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
)

// readMail fills in header, subject and the readable part of a mail.
func (m *Message) readMail(raw []byte) error {
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	m.Header = parsed.Header
	words := mime.WordDecoder{}
	if m.Subject, err = words.DecodeHeader(parsed.Header.Get("Subject")); err != nil {
		return fmt.Errorf("cannot read subject: %w", err)
	}
	plain, markup, err := readPart(textproto.MIMEHeader(parsed.Header), parsed.Body, 0)
	if err != nil {
		return err
	}
	if m.Text = strings.TrimSpace(plain); m.Text == "" {
		m.Text = readable(markup)
	}
	return nil
}

// maxDepth bounds parts within parts.
const maxDepth = 4

// readPart gives the first plain and the first HTML text of a part and the parts in it.
func readPart(header textproto.MIMEHeader, body io.Reader, depth int) (plain, markup string, err error) {
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain" // RFC 2045: what does not say is plain text
	}
	if !strings.HasPrefix(kind, "multipart/") {
		text, err := io.ReadAll(decoded(header.Get("Content-Transfer-Encoding"), body))
		switch {
		case err != nil:
			return "", "", fmt.Errorf("cannot read %s: %w", kind, err)
		case kind == "text/html":
			return "", string(text), nil
		case strings.HasPrefix(kind, "text/"):
			return string(text), "", nil
		}
		return "", "", nil
	}
	if depth == maxDepth {
		return "", "", fmt.Errorf("cannot read %s: more than %d parts within parts", kind, maxDepth)
	}
	parts := multipart.NewReader(body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return plain, markup, nil
		}
		if err != nil {
			return "", "", fmt.Errorf("cannot read %s: %w", kind, err)
		}
		p, h, err := readPart(part.Header, part, depth+1)
		if err != nil {
			return "", "", err
		}
		if plain == "" {
			plain = p
		}
		if markup == "" {
			markup = h
		}
	}
}

func decoded(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	}
	return body
}

var (
	hidden = regexp.MustCompile(`(?is)<(style|script|head)\b.*?</(style|script|head)>|<!--.*?-->`)
	tags   = regexp.MustCompile(`(?s)<[^>]*>`)
	blanks = regexp.MustCompile(`[ \t\r\n\x{a0}]+`)
)

// readable turns HTML into the words in it.
func readable(markup string) string {
	text := tags.ReplaceAllString(hidden.ReplaceAllString(markup, " "), " ")
	return strings.TrimSpace(blanks.ReplaceAllString(html.UnescapeString(text), " "))
}
