package wire_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/wire"
)

// TestCounts: all bytes on the socket, connections, and each answered request with its error.
func TestCounts(t *testing.T) {
	st := stats.New()
	addr, stop := startStop(t, wire.Options{Stats: st, MaxPerIP: func() int { return 1 }, Handler: handlerFunc(func(r *wire.Request) {
		if r.Key == 0 {
			r.AnswerNothing()
			return
		}
		r.Answer(wire.Message(r.Body.ResponseKind(), 25))
	})})
	defer stop()
	c := dial(t, addr)
	request := encode(heartbeat("g", 0), 1)
	quiet := encode(produce(0, []byte("x")), 2)
	c.send(request, quiet, request)
	c.answer()
	c.answer()
	dial(t, addr).closed()
	_ = c.Close()
	stop()
	var b bytes.Buffer
	st.WriteAll(&b)
	for _, want := range []string{
		`belfry_connections{.*} 0`,
		`belfry_connections_accepted_total{.*} 1`,
		`belfry_connections_refused_total{.*} 1`,
		`belfry_listener_in_bytes_total{.*} ` + strconv.Itoa(2*len(request)+len(quiet)),
		`belfry_listener_out_bytes_total{.*} 20`,
		`belfry_request_errors_total{.*Heartbeat.*25.*} 2`,
		`belfry_request_bytes_total{.*Heartbeat.*} ` + strconv.Itoa(2*len(request)),
		`belfry_response_bytes_total{.*Heartbeat.*} 20`,
		`belfry_request_bytes_total{.*Produce.*} ` + strconv.Itoa(len(quiet)),
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).Match(b.Bytes()) {
			t.Errorf("no line %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(b.String()) {
			if strings.Contains(line, "conn") || strings.Contains(line, "listener") || strings.Contains(line, "bytes") || strings.Contains(line, "errors") {
				t.Log(line)
			}
		}
	}
}
