package watch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// patience is the longest that anything awaited may take on a machine that is busy with other things.
const patience = 60 * time.Second

// eventually waits until f says yes; what it waits for stands in the failure.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	begin := time.Now()
	defer func() { told(t, begin, what) }()
	limit := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// told logs what took long.
func told(t testing.TB, begin time.Time, what string) {
	t.Helper()
	if took := time.Since(begin); took > 3*time.Second {
		t.Logf("%v: %s", took.Round(time.Millisecond), what)
	}
}

// notice is one thing that was said to a receiver.
type notice struct {
	sink.Message
	rule, object string
	over         bool
	key          string // the same when the same thing is sent again
}

func (n notice) String() string {
	state := "alarm"
	if n.over {
		state = "over"
	}
	return n.rule + ", " + n.object + ", " + state
}

// ear keeps what came to one receiver.
type ear struct {
	name string
	mu   struct {
		sync.Mutex
		heard []notice
	}
}

// sinker is a receiver of package sink.
type sinker interface {
	Listen(address string) (string, error)
	Run(ctx context.Context) error
	Messages() <-chan sink.Message
}

// listen runs a receiver until the test ends, at an address ("" = a free one), and gives where to send.
func listen(t testing.TB, name, address string, s sinker, read func(sink.Message) ([]notice, error)) (*ear, string) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	at, err := s.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{name: name}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	parts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-s.Messages():
				all, err := read(m)
				if err != nil || len(all) == 0 {
					t.Errorf("%s: %v in %q", name, err, m.Text)
				}
				e.mu.Lock()
				e.mu.heard = append(e.mu.heard, all...)
				e.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { cancel(); parts.Wait() })
	return e, at
}

// of gives what was heard of a rule and its object, in order.
func (e *ear) of(rule, object string, over bool) []notice {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []notice
	for _, n := range e.mu.heard {
		if n.rule == rule && strings.Contains(n.object, object) && n.over == over {
			all = append(all, n)
		}
	}
	return all
}

// tally counts what was heard of some rules.
func (e *ear) tally(rules ...string) map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	sums := map[string]int{}
	for _, n := range e.mu.heard {
		if slices.Contains(rules, n.rule) {
			sums[n.String()]++
		}
	}
	return sums
}

// hookBody is the part of a webhook's JSON that a program behind it needs.
type hookBody struct {
	IdempotencyKey string `json:"idempotencyKey"`
	Alerts         []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		StartsAt    time.Time         `json:"startsAt"`
		EndsAt      time.Time         `json:"endsAt"`
	} `json:"alerts"`
}

func readHook(m sink.Message) ([]notice, error) {
	var body hookBody
	if err := json.Unmarshal([]byte(m.Text), &body); err != nil {
		return nil, err
	}
	var all []notice
	for _, a := range body.Alerts {
		all = append(all, notice{Message: m, rule: a.Labels["alertname"], object: a.Annotations["object"], over: a.Status == "resolved", key: body.IdempotencyKey})
	}
	return all, nil
}

// head is how what people read begins: "[CRITICAL] rule: object, value 81 %".
var head = regexp.MustCompile(`^\[([A-Z]+)\] ([a-z0-9_-]+): (.*?)(, value|, no data|, over|, since|$)`)

func readHead(m sink.Message, text, key string) ([]notice, error) {
	f := head.FindStringSubmatch(text)
	if f == nil {
		return nil, fmt.Errorf("no head in %q", text)
	}
	return []notice{{Message: m, rule: f[2], object: f[3], over: f[1] == "OK", key: key}}, nil
}

func readMail(m sink.Message) ([]notice, error) {
	return readHead(m, m.Subject, strings.Join(m.Header["Message-Id"], " "))
}

func readSMS(m sink.Message) ([]notice, error) {
	return readHead(m, m.Text, strings.Join(m.Header["Idempotency-Key"], " "))
}

// credentials are a mailbox's certificate and what trusts it.
type credentials struct {
	server *tls.Config
	ca     string // PEM file
	own    string // PEM file of key and certificate
}

func newCredentials(t testing.TB) credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "loopback"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return credentials{
		server: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		ca:     write(t, "ca.pem", certificate),
		own:    write(t, "own.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))+certificate),
	}
}

// mailbox is one that asks for STARTTLS and a password.
func (c credentials) mailbox() *sink.Mailbox {
	return sink.NewMailbox(sink.MailboxOptions{User: "belfry", Password: "s3cret", TLS: c.server, RequireTLS: true})
}

// gateways is the SMS file with one gateway.
func gateways(t testing.TB, url, receiver string) string {
	t.Helper()
	return write(t, "sms.yaml", fmt.Sprintf(`sms:
  - receiver: %s
    url: %q
    headers: {Idempotency-Key: "{{ .Key }}"}
    json: {to: "{{ .To }}", text: "{{ .Text }}"}
    recipients: ["+4915100000001"]
    rate: none
    success: {status: 201}
`, receiver, url))
}

// quiet turns the rules about the machine off: how busy it is is not what the tests are about.
const quiet = `rules:
  - {name: broker_cpu_core_load, enabled: false}
  - {name: broker_cpu_usage, enabled: false}
  - {name: broker_memory_usage, enabled: false}
  - {name: collector_timeouts, enabled: false}
`

// backlogRule is a rule of the user's own.
const backlogRule = `  - name: backlog
    summary: Orders pile up
    metric: topic_messages_remained
    condition: "> 100"
    severity: major
    advice: Add a consumer to the group.
`

func write(t testing.TB, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// quick are settings under which alarms come within seconds.
func quick(more map[string]string) map[string]string {
	all := map[string]string{"agent.period": "1s", "offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "0"}
	maps.Copy(all, more)
	return all
}

// page is one scrape.
type page map[string]*dto.MetricFamily

// scrape reads /metrics; nil while nobody answers.
func scrape(t testing.TB, n *nodetest.Node) page {
	t.Helper()
	code, body := n.HTTP("/metrics")
	if code != 200 {
		return nil
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("/metrics cannot be read: %v", err)
	}
	return families
}

// value gives the only series of a metric with these labels (name, value, name, value …).
func (p page) value(id string, labels ...string) (float64, bool) {
	found, n := 0.0, 0
	for _, m := range p[id].GetMetric() {
		have := map[string]string{}
		for _, l := range m.Label {
			have[l.GetName()] = l.GetValue()
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && have[labels[i]] == labels[i+1]
		}
		if fits {
			found, n = m.GetGauge().GetValue()+m.GetCounter().GetValue()+m.GetUntyped().GetValue(), n+1
		}
	}
	return found, n == 1
}

// awaitValue waits until a series has a value that f likes.
func awaitValue(t testing.TB, n *nodetest.Node, f func(float64) bool, id string, labels ...string) {
	t.Helper()
	begin, last := time.Now(), "never there"
	defer func() { told(t, begin, id) }()
	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if v, ok := scrape(t, n).value(id, labels...); ok {
			if f(v) {
				return
			}
			last = fmt.Sprint("last ", v)
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s%q did not come within %v: %s", id, labels, patience, last)
		}
	}
}

func equals(want float64) func(float64) bool { return func(v float64) bool { return v == want } }

func atLeast(want float64) func(float64) bool { return func(v float64) bool { return v >= want } }
