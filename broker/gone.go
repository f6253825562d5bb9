package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// How a broker is looked at whose connection ended.
const (
	lookTimes = 3
	// lookListens is how long a connection has to hold: a process that dies closes its
	// connections one after the other, so that one may still be taken in.
	lookListens = 100 * time.Millisecond
)

// gone tells whether nobody listens at a broker's inter-broker address: its machine is
// there and refuses the connection. Everything else, as silence, says nothing.
func gone(listener string) func(context.Context, *metadata.Broker) bool {
	return func(ctx context.Context, b *metadata.Broker) bool {
		for _, e := range b.Endpoints {
			if e.Listener == listener {
				return refuses(ctx, net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
			}
		}
		return false
	}
}

func refuses(ctx context.Context, address string) bool {
	var dialer net.Dialer
	for range lookTimes {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		holds := holds(c)
		_ = c.Close() // nothing was sent
		if holds {
			return false
		}
	}
	return false
}

// holds tells whether a connection is still there after a moment.
func holds(c net.Conn) bool {
	if err := c.SetReadDeadline(time.Now().Add(lookListens)); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}
