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
	"path/filepath"
	"sync"
	"sync/atomic"
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

func allVersions(key int16) (int16, int16, bool) {
	if key == 4 {
		return 0, 0, false
	}
	if r := kmsg.RequestForKey(key); r != nil {
		return 0, r.MaxVersion(), true
	}
	return 0, 0, false
}

// start runs a server on loopback until the test ends and gives its address.
func start(t testing.TB, o wire.Options) string {
	t.Helper()
	addr, stop := startStop(t, o)
	t.Cleanup(stop)
	return addr
}

func startStop(t testing.TB, o wire.Options) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	return l.Addr().String(), sync.OnceFunc(func() {
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
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
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

func TestHostileFrames(t *testing.T) {
	addr := start(t, wire.Options{Handler: handlerFunc(echo), MaxRequestBytes: 4 << 20})
	good := encode(heartbeat("group", 4), 1)
	bigFetch := append([]byte{0, 0x10, 0, 1, 0, 1, 0, 4}, make([]byte, 20)...)
	for name, b := range map[string][]byte{
		"size zero":                 {0, 0, 0, 0},
		"size negative":             {0x80, 0, 0, 0},
		"size of http":              []byte("GET / HTTP/1.1\r\n\r\n"),
		"size above the limit":      {0, 0x40, 0, 1},
		"size too small":            {0, 0, 0, 9, 0, 12, 0, 0, 0, 0, 0, 0, 0},
		"fetch above 1 MiB":         bigFetch,
		"body cut":                  append([]byte{0, 0, 0, 12}, good[4:16]...),
		"client ID beyond frame":    {0, 0, 0, 10, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1},
		"client ID of length -2":    {0, 0, 0, 10, 0, 12, 0, 0, 0, 0, 0, 0, 0xff, 0xfe},
		"tag bomb in header":        {0, 0, 0, 15, 0, 12, 0, 4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"tag bomb in ApiVersions":   {0, 0, 0, 18, 0, 18, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"array of a billion topics": {0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			c := dial(t, addr)
			c.send(b)
			c.closed()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	c := dial(t, addr)
	c.send(good)
	if id, _ := c.answer(); id != 1 {
		t.Error("the good frame is not answered")
	}
}

func TestSlowReaderIsNotRead(t *testing.T) {
	var served atomic.Int32
	blob := make([]byte, 1<<20)
	addr := start(t, wire.Options{MaxInFlight: 4, Handler: handlerFunc(func(r *wire.Request) {
		served.Add(1)
		r.Answer(wire.Pieces([]wire.Piece{{Bytes: blob}}, 0))
	})})
	c := dial(t, addr)
	const n = 100
	go func() {
		for i := range n {
			if _, err := c.Write(encode(heartbeat("g", 0), int32(i))); err != nil {
				return
			}
		}
	}()
	// the server takes some, then stands still
	var last int32
	settled(t, func() bool {
		now := served.Load()
		same := now == last && now > 0
		last = now
		return same
	})
	if got := served.Load(); got > 60 {
		t.Errorf("%d MiB of answers are owed to a client that does not read", got)
	}
	for i := range n {
		if id, body := c.answer(); id != int32(i) || len(body) != len(blob) {
			t.Fatalf("answer %d: correlation ID %d, %d bytes", i, id, len(body))
		}
	}
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

// TestMemoryBudget: frames wait for memory, other requests do not starve behind them, and it comes back.
func TestMemoryBudget(t *testing.T) {
	const n = 6
	parked := make(chan *wire.Request, n)
	addr := start(t, wire.Options{RequestMemory: 12 << 20, Handler: handlerFunc(func(r *wire.Request) {
		if r.Key == 0 {
			parked <- r
			return
		}
		echo(r)
	})})
	frame := encode(produce(-1, bytes.Repeat([]byte{7}, 900_000)), 1) // takes 1 MiB; there are 2.6 for it
	var clients []*client
	for range n {
		c := dial(t, addr)
		go func() { _, _ = c.Write(frame) }() // what the server does not read may block
		clients = append(clients, c)
	}
	settled(t, func() bool { return len(parked) == 2 })
	other := dial(t, addr)
	other.send(encode(heartbeat("g", 0), 5))
	if id, _ := other.answer(); id != 5 {
		t.Error("the heartbeat starves")
	}
	for range n {
		r := <-parked
		if got := r.Body.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records; len(got) != 900_000 || bytes.Count(got, []byte{7}) != len(got) {
			t.Error("records are damaged")
		}
		echo(r)
	}
	for _, c := range clients {
		if id, _ := c.answer(); id != 1 {
			t.Errorf("correlation ID %d", id)
		}
	}
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

func TestIdle(t *testing.T) {
	parked := make(chan *wire.Request, 1)
	addr := start(t, wire.Options{IdleTimeout: func() time.Duration { return 150 * time.Millisecond }, Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	begin := time.Now()
	quiet := dial(t, addr)
	busy := dial(t, addr)
	busy.send(encode(heartbeat("g", 0), 1))
	r := <-parked
	quiet.closed()
	if took := time.Since(begin); took < 140*time.Millisecond || took > 5*time.Second {
		t.Errorf("closed after %s", took)
	}
	// something is owed for longer than the timeout
	half := dial(t, addr)
	half.closed()
	echo(r)
	if id, _ := busy.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
	busy.closed()
}

func TestLimits(t *testing.T) {
	var perIP atomic.Int32
	perIP.Store(2)
	addr := start(t, wire.Options{Handler: handlerFunc(echo), MaxPerIP: func() int { return int(perIP.Load()) }, MaxConnections: func() int { return 3 }})
	ping := func(c *client) {
		t.Helper()
		c.send(encode(heartbeat("g", 0), 1))
		c.answer()
	}
	a, b := dial(t, addr), dial(t, addr)
	ping(a)
	ping(b)
	dial(t, addr).closed()
	perIP.Store(100)
	c := dial(t, addr)
	ping(c)
	dial(t, addr).closed() // the total
	_ = a.Close()
	settled(t, func() bool {
		d, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer d.Close()
		_ = d.SetDeadline(time.Now().Add(time.Second))
		_, err = d.Write(encode(heartbeat("g", 0), 1))
		if err == nil {
			_, err = io.ReadFull(d, make([]byte, 10))
		}
		return err == nil
	})
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

// TestFiles sends pieces of every kind and size, from one file and on several connections at once.
func TestFiles(t *testing.T) {
	content := make([]byte, 24<<20)
	for i := range content {
		content[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i*7)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	parts := [][2]int{{0, 10}, {3, 16 << 10}, {5, 16<<10 + 1}, {100_000, 20 << 20}, {7, 0}, {1 << 20, 300_000}}
	var released atomic.Int32
	serve := func(r *wire.Request) {
		ps := []wire.Piece{{Bytes: []byte("head"), Release: func() { released.Add(1) }}}
		for _, p := range parts {
			readAt := func(b []byte, at int64) (int, error) { return copy(b, content[p[0]+int(at):]), nil }
			file := wire.Piece{File: f, Pos: int64(p[0]), Len: p[1], Release: func() { released.Add(1) }}
			memory := wire.Piece{Len: p[1], ReadAt: readAt, Release: func() { released.Add(1) }}
			ps = append(ps, file, wire.Piece{Bytes: content[p[0] : p[0]+p[1]]}, memory)
		}
		r.Answer(wire.Pieces(ps, 0))
	}
	want := []byte("head")
	for _, p := range parts {
		for range 3 {
			want = append(want, content[p[0]:p[0]+p[1]]...)
		}
	}
	addr := start(t, wire.Options{Handler: handlerFunc(serve)})
	var wg sync.WaitGroup
	for range 3 {
		c := dial(t, addr)
		wg.Go(func() {
			c.send(encode(heartbeat("g", 4), 9), encode(heartbeat("g", 0), 10))
			if id, body := c.answer(); id != 9 || body[0] != 0 || !bytes.Equal(body[1:], want) {
				t.Error("flexible answer is damaged")
			}
			if id, body := c.answer(); id != 10 || !bytes.Equal(body, want) {
				t.Error("answer is damaged")
			}
		})
	}
	wg.Wait()
	settled(t, func() bool { return released.Load() == int32(3*2*(1+2*len(parts))) })
}

// TestShortFileClosesTheConnection: a frame that was promised larger cannot be mended.
func TestShortFileClosesTheConnection(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(50_000); err != nil {
		t.Fatal(err)
	}
	var released atomic.Int32
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		r.Answer(wire.Pieces([]wire.Piece{{File: f, Len: int(r.Correlation), Release: func() { released.Add(1) }}}, 0))
	})})
	for _, size := range []int32{50_001, 200_000} {
		c := dial(t, addr)
		c.send(encode(heartbeat("g", 0), size))
		b, err := io.ReadAll(c)
		if len(b) > 8+50_000 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	settled(t, func() bool { return released.Load() == 2 })
}

// TestClientLeaves: what was owed is released exactly once, whether it was answered before or after.
func TestClientLeaves(t *testing.T) {
	const n = 20
	var released [n]atomic.Int32
	parked := make(chan *wire.Request, n)
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	c := dial(t, addr)
	for i := range n {
		c.send(encode(heartbeat("g", 0), int32(i)))
	}
	answer := func(r *wire.Request) {
		r.Answer(wire.Pieces([]wire.Piece{{Bytes: make([]byte, 100), Release: func() { released[r.Correlation].Add(1) }}}, 0))
	}
	first := <-parked // never sent: it stands before all others
	for range n / 2 {
		answer(<-parked)
	}
	_ = c.Close()
	<-first.Context().Done()
	for range n - 1 - n/2 {
		answer(<-parked)
	}
	answer(first)
	settled(t, func() bool {
		for i := range released {
			if released[i].Load() != 1 {
				return false
			}
		}
		return true
	})
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

func BenchmarkRequests(b *testing.B) {
	addr := start(b, wire.Options{Handler: handlerFunc(echo)})
	one := encode(heartbeat("group", 4), 1)
	for _, depth := range []int{1, 32} {
		b.Run(map[int]string{1: "one at a time", 32: "pipelined"}[depth], func(b *testing.B) {
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			many := bytes.Repeat(one, depth)
			buf := make([]byte, depth*(4+4+1+7))
			b.ReportAllocs()
			for i := 0; i < b.N; i += depth {
				c.send(many)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "segment"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	for name, piece := range map[string]wire.Piece{
		"sendfile": {File: f, Len: size},
		"copy":     {Len: size, ReadAt: f.ReadAt},
	} {
		b.Run(name, func(b *testing.B) {
			addr := start(b, wire.Options{Handler: handlerFunc(func(r *wire.Request) { r.Answer(wire.Pieces([]wire.Piece{piece}, 0)) })})
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			one := encode(heartbeat("group", 0), 1)
			buf := make([]byte, 8+size)
			b.SetBytes(size)
			for b.Loop() {
				c.send(one)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
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

// TestLanes: neither a large frame that does not arrive nor requests that nobody answers stop those of other kinds.
func TestLanes(t *testing.T) {
	var parked atomic.Int32
	addr := start(t, wire.Options{RequestMemory: 16 << 20, Handler: handlerFunc(func(r *wire.Request) {
		if r.Size > 16<<10 && r.Key == 12 {
			parked.Add(1)
			return
		}
		echo(r)
	})})
	stalled := dial(t, addr)
	large := encode(produce(-1, make([]byte, 8<<20)), 1)
	stalled.send(large[:4<<20])
	for range 3 {
		c := dial(t, addr)
		go func() {
			for i := range 60 {
				if _, err := c.Write(encode(heartbeat(string(make([]byte, 20<<10)), 0), int32(i))); err != nil {
					return
				}
			}
		}()
	}
	var last int32
	settled(t, func() bool { // 180 requests of 20 KiB are sent, 2 MiB is all there is
		now := parked.Load()
		same := now == last && now > 0
		last = now
		return same
	})
	if last >= 110 {
		t.Errorf("%d requests of 20 KiB are held by 2 MiB", last)
	}
	c := dial(t, addr)
	c.send(encode(produce(-1, make([]byte, 500_000)), 1), encode(heartbeat("g", 0), 2))
	for id := range int32(2) {
		if got, _ := c.answer(); got != id+1 {
			t.Errorf("correlation ID %d", got)
		}
	}
	stalled.send(large[4<<20:])
	if id, _ := stalled.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
}
