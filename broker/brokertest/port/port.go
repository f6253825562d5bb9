// Package port gives tests TCP and UDP ports of loopback that nobody else takes until they end.
//
// Why not what port 0 gives: that is free again as soon as it is closed, and before the node
// under test listens there – or while it restarts – an outgoing connection, another test or the
// next question for a free port may get the same one. These lie below the range from which
// systems choose (Linux: net.ipv4.ip_local_port_range, from 32768), and each is locked by a file
// as long as the test runs, against all test processes on the machine.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The ports that are given: first … last.
const (
	first = 12_000
	last  = 31_999
)

// Addr gives 127.0.0.1 with a port that is this test's own until it ends, HOST:PORT.
func Addr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		number := first + rand.IntN(last-first+1)
		unlock, err := lock(number)
		if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("127.0.0.1:%d", number)
		switch {
		case unlock == nil: // another test's
		case free(address):
			t.Cleanup(unlock)
			return address
		default:
			unlock()
		}
	}
	t.Fatalf("no free port from %d to %d", first, last)
	return ""
}

// lock takes a port; nil: another test has it.
func lock(number int) (unlock func(), err error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("belfry-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(number)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil // its end unlocks it
}

// free tells whether nobody listens there.
func free(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	defer u.Close()
	return true
}
