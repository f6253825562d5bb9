//go:build !linux

package wire

import (
	"errors"
	"net"
	"os"
)

var errNoSendfile = errors.New("sendfile is not possible")

// sendFile says that the caller must copy.
func sendFile(*net.TCPConn, *os.File, int64, int) (int, error) { return 0, errNoSendfile }

func writeMore(to *net.TCPConn, b []byte) error {
	_, err := to.Write(b)
	return err
}
