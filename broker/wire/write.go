package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	coalesce     = 256 << 10 // bytes of answers that are gathered before they are sent
	gatherBytes  = 8 << 10   // bytes: a smaller piece is copied rather than sent on its own
	gatherFile   = 16 << 10  // bytes: a smaller part of a file is read rather than sent by sendfile
	copyBuffer   = 128 << 10 // bytes read at a time where sendfile cannot be used
	keepBuffer   = 1 << 20   // bytes: a larger buffer is not kept
	writeTimeout = time.Minute
)

// Why a package variable: a pool is a cache without meaning.
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// droppedError is the end of a connection that a handler asked for.
type droppedError struct{ error }

func (e droppedError) Unwrap() error { return e.error }

// write sends answers until the connection is over.
func (c *conn) write() error {
	out := sender{conn: c}
	out.tcp, _ = c.nc.(*net.TCPConn)
	var batch []*Request
	for {
		var over bool
		batch, over = c.takeReady(batch[:0])
		if len(batch) == 0 {
			if over {
				return nil
			}
			select {
			case <-c.wake:
				continue
			case <-c.ctx.Done():
				return context.Cause(c.ctx)
			}
		}
		if err := c.send(&out, batch); err != nil {
			return err
		}
		clear(batch)
	}
}

// send writes the answers of the batch and releases them, whatever happens.
func (c *conn) send(out *sender, batch []*Request) error {
	defer func() {
		for _, r := range batch {
			r.response.release()
			<-c.room
		}
	}()
	c.served.Store(true)
	out.begin()
	defer out.finish()
	var dropped error
	for _, r := range batch {
		if r.response.kind == responseDrop {
			dropped = droppedError{r.response.err}
			break
		}
		if err := out.answer(r); err != nil {
			return err
		}
	}
	if err := out.flush(false); err != nil {
		return err
	}
	now := time.Now()
	c.lastWrite.Store(now.UnixNano())
	for _, r := range batch {
		if r.response.kind == responseDrop {
			break
		}
		c.server.o.Stats.Request(r.Key, r.response.code, sizeBytes+r.Size, r.sent, time.Duration(r.served.Load()), now.Sub(r.Received))
	}
	return dropped
}

// sender gathers small answers and sends large ones.
type sender struct {
	conn *conn
	tcp  *net.TCPConn // nil: no sendfile
	pool *[]byte
	buf  []byte
}

func (o *sender) begin() {
	o.pool = outBuffers.Get().(*[]byte)
	o.buf = (*o.pool)[:0]
}

func (o *sender) finish() {
	if cap(o.buf) <= keepBuffer {
		*o.pool = o.buf[:0]
	}
	outBuffers.Put(o.pool)
	o.pool, o.buf = nil, nil
}

// answer adds the answer of r to what is to be sent.
func (o *sender) answer(r *Request) error {
	at := len(o.buf)
	switch r.response.kind {
	case responseNothing:
		return nil
	case responseMessage:
		o.header(r, 0)
		m := r.response.message
		m.SetVersion(r.Version)
		o.buf = m.AppendTo(o.buf)
		r.sent = len(o.buf) - at
		be.PutUint32(o.buf[at:], uint32(r.sent-sizeBytes))
	case responsePieces:
		size := 0
		for i := range r.response.pieces {
			size += r.response.pieces[i].size()
		}
		o.header(r, size)
		r.sent = len(o.buf) - at + size
		for i := range r.response.pieces {
			if err := o.piece(&r.response.pieces[i]); err != nil {
				return err
			}
		}
	}
	if len(o.buf) >= coalesce {
		return o.flush(false)
	}
	return nil
}

// header adds size and response header for a body of n bytes.
func (o *sender) header(r *Request, n int) {
	// Why not for ApiVersions: a client that does not know our version must be able to read it (KIP-511).
	tags := r.flexible && r.Key != keyVersions
	n += 4
	if tags {
		n++
	}
	o.buf = be.AppendUint32(o.buf, uint32(n))
	o.buf = be.AppendUint32(o.buf, uint32(r.Correlation))
	if tags {
		o.buf = append(o.buf, 0)
	}
}

func (o *sender) piece(p *Piece) error {
	n := p.size()
	switch {
	case p.Bytes != nil && n <= gatherBytes:
		o.buf = append(o.buf, p.Bytes...)
		return nil
	case p.Bytes != nil:
		return o.flushWith(p.Bytes)
	case n <= gatherFile:
		return o.gather(p, 0)
	case p.File != nil && o.tcp != nil:
		if err := o.flush(true); err != nil {
			return err
		}
		sent, err := o.sendFile(p)
		if err != nil || sent == n {
			return err
		}
		return o.gather(p, sent) // the system cannot do it for this file
	}
	return o.gather(p, 0)
}

// gather copies what is left of a piece, from its byte `from` on, through the buffer.
func (o *sender) gather(p *Piece, from int) error {
	for from < p.Len {
		n := min(p.Len-from, copyBuffer)
		at := len(o.buf)
		o.buf = append(o.buf, make([]byte, n)...)
		got, err := p.readAt(o.buf[at:], int64(from))
		if got < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("cannot read piece at byte %d of %d: %w", from+got, p.Len, err)
		}
		from += n
		if len(o.buf) >= coalesce/2 {
			if err := o.flush(from < p.Len); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush sends what was gathered. more: the rest of an answer follows at once.
func (o *sender) flush(more bool) error {
	if len(o.buf) == 0 {
		return nil
	}
	o.deadline()
	var err error
	if more && o.tcp != nil {
		err = writeMore(o.tcp, o.buf)
	} else {
		_, err = o.conn.nc.Write(o.buf)
	}
	o.conn.stats.BytesOut.Add(len(o.buf))
	o.buf = o.buf[:0]
	return err
}

// flushWith sends what was gathered and b, in one system call where possible.
func (o *sender) flushWith(b []byte) error {
	o.deadline()
	bufs := net.Buffers{o.buf, b}
	n, err := bufs.WriteTo(o.conn.nc)
	o.conn.stats.BytesOut.Add(int(n))
	o.buf = o.buf[:0]
	return err
}

// sendFile sends a piece's file and gives the bytes that went out.
func (o *sender) sendFile(p *Piece) (sent int, err error) {
	for sent < p.Len {
		// Why for each step: a slow client may take long for a piece, but not for nothing.
		o.deadline()
		n, err := sendFile(o.tcp, p.File, p.Pos+int64(sent), p.Len-sent)
		o.conn.stats.BytesOut.Add(n)
		sent += n
		if err == errNoSendfile {
			return sent, nil
		}
		if err != nil {
			return sent, fmt.Errorf("cannot send file at byte %d of %d: %w", sent, p.Len, err)
		}
	}
	return sent, nil
}

// deadline gives the client time to take something.
func (o *sender) deadline() {
	_ = o.conn.nc.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only on a closed connection, which the write tells
}
