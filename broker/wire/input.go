package wire

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// inputSize is the bytes that are read ahead; what is left of a larger frame is read straight to where it belongs.
const inputSize = 8 << 10

// Why a package variable: a pool is a cache without meaning.
var inputBuffers = sync.Pool{New: func() any { return new([inputSize]byte) }}

// input reads a connection through a small buffer, which it has only while there is something in it: of thousands of
// connections most wait for their clients most of the time.
type input struct {
	nc      net.Conn
	raw     syscall.RawConn // nil: not a socket, the buffer is kept
	receive func(fd uintptr) bool

	buf  *[inputSize]byte
	r, w int   // what is read ahead lies between
	n    int   // result of receive
	err  error // result of receive
}

func (in *input) init(nc net.Conn) {
	in.nc, in.raw = nc, rawOf(nc)
	in.receive = in.tryReceive
}

// rawOf gives access to the connection's socket, nil when it has none.
func rawOf(nc net.Conn) syscall.RawConn {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// buffered gives how many bytes are read ahead.
func (in *input) buffered() int { return in.w - in.r }

// peek gives the next n bytes without taking them. n must not be above inputSize.
func (in *input) peek(n int) ([]byte, error) {
	for in.w-in.r < n {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	return in.buf[in.r : in.r+n], nil
}

// fill waits for at least one byte more.
func (in *input) fill() error {
	in.shift()
	if in.raw != nil {
		return in.read()
	}
	if in.buf == nil {
		in.buf = inputBuffers.Get().(*[inputSize]byte)
	}
	n, err := in.nc.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	return err
}

// shift makes room behind what is read ahead.
func (in *input) shift() {
	if in.r > 0 {
		in.w = copy(in.buf[:], in.buf[in.r:in.w])
		in.r = 0
	}
}

func (in *input) read() error {
	in.n, in.err = 0, nil
	if err := in.raw.Read(in.receive); err != nil {
		return err
	}
	switch {
	case in.err != nil:
		return &net.OpError{Op: "read", Net: "tcp", Addr: in.nc.RemoteAddr(), Err: in.err}
	case in.n == 0:
		return io.EOF
	}
	in.w += in.n
	return nil
}

// tryReceive reads what there is; false: nothing yet, and the runtime is to wait for it.
func (in *input) tryReceive(fd uintptr) bool {
	if in.buf == nil {
		in.buf = inputBuffers.Get().(*[inputSize]byte)
	}
	for {
		in.n, in.err = syscall.Read(int(fd), in.buf[in.w:])
		if in.err != syscall.EINTR {
			break
		}
	}
	in.n = max(in.n, 0)
	if in.n == 0 && in.w == 0 {
		in.free()
	}
	return in.err != syscall.EAGAIN
}

// readFull takes the next len(b) bytes.
func (in *input) readFull(b []byte) error {
	n := copy(b, in.ahead())
	in.r += n
	if in.r == in.w {
		in.free()
	}
	if n == len(b) {
		return nil
	}
	_, err := io.ReadFull(in.nc, b[n:])
	return err
}

func (in *input) ahead() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf[in.r:in.w]
}

// skip drops n bytes that are read ahead.
func (in *input) skip(n int) { in.r += n }

// free gives the buffer back. Requires: nothing is in it.
func (in *input) free() {
	if in.buf != nil {
		inputBuffers.Put(in.buf)
		in.buf = nil
	}
	in.r, in.w = 0, 0
}
