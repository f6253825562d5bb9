package wire

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// sender gathers small answers and sends large ones.
type sender struct {
	conn  *conn
	tcp   *net.TCPConn    // nil: no sendfile
	raw   syscall.RawConn // nil: not a socket
	tried func(fd uintptr) bool

	batch  []*Request // answers that are being sent
	pool   *[]byte    // nil: none is gathered
	buf    []byte
	held   bool  // everything is gathered, nothing sent
	broken error // what ended sendNow
	limit  bool  // a write deadline is set

	n   int   // result of tried
	err error // result of tried
}

func (o *sender) init(c *conn) {
	o.conn, o.raw = c, c.in.raw
	o.tcp, _ = c.nc.(*net.TCPConn)
	o.tried = o.try
}

func (o *sender) begin() {
	o.pool = outBuffers.Get().(*[]byte)
	o.buf = (*o.pool)[:0]
}

func (o *sender) finish() {
	if o.pool == nil {
		return
	}
	if cap(o.buf) <= keepBuffer {
		*o.pool = o.buf[:0]
	}
	outBuffers.Put(o.pool)
	o.pool, o.buf, o.held, o.broken = nil, nil, false, nil
}

// fits tells whether the batch may be gathered as a whole.
func (o *sender) fits() bool {
	if o.raw == nil {
		return false
	}
	size := 0
	for _, r := range o.batch {
		if r.response.kind == responseDrop {
			return false
		}
		for i := range r.response.pieces {
			p := &r.response.pieces[i]
			size += p.size()
			if p.Bytes == nil && p.size() > gatherFile || size > coalesce {
				return false
			}
		}
	}
	return true
}

// tryWrite writes what was gathered as far as the socket takes it without waiting.
func (o *sender) tryWrite() (int, error) {
	if len(o.buf) == 0 {
		return 0, nil
	}
	if o.limit { // Why: when a deadline has passed, not even a write that need not wait is possible.
		o.limit = false
		_ = o.conn.nc.SetWriteDeadline(time.Time{}) // fails only on a closed connection, which the write tells
	}
	o.n, o.err = 0, nil
	if err := o.raw.Write(o.tried); err != nil {
		return 0, err
	}
	if o.err != nil {
		return o.n, &net.OpError{Op: "write", Net: "tcp", Addr: o.conn.nc.RemoteAddr(), Err: o.err}
	}
	return o.n, nil
}

func (o *sender) try(fd uintptr) bool {
	for o.n < len(o.buf) {
		n, err := syscall.Write(int(fd), o.buf[o.n:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			o.err = err
			return true
		}
		o.n += n
	}
	return true
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
	if len(o.buf) >= coalesce && !o.held {
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
	case p.Bytes != nil && (n <= gatherBytes || o.held):
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
		if len(o.buf) >= coalesce/2 && !o.held {
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
	o.limit = true
	_ = o.conn.nc.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only on a closed connection, which the write tells
}
