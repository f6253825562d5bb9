package api_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience bounds every wait of the tests.
const patience = 20 * time.Second

// rawClient speaks the protocol without any help: one request, one answer.
type rawClient struct {
	t      testing.TB
	conn   net.Conn
	format *kmsg.RequestFormatter
	next   int32
}

func dialRaw(t testing.TB, addr string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawClient{t: t, conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))}
}

// send writes a request and gives its correlation number.
func (c *rawClient) send(req kmsg.Request) int32 {
	c.t.Helper()
	c.next++
	if _, err := c.conn.Write(c.format.AppendRequest(nil, req, c.next)); err != nil {
		c.t.Fatal(err)
	}
	return c.next
}

// frame reads one answer, header and all.
func (c *rawClient) frame() (correlation int32, body []byte, err error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err = io.ReadFull(c.conn, body)
	return int32(binary.BigEndian.Uint32(head[4:])), body, err
}

// ask sends a request, and reads its answer strictly: every byte must have a meaning.
func (c *rawClient) ask(req kmsg.Request) kmsg.Response {
	c.t.Helper()
	want := c.send(req)
	got, body, err := c.frame()
	if err != nil {
		c.t.Fatalf("%s %d: no answer: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if got != want {
		c.t.Fatalf("%s %d: answer to request %d, want %d", kmsg.NameForKey(req.Key()), req.GetVersion(), got, want)
	}
	return c.decode(req, body)
}

func (c *rawClient) decode(req kmsg.Request, body []byte) kmsg.Response {
	c.t.Helper()
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16() {
		if body[0] != 0 {
			c.t.Fatalf("%s %d: response header has tags: %x", kmsg.NameForKey(req.Key()), req.GetVersion(), body)
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("%s %d: cannot read answer: %v\n%x", kmsg.NameForKey(req.Key()), req.GetVersion(), err, body)
	}
	if again := resp.AppendTo(nil); string(again) != string(body) {
		c.t.Fatalf("%s %d: answer is\n%x, read and written again it is\n%x", kmsg.NameForKey(req.Key()), req.GetVersion(), body, again)
	}
	return resp
}

// closed waits until the broker closes the connection.
func (c *rawClient) closed() {
	c.t.Helper()
	if _, body, err := c.frame(); err == nil {
		c.t.Fatalf("connection is answered with %x, want it closed", body)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("connection stays open, want it closed")
	}
}
