package broker

import (
	"context"
	"errors"
	"net"
	"sync"
)

// pipe is a listener within this process: the way of whoever watches the broker from
// inside. It counts as no client, needs no port and works when the network does not.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*pipe)(nil)

func newPipe() *pipe {
	return &pipe{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept waits for a Dial.
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and fails every later Dial.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is a name only.
func (p *pipe) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "in-process" }

var errNotServing = errors.New("the broker does not serve yet, or no more")

func (p *pipe) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errNotServing
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dial connects to the broker within this process, past all ports and their limits. The
// connection speaks the Kafka protocol like any other.
//
// Blocks: until the broker serves, ends, or ctx does.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) { return b.inside.dial(ctx) }
