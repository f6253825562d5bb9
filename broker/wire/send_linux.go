package wire

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

var errNoSendfile = errors.New("sendfile is not possible")

// maxSendfile bounds one system call, in bytes. Why: it holds the thread.
const maxSendfile = 4 << 20

// sendFile sends up to n bytes of f from pos on, at least one. The file's own offset is neither used nor moved: other
// connections send the same file.
func sendFile(to *net.TCPConn, f *os.File, pos int64, n int) (sent int, err error) {
	in, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	out, err := to.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sendErr error
	outer := in.Control(func(from uintptr) {
		err = out.Write(func(fd uintptr) bool {
			at := pos
			for {
				sent, sendErr = unix.Sendfile(int(fd), int(from), &at, min(n, maxSendfile))
				if sendErr != unix.EINTR {
					break
				}
			}
			return sendErr != unix.EAGAIN
		})
	})
	sent = max(sent, 0)
	switch {
	case outer != nil:
		return 0, outer
	case err != nil:
		return 0, err
	case sendErr == unix.EINVAL, sendErr == unix.ENOSYS, sendErr == unix.EOPNOTSUPP:
		return 0, errNoSendfile
	case sendErr != nil:
		return 0, &net.OpError{Op: "sendfile", Net: "tcp", Addr: to.RemoteAddr(), Err: sendErr}
	case sent == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return sent, nil
}

// writeMore sends b and tells the system that more follows at once, so that no small packet goes out.
func writeMore(to *net.TCPConn, b []byte) error {
	out, err := to.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = out.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			var n int
			n, sendErr = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			if sendErr == unix.EINTR {
				continue
			}
			if sendErr != nil {
				return sendErr != unix.EAGAIN
			}
			b = b[n:]
		}
		return true
	})
	if err == nil && sendErr != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Addr: to.RemoteAddr(), Err: sendErr}
	}
	return err
}
