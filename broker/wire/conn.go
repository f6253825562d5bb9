package wire

import (
	"bufio"
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

// conn is one connection: run is its reader, write its writer.
type conn struct {
	server  *Server
	nc      net.Conn
	in      *bufio.Reader
	session *Session
	stats   *stats.Listener
	logger  *slog.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc

	room      chan struct{} // one token an owed answer; its capacity is the bound of mu.owed
	wake      chan struct{} // 1: tells the writer to look again
	written   chan struct{} // closed when the writer is over
	lastWrite atomic.Int64  // Unix ns
	served    atomic.Bool   // an answer was sent, or tried to

	mu struct {
		sync.Mutex
		owed     []*Request // in order of arrival
		ended    bool       // no request will follow
		closed   bool       // no answer will be sent
		draining bool       // read no more
	}
}

func newConn(ctx context.Context, s *Server, nc net.Conn, session *Session, count *stats.Listener) *conn {
	ctx, cancel := context.WithCancelCause(ctx)
	return &conn{
		server: s, nc: nc, in: bufio.NewReaderSize(nc, readBuffer), session: session, stats: count,
		logger: s.o.Logger.With("session", session), ctx: ctx, cancel: cancel,
		room: make(chan struct{}, s.o.MaxInFlight), wake: make(chan struct{}, 1), written: make(chan struct{}),
	}
}

// run serves the connection until it is over.
func (c *conn) run() {
	stop := context.AfterFunc(c.ctx, func() { _ = c.nc.Close() }) // wakes reader and writer; they have the error
	defer stop()
	var unsent error
	go func() {
		defer close(c.written)
		if unsent = c.guard(c.write); unsent != nil && !errors.As(unsent, new(droppedError)) {
			c.cancel(unsent)
		}
		c.drain()
	}()
	err := c.guard(c.readAll)
	c.end()
	if !gone(err) {
		c.finish()
	}
	// Why the cause first: what the reader saw then is only that the connection was closed.
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.cancel(err)
	<-c.written
	if unsent != nil && errors.Is(err, errDrained) {
		err = unsent
	}
	_ = c.nc.Close() // again: AfterFunc may not have run yet
	c.dropOwed()
	c.logEnd(err)
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
		c.logger.Debug("connection closed")
	case errors.Is(err, errIdle), gone(err):
		c.logger.Debug("connection closed", "error", err)
	default:
		if n, ok := c.server.noteClosed(); ok {
			c.logger.Warn("closed connections", "error", err, "count", n)
		}
	}
}

var errPanic = errors.New("panic while serving")

// guard turns a panic of f into an error: one broken request must not take the process with it.
func (c *conn) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logger.Error("panic while serving", "panic", p, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return f()
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
