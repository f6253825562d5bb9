package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/broker/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handlerFunc is a Handler.
type handlerFunc func(*wire.Request)

func (f handlerFunc) Serve(r *wire.Request) { f(r) }

func allVersions(_ *wire.Session, key int16) (int16, int16, bool) {
	switch key {
	case 0, 1, 3, 12, 18, 19, 42:
		return 0, kmsg.RequestForKey(key).MaxVersion(), true
	}
	return 0, 0, false
}

func TestNewRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := wire.Options{Listeners: []wire.Listener{{Net: l}}, Handler: handlerFunc(echo), Versions: allVersions}
	if _, err := wire.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*wire.Options){
		"no listener":    func(o *wire.Options) { o.Listeners = nil },
		"no socket":      func(o *wire.Options) { o.Listeners = []wire.Listener{{}} },
		"no handler":     func(o *wire.Options) { o.Handler = nil },
		"no versions":    func(o *wire.Options) { o.Versions = nil },
		"negative limit": func(o *wire.Options) { o.MaxInFlight = -1 },
		"unknown key": func(o *wire.Options) {
			o.Versions = func(_ *wire.Session, key int16) (int16, int16, bool) { return 0, 0, key == 4 }
		},
		"version too high": func(o *wire.Options) {
			o.Versions = func(_ *wire.Session, key int16) (int16, int16, bool) { return 0, 99, key == 18 }
		},
	} {
		o := good
		change(&o)
		if _, err := wire.New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// start runs a server on loopback until the test ends and gives its address.
func start(t testing.TB, o wire.Options) string {
	t.Helper()
	addr, _ := startStop(t, o)
	return addr
}

func startStop(t testing.TB, o wire.Options) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), startOn(t, l, o)
}

// startOn runs a server on l until the test ends, or the function that it gives is called.
func startOn(t testing.TB, l net.Listener, o wire.Options) (stop func()) {
	t.Helper()
	o.Listeners = []wire.Listener{{Name: "PLAINTEXT", Net: l}}
	if o.Versions == nil {
		o.Versions = allVersions
	}
	if o.Grace == 0 {
		o.Grace = 200 * time.Millisecond
	}
	s, err := wire.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

// client speaks to a server byte by byte.
type client struct {
	t testing.TB
	net.Conn
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil { // a busy machine, the race detector
		t.Fatal(err)
	}
	return &client{t: t, Conn: c}
}

func encode(req kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, correlation)
}

func (c *client) send(reqs ...[]byte) {
	c.t.Helper()
	if _, err := c.Write(bytes.Join(reqs, nil)); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one frame: the correlation ID and what follows it.
func (c *client) answer() (int32, []byte) {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:]
}

// closed waits for the server to close the connection without another byte.
func (c *client) closed() {
	c.t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("connection is not closed: %d bytes, %v", n, err)
	}
}

func heartbeat(group string, version int16) kmsg.Request {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Version, r.Group, r.MemberID = version, group, "m"
	return r
}

// echo answers a heartbeat at once.
func echo(r *wire.Request) { r.Answer(wire.Message(r.Body.ResponseKind(), 0)) }

func TestAnswersLeaveInOrder(t *testing.T) {
	const n = 50
	var mu sync.Mutex
	var parked []*wire.Request
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		mu.Lock()
		defer mu.Unlock()
		parked = append(parked, r)
		if len(parked) < n {
			return
		}
		// the last request answers all, from the last to the first and some from elsewhere
		for i := len(parked) - 1; i >= 0; i-- {
			if i%2 == 0 {
				go echo(parked[i])
				continue
			}
			echo(parked[i])
		}
	})})
	c := dial(t, addr)
	var all [][]byte
	for i := range n {
		all = append(all, encode(heartbeat("g", int16(i%5)), int32(i)))
	}
	c.send(all...)
	for i := range n {
		id, body := c.answer()
		if id != int32(i) {
			t.Fatalf("answer %d has correlation ID %d", i, id)
		}
		want := 2 // error code
		if i%5 >= 1 {
			want += 4
		}
		if i%5 >= 4 {
			want += 2 // tags of header and body
		}
		if len(body) != want {
			t.Errorf("answer of version %d has %d bytes, want %d", i%5, len(body), want)
		}
	}
}

