package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
)

const (
	readBuffer = 4 << 10 // bytes; larger frames are read past it
	// A frame that has begun must arrive at this pace, or its memory is held for nothing.
	frameGrace = 10 * time.Second
	framePace  = 128 << 10 // bytes a second
	// What a connection that is closed for the client's sake still takes in, unread.
	lingerTime  = 300 * time.Millisecond
	lingerBytes = 4 << 20
)

var (
	errIdle    = errors.New("connection is idle")
	errDrained = errors.New("connection is drained")
	errFrame   = errors.New("impossible frame size")
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
	err := c.readAll()
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
	if !ok || c.ctx.Err() != nil || tcp.CloseWrite() != nil {
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

// readAll hands requests over until one cannot be read.
func (c *conn) readAll() error {
	for {
		r, err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if _, draining := c.state(); draining {
				return errDrained
			}
		}
		if err != nil {
			return err
		}
		select {
		case c.room <- struct{}{}:
		case <-c.written:
			r.free()
			return errDrained
		case <-c.ctx.Done():
			r.free()
			return context.Cause(c.ctx)
		}
		c.owe(r)
		if err := c.guard(func() error { c.server.o.Handler.Serve(r); return nil }); err != nil {
			c.abandon(r)
			return err
		}
		r.markServed()
	}
}

// read waits for one whole request.
func (c *conn) read() (_ *Request, err error) {
	size, err := c.awaitSize()
	if err != nil {
		return nil, err
	}
	c.setReadDeadline(time.Now().Add(frameGrace))
	b, err := c.in.Peek(sizeBytes + headBytes)
	if err != nil {
		return nil, cutShort(err)
	}
	r := &Request{Received: time.Now(), Session: c.session, conn: c, Size: size}
	sh, err := c.server.head(b[sizeBytes:], r)
	if err != nil {
		return nil, err
	}
	if limit := c.server.limitOf(r.Key); size > limit {
		return nil, fmt.Errorf("cannot take request %s of %d bytes, limit %d: %w", sh.name, size, limit, errFrame)
	}
	defer func() {
		if err != nil {
			r.free()
		}
	}()
	frame, err := c.readFrame(r, size)
	if err != nil {
		return nil, err
	}
	body, cost, err := r.parse(sh, frame)
	if err != nil {
		return nil, err
	}
	if err := c.take(r, 1, c.server.budget.lane(r.Key == keyProduce, size).decoded, cost); err != nil {
		return nil, err
	}
	if err := r.decode(body); err != nil {
		return nil, err
	}
	if v, ok := r.Body.(*kmsg.ApiVersionsRequest); ok && !r.Unsupported {
		c.session.Software, c.session.SoftwareVersion = softwareName(v.ClientSoftwareName), softwareName(v.ClientSoftwareVersion)
	}
	return r, nil
}

// awaitSize waits for the next frame, at most the idle timeout since the last traffic while nothing is owed.
func (c *conn) awaitSize() (int, error) {
	since := time.Now()
	for {
		idle := c.server.o.IdleTimeout()
		var deadline time.Time
		if idle > 0 {
			deadline = since.Add(idle)
		}
		c.setReadDeadline(deadline)
		b, err := c.in.Peek(sizeBytes)
		if err == nil {
			size := int(int32(be.Uint32(b)))
			if size < minFrame || size > c.server.o.MaxRequestBytes {
				return 0, fmt.Errorf("cannot take frame of %d bytes, limit %d: %w", size, c.server.o.MaxRequestBytes, errFrame)
			}
			return size, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		owes, draining := c.state()
		if draining {
			return 0, errDrained
		}
		now := time.Now()
		if written := time.Unix(0, c.lastWrite.Load()); written.After(since) {
			since = written
		}
		if owes {
			since = now
		}
		if idle > 0 && now.Sub(since) >= idle {
			return 0, errIdle
		}
	}
}

// cutShort makes the end of the connection inside a frame an error of its own.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readFrame waits for memory and reads size bytes into it.
func (c *conn) readFrame(r *Request, size int) ([]byte, error) {
	produce, bytes := r.Key == keyProduce, size
	if produce {
		bytes, _ = c.server.frames.sizeOf(size)
	}
	if err := c.take(r, 0, c.server.budget.lane(produce, size).frames, int64(bytes)); err != nil {
		return nil, err
	}
	var b []byte
	if produce {
		r.frame = c.server.frames.take(size)
		b = r.frame.b
	} else {
		b = make([]byte, size)
	}
	c.setReadDeadline(time.Now().Add(frameGrace + time.Duration(size)*time.Second/framePace))
	if _, err := c.in.Discard(sizeBytes); err != nil {
		return nil, cutShort(err)
	}
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, cutShort(err)
	}
	c.stats.BytesIn.Add(sizeBytes + size)
	r.Received = time.Now()
	return b, nil
}

// take waits for n bytes of a part for the request. Meanwhile the client is not read: that is the back-pressure.
func (c *conn) take(r *Request, i int, p part, n int64) error {
	got, err := p.take(c.ctx, n)
	if err != nil {
		return err
	}
	r.grants[i] = grant{part: p, n: got}
	return nil
}

func (c *conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.draining {
		_ = c.nc.SetReadDeadline(t) // fails only on a closed connection, which the next read tells
	}
}

// drain makes the reader end; what is owed is still sent.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.draining = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // as above
}

func (c *conn) state() (owes, draining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.owed) > 0, c.mu.draining
}

func (c *conn) owe(r *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.owed = append(c.mu.owed, r)
}

// answered notes the answer of r. sent=false: nobody will send it, the caller releases it. owner: the caller frees r.
func (c *conn) answered(r *Request, resp Response) (sent, owner bool) {
	c.mu.Lock()
	if r.abandoned {
		c.mu.Unlock()
		return false, false
	}
	if r.done {
		c.mu.Unlock()
		panic(fmt.Sprintf("BUG: request with key %d answered twice", r.Key))
	}
	r.done = true
	if c.mu.closed {
		c.mu.Unlock()
		return false, true
	}
	r.response = resp
	first := c.mu.owed[0] == r
	c.mu.Unlock()
	if first {
		c.rouse()
	}
	return true, true
}

// abandon ends a request whose handler panicked. Its frame is not used again: the handler may have passed it on.
func (c *conn) abandon(r *Request) {
	c.mu.Lock()
	owner := !r.done
	r.abandoned = true
	c.mu.Unlock()
	if owner {
		r.frame = nil
		r.free()
	}
}

func (c *conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// end says that no request will follow.
func (c *conn) end() {
	c.mu.Lock()
	c.mu.ended = true
	c.mu.Unlock()
	c.rouse()
}

// takeReady moves the answered requests at the front of the queue to dst. over: none is left and none will come.
func (c *conn) takeReady(dst []*Request) (ready []*Request, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.mu.owed) && c.mu.owed[n].done {
		n++
	}
	dst = append(dst, c.mu.owed[:n]...)
	rest := copy(c.mu.owed, c.mu.owed[n:])
	clear(c.mu.owed[rest:])
	c.mu.owed = c.mu.owed[:rest]
	return dst, rest == 0 && c.mu.ended
}

// dropOwed releases the answers that were not sent; later ones are released by finish.
func (c *conn) dropOwed() {
	c.mu.Lock()
	c.mu.closed = true
	owed := c.mu.owed
	c.mu.owed = nil
	var answers []*Request
	for _, r := range owed {
		if r.done {
			answers = append(answers, r)
		}
	}
	c.mu.Unlock()
	for _, r := range answers {
		r.response.release()
	}
}
