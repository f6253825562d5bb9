package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// got is one request that a sink took.
type got struct {
	header http.Header
	query  string
	body   string
}

// httpSink takes requests and notes them. It can refuse and hang.
type httpSink struct {
	*httptest.Server
	mu     sync.Mutex
	all    []got
	tries  int
	status int           // answer, default 200
	answer string        // body of the answer
	hang   chan struct{} // while not nil, no answer until it is closed
}

func newHTTPSink(t *testing.T) *httpSink {
	s := &httpSink{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.tries++
		status, answer, hang := s.status, s.answer, s.hang
		s.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-r.Context().Done():
				return
			}
		}
		if status/100 == 2 {
			s.mu.Lock()
			s.all = append(s.all, got{header: r.Header.Clone(), query: r.URL.String(), body: string(body)})
			s.mu.Unlock()
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(func() {
		s.set(http.StatusOK, "", nil)
		s.Close()
	})
	return s
}

func (s *httpSink) set(status int, answer string, hang chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer, s.hang = status, answer, hang
}

func (s *httpSink) taken() []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]got(nil), s.all...)
}

func (s *httpSink) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

// mailSink is a small SMTP server with STARTTLS and AUTH PLAIN.
type mailSink struct {
	addr     string
	caFile   string
	mu       sync.Mutex
	mails    []string
	faults   []string
	silent   bool // accepts and says nothing
	tolerant bool // clients that go wrong are what the test is about
}

const mailUser, mailPassword = "belfry", "tower"

func newMailSink(t *testing.T) *mailSink {
	t.Helper()
	cert, caFile := selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailSink{addr: l.Addr().String(), caFile: caFile}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { s.serve(conn, cert) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
		if len(s.faults) > 0 && !s.tolerant {
			t.Errorf("mail sink: %v", s.faults)
		}
	})
	return s
}

func (s *mailSink) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

func (s *mailSink) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *mailSink) serve(conn net.Conn, cert tls.Certificate) {
	defer conn.Close()
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	in, secure, loggedIn := bufio.NewReader(conn), false, false
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	say("220 sink")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0])
		switch {
		case verb == "EHLO" && !secure:
			say("250-sink\r\n250 STARTTLS")
		case verb == "EHLO":
			say("250-sink\r\n250 AUTH PLAIN")
		case verb == "STARTTLS":
			say("220 go")
			over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			if err := over.Handshake(); err != nil {
				s.fault("handshake: %v", err)
				return
			}
			conn, in, secure = over, bufio.NewReader(over), true
		case verb == "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "AUTH PLAIN "))
			if loggedIn = string(raw) == "\x00"+mailUser+"\x00"+mailPassword; !loggedIn {
				say("535 who are you?")
				continue
			}
			say("235 welcome")
		case verb == "MAIL" || verb == "RCPT":
			if !secure || !loggedIn {
				s.fault("%s before TLS and log-in", verb)
			}
			say("250 ok")
		case verb == "DATA":
			say("354 go")
			var mail strings.Builder
			for {
				text, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if text == ".\r\n" {
					break
				}
				mail.WriteString(text)
			}
			s.mu.Lock()
			s.mails = append(s.mails, mail.String())
			s.mu.Unlock()
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("500 what?")
		}
	}
}

// selfSigned makes a certificate for 127.0.0.1 and the file to trust it with.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	plan := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, plan, plan, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
