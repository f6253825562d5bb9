package load

import (
	"context"
	"fmt"
	"net"
)

// Idle opens connections, each of which has asked one question, and holds them until done is called.
func (k Kafka) Idle(ctx context.Context, n int, hello func(net.Conn) error) (done func(), err error) {
	var conns []net.Conn
	done = func() {
		for _, c := range conns {
			_ = c.Close() // nothing is in flight
		}
	}
	var d net.Dialer
	for i := range n {
		c, err := d.DialContext(ctx, "tcp", k.Addr)
		if err == nil {
			conns = append(conns, c)
			err = hello(c)
		}
		if err != nil {
			done()
			return nil, fmt.Errorf("cannot open connection %d: %w", i+1, err)
		}
	}
	return done, nil
}