func TestRequestAsTheHandlerSeesIt(t *testing.T) {
	got := make(chan *wire.Request, 1)
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		got <- r
		echo(r)
	})})
	c := dial(t, addr)
	v := kmsg.NewPtrApiVersionsRequest()
	v.Version, v.ClientSoftwareName, v.ClientSoftwareVersion = 3, "apache-kafka-java", "3.9.0"
	c.send(encode(v, 7))
	r := <-got
	if r.Key != 18 || r.Version != 3 || r.Correlation != 7 || *r.ClientID != "test" || r.Session.Software != "apache-kafka-java" || r.Session.Listener != "PLAINTEXT" {
		t.Errorf("%+v", r)
	}
	id, body := c.answer()
	if id != 7 {
		t.Errorf("correlation ID %d", id)
	}
	var resp kmsg.ApiVersionsResponse
	resp.Version = 3
	// the header has no tags, though version 3 is flexible
	if err := resp.ReadFrom(body); err != nil || !bytes.Equal(resp.AppendTo(nil), body) {
		t.Errorf("%v: %x", err, body)
	}
}

func TestUnknownVersions(t *testing.T) {
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		if r.Unsupported != (r.Correlation == 1) || r.Unsupported && r.Version != 0 {
			t.Errorf("%+v", r)
		}
		resp := r.Body.ResponseKind()
		if r.Unsupported {
			resp.(*kmsg.ApiVersionsResponse).ErrorCode = 35
		}
		r.Answer(wire.Message(resp, 0))
	})})
	c := dial(t, addr)
	c.send([]byte{0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 1, 9, 9, 9, 9}) // a header from the future
	if id, body := c.answer(); id != 1 || !bytes.Equal(body, []byte{0, 35, 0, 0, 0, 0}) {
		t.Errorf("%d %x", id, body)
	}
	// what came before is answered, then the connection is closed
	unknown := []byte{0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 3, 0xff, 0xff}
	c.send(encode(heartbeat("g", 0), 2), unknown)
	if id, _ := c.answer(); id != 2 {
		t.Errorf("correlation ID %d", id)
	}
	c.closed()
	c = dial(t, addr)
	c.send([]byte{0, 0, 0, 10, 0, 12, 0, 99, 0, 0, 0, 3, 0xff, 0xff}) // heartbeat version 99
	c.closed()
}

// settled waits until f holds in five looks in a row.
func settled(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n < 5; {
		<-tick.C
		if n++; !f() {
			n = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("never settles")
		}
	}
}

func produce(acks int16, records []byte) kmsg.Request {
	r := kmsg.NewPtrProduceRequest()
	r.Version, r.Acks = 7, acks
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "t"
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = records
	topic.Partitions = append(topic.Partitions, p)
	r.Topics = append(r.Topics, topic)
	return r
}

func TestAnswerNothingAndDrop(t *testing.T) {
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		switch {
		case r.Key == 0:
			r.AnswerNothing()
		case r.Correlation == 3:
			r.Drop(errors.New("enough"))
		default:
			echo(r)
		}
	})})
	c := dial(t, addr)
	c.send(encode(produce(0, []byte("x")), 1), encode(heartbeat("g", 0), 2), encode(heartbeat("g", 0), 3), encode(heartbeat("g", 0), 4))
	if id, _ := c.answer(); id != 2 {
		t.Errorf("correlation ID %d", id)
	}
	c.closed()
}

