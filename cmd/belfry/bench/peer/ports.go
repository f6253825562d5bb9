package peer

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are below those that the system gives to outgoing connections. Why: a node that
// is started again needs the ones it had, which a client might have got meanwhile.
const firstPort, lastPort = 20_000, 32_000

// steadyAddresses gives addresses from there that nobody listens at, none twice.
func steadyAddresses() func() (string, error) {
	port, left := firstPort+rand.IntN(lastPort-firstPort), lastPort-firstPort
	return func() (string, error) {
		for ; left > 0; left-- {
			if port++; port >= lastPort {
				port = firstPort
			}
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			if l, err := net.Listen("tcp", addr); err == nil {
				return addr, l.Close()
			}
		}
		return "", fmt.Errorf("cannot find a free port from %d to %d", firstPort, lastPort)
	}
}
