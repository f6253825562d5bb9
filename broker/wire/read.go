package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// A frame that has begun must arrive at this pace, or its memory is held for nothing.
	frameGrace = 10 * time.Second
	framePace  = 128 << 10 // bytes a second
	maxEarly   = time.Second
)

var (
	errIdle    = errors.New("connection is idle")
	errDrained = errors.New("connection is drained")
	errFrame   = errors.New("impossible frame size")
)

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
		if err := c.serve(r); err != nil {
			c.abandon(r)
			return err
		}
		r.markServed()
		if c.begin(c.pipelined()) {
			c.reply()
		}
	}
}

// maxDeferred is how many answers may wait for the next one at most; it must be below what a connection may be owed.
const maxDeferred = 8

// pipelined tells whether a Produce request is wholly read ahead: it is served in no time, and one system call sends
// its answer and those before it.
func (c *conn) pipelined() bool {
	b := c.in.ahead()
	return c.deferred < min(maxDeferred, cap(c.room)-1) && len(b) >= sizeBytes+headBytes && be.Uint16(b[sizeBytes:]) == keyProduce &&
		len(b)-sizeBytes >= int(be.Uint32(b))
}

// serve hands a request over.
func (c *conn) serve(r *Request) (err error) {
	defer c.recovered(&err)
	c.server.o.Handler.Serve(r)
	return nil
}

// read waits for one whole request.
func (c *conn) read() (*Request, error) {
	size, err := c.awaitSize()
	if err != nil {
		return nil, err
	}
	if c.in.buffered() < sizeBytes+headBytes {
		c.setReadDeadline(time.Now().Add(frameGrace))
	}
	b, err := c.in.peek(sizeBytes + headBytes)
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
	whole := false
	defer func() {
		if !whole { // also when decoding panics
			r.free()
		}
	}()
	frame, err := c.readFrame(r, size)
	if err != nil {
		return nil, err
	}
	if r.Unsupported {
		c.server.recognise(r, sh, frame)
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
	whole = true
	return r, nil
}

// awaitSize waits for the next frame, at most the idle timeout since the last traffic while nothing is owed.
func (c *conn) awaitSize() (int, error) {
	var since time.Time
	for {
		var idle time.Duration
		if c.in.buffered() < sizeBytes {
			idle = c.server.o.IdleTimeout()
			if since.IsZero() {
				since = time.Now()
			}
			c.armIdle(since, idle)
		}
		b, err := c.in.peek(sizeBytes)
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

// armIdle sets the deadline of a connection that is idle since then; 0: it may be idle for ever. A deadline that comes
// a little too early stays: who runs into it looks again.
func (c *conn) armIdle(since time.Time, idle time.Duration) {
	var deadline time.Time
	if idle > 0 {
		deadline = since.Add(idle)
		if early := deadline.Sub(c.armed); !c.armed.IsZero() && early >= 0 && early < min(idle/8, maxEarly) && c.armed.After(since) {
			return
		}
	}
	if deadline.IsZero() && c.armed.IsZero() {
		return
	}
	c.setReadDeadline(deadline)
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
	if c.in.buffered() < sizeBytes+size {
		c.setReadDeadline(time.Now().Add(frameGrace + time.Duration(size)*time.Second/framePace))
	}
	c.in.skip(sizeBytes)
	if err := c.in.readFull(b); err != nil {
		return nil, cutShort(err)
	}
	c.stats.BytesIn.Add(sizeBytes + size)
	r.Received = time.Now()
	return b, nil
}

// cutShort makes the end of the connection inside a frame an error of its own.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take waits for n bytes of a part for the request. Meanwhile the client is not read: that is the back-pressure.
func (c *conn) take(r *Request, i int, p part, n int64) error {
	got, ok := p.try(n)
	if !ok {
		if c.begin(false) {
			c.reply()
		}
		var err error
		if got, err = p.take(c.ctx, n); err != nil {
			return err
		}
	}
	r.grants[i] = grant{part: p, n: got}
	return nil
}

func (c *conn) setReadDeadline(t time.Time) {
	c.armed = t
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.draining {
		_ = c.nc.SetReadDeadline(t) // fails only on a closed connection, which the next read tells
	}
}
