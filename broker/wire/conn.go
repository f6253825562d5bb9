package wire

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

const (
	// What a connection that is closed for the client's sake still takes in, unread.
	lingerTime  = 300 * time.Millisecond
	lingerBytes = 4 << 20
)

// conn is one connection. run is its reader, which also sends what is answered on the spot; what is answered later,
// or does not fit the socket, is sent by a goroutine that lives as long as there is something to send.
type conn struct {
	server  *Server
	nc      net.Conn
	in      input
	session *Session
	stats   *stats.Listener
	ctx     context.Context
	cancel  context.CancelCauseFunc

	armed     time.Time      // the read deadline that is set; the reader's
	deferred  int            // answers that wait for the next one; the reader's
	room      chan struct{}  // one token an owed answer; its capacity is the bound of mu.owed
	written   chan struct{}  // closed when nothing will be sent any more
	writers   sync.WaitGroup // the goroutine that sends; begun by the reader, or under mu while not closed
	lastWrite atomic.Int64   // Unix ns
	served    atomic.Bool    // an answer was sent, or tried to

	out sender // of whoever set mu.sending

	mu struct {
		sync.Mutex
		owed     []*Request // in order of arrival
		serving  *Request   // the handler has it; the reader looks for its answer then
		sending  bool       // somebody sends
		over     bool       // written is closed
		unsent   error      // why
		ended    bool       // no request will follow
		closed   bool       // no answer will be sent
		draining bool       // read no more
	}
}

func newConn(ctx context.Context, s *Server, nc net.Conn, session *Session, count *stats.Listener) *conn {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &conn{
		server: s, nc: nc, session: session, stats: count, ctx: ctx, cancel: cancel,
		room: make(chan struct{}, s.o.MaxInFlight), written: make(chan struct{}),
	}
	c.in.init(nc)
	c.out.init(c)
	return c
}

// logger gives the connection's own. Why not kept: most connections never log.
func (c *conn) logger() *slog.Logger { return c.server.o.Logger.With("session", c.session) }

// run serves the connection until it is over.
func (c *conn) run() {
	stop := context.AfterFunc(c.ctx, func() { _ = c.nc.Close() }) // wakes reader and writer; they have the error
	defer stop()
	err := c.guard(c.readAll)
	c.end()
	_ = c.guard(c.replyLast) // what went wrong is logged
	if !gone(err) {
		c.finish()
	}
	// Why the cause first: what the reader saw then is only that the connection was closed.
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.cancel(err)
	_ = c.nc.Close() // again: AfterFunc may not have run yet
	unsent := c.dropOwed()
	c.writers.Wait()
	if unsent != nil && errors.Is(err, errDrained) {
		err = unsent
	}
	c.logEnd(err)
}

// replyLast sends what was answered and still waited for the next answer.
func (c *conn) replyLast() error {
	if c.begin(false) {
		c.reply()
	}
	return nil
}

// finish lets the writer send what came before the end: after a malformed request, or when the server shuts down.
func (c *conn) finish() {
	grace := time.NewTimer(c.server.o.Grace)
	defer grace.Stop()
	select {
	case <-c.written:
	case <-c.ctx.Done():
		return
	case <-grace.C:
		return
	}
	// Why linger: closing with unread bytes resets the connection, and the client loses answers that it has not read.
	tcp, ok := c.nc.(*net.TCPConn)
	if !ok || c.ctx.Err() != nil {
		return
	}
	if _, draining := c.state(); draining && !c.served.Load() {
		// Why a reset: a client whose very first request meets the end of the stream may take that for a
		// refusal (TLS, SASL) and give up; after a reset it tries again. There is no answer to lose.
		_ = tcp.SetLinger(0)
		return
	}
	if tcp.CloseWrite() != nil {
		return
	}
	_ = tcp.SetReadDeadline(time.Now().Add(lingerTime)) // if it fails, so does the read
	_, _ = io.CopyN(io.Discard, tcp, lingerBytes)       // however it ends, the connection is closed next
}

// gone says whether err means that nobody reads answers any more.
func gone(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errPanic) || errors.As(err, &op)
}

func (c *conn) logEnd(err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errDrained), errors.Is(err, errShutdown), errors.Is(err, context.Canceled):
		c.logger().Debug("connection closed")
	case errors.Is(err, errIdle), gone(err):
		c.logger().Debug("connection closed", "error", err)
	default:
		if n, ok := c.server.noteClosed(); ok {
			c.logger().Warn("closed connections", "error", err, "count", n)
		}
	}
}

var errPanic = errors.New("panic while serving")

// guard turns a panic of f into an error: one broken request must not take the process with it.
func (c *conn) guard(f func() error) (err error) {
	defer c.recovered(&err)
	return f()
}

// recovered is deferred.
func (c *conn) recovered(err *error) {
	if p := recover(); p != nil {
		c.logger().Error("panic while serving", "panic", p, "stack", string(debug.Stack()))
		*err = errPanic
	}
}

// drain makes the reader end; what is owed is still sent.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.draining = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}

func (c *conn) state() (owes, draining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.owed) > 0, c.mu.draining
}