func TestPanicClosesOnlyItsConnection(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	addr, stop := startStop(t, wire.Options{RequestMemory: 4 << 20, Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)), Handler: handlerFunc(func(r *wire.Request) {
		if r.Key == 0 {
			panic("BUG: broken on purpose")
		}
		echo(r)
	})})
	defer stop()
	other := dial(t, addr)
	for range 5 { // more than the memory holds, if a panic kept it
		c := dial(t, addr)
		c.send(encode(produce(1, make([]byte, 900_000)), 1))
		c.closed()
	}
	other.send(encode(heartbeat("g", 0), 1))
	if id, _ := other.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
	stop()
	mu.Lock()
	defer mu.Unlock()
	if s := log.String(); !bytes.Contains([]byte(s), []byte("broken on purpose")) || !bytes.Contains([]byte(s), []byte("server_test.go")) {
		t.Errorf("no line with a stack: %s", s)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// TestShutdownSendsWhatIsOwed: an answer that is ready within the grace still leaves.
func TestShutdownSendsWhatIsOwed(t *testing.T) {
	parked := make(chan *wire.Request, 2)
	addr, stop := startStop(t, wire.Options{Grace: 5 * time.Second, Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	c := dial(t, addr)
	c.send(encode(heartbeat("g", 0), 1))
	r := <-parked
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	settled(t, func() bool {
		d, err := net.Dial("tcp", addr)
		if err == nil {
			_ = d.Close()
		}
		return err != nil
	})
	echo(r)
	if id, _ := c.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
	c.closed()
	<-stopped
}

// TestShutdownResetsWhoWasNeverServed: the end of the stream as the first thing that a client reads
// looks like a refusal to it, after which it does not try again.
func TestShutdownResetsWhoWasNeverServed(t *testing.T) {
	addr, stop := startStop(t, wire.Options{Handler: handlerFunc(echo)})
	fresh, served := dial(t, addr), dial(t, addr)
	served.send(encode(heartbeat("g", 0), 1)) // its answer tells that both were accepted
	served.answer()
	go stop()
	if _, err := fresh.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("who was never served reads %v", err)
	}
	if _, err := served.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who was served reads %v", err)
	}
}

func TestShutdownGraceEnds(t *testing.T) {
	parked := make(chan *wire.Request, 2)
	addr, stop := startStop(t, wire.Options{Grace: 50 * time.Millisecond, Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	c := dial(t, addr)
	c.send(encode(heartbeat("g", 0), 1))
	r := <-parked
	stop()
	c.closed()
	<-r.Context().Done()
	var released atomic.Int32
	r.Answer(wire.Pieces([]wire.Piece{{Bytes: []byte("late"), Release: func() { released.Add(1) }}}, 0))
	if released.Load() != 1 {
		t.Error("a late answer is not released")
	}
}

func TestTwoAnswersAreABug(t *testing.T) {
	panicked := make(chan any, 1)
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		echo(r)
		defer func() { panicked <- recover() }()
		echo(r)
	})})
	c := dial(t, addr)
	c.send(encode(heartbeat("g", 0), 1))
	if <-panicked == nil {
		t.Error("the second answer is taken")
	}
	c.answer()
}

// TestLastAnswerSurvivesTheClose: unread requests must not make the close destroy an answer on its way.
func TestLastAnswerSurvivesTheClose(t *testing.T) {
	blob := bytes.Repeat([]byte("answer "), 10_000)
	dropped := make(chan struct{})
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		if r.Correlation == 1 {
			r.Answer(wire.Pieces([]wire.Piece{{Bytes: blob}}, 0))
			return
		}
		r.Drop(errors.New("enough"))
		if r.Correlation == 2 {
			close(dropped)
		}
	})})
	c := dial(t, addr)
	c.send(encode(heartbeat("g", 0), 1), encode(heartbeat("g", 0), 2))
	<-dropped
	for range 200 { // more than the server reads before it knows
		if _, err := c.Write(encode(heartbeat("g", 0), 3)); err != nil {
			break
		}
	}
	if id, body := c.answer(); id != 1 || !bytes.Equal(body, blob) {
		t.Errorf("correlation ID %d, %d bytes", id, len(body))
	}
	c.closed()
}
