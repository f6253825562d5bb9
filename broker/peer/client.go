// Package peer is this broker as a client of the others.
//
// Do sends one request to a broker and waits for the answer. Each pair of broker and
// lane has one connection: requests on it are answered in order and pipelined, so a
// lane that waits long (a follower's fetch) never stands in the way of another one
// (a heartbeat). Connections are made when they are first needed, by the address of
// the broker's inter-broker listener in the newest image, and closed when that changes.
//
// It is not: what to ask (replica, api, broker), or to try again. Who asks knows
// whether a request may be sent twice.
//
// Invariant: an error tells whether the request can have been done. ErrNoAddress,
// ErrUnreachable, ErrVersion and ErrClosed: it was not. ErrLost and the context's:
// that is not known.
//
// Road in: Do. Road out: a socket, or whatever Options.Dial gives.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// Errors of Do; compare with errors.Is.
var (
	// ErrNoAddress: the broker is not registered, or has no such listener.
	ErrNoAddress = errors.New("the broker's address is not known")
	// ErrUnreachable: there is no connection; the request was not sent.
	ErrUnreachable = errors.New("the broker cannot be reached")
	// ErrLost: the connection ended before the answer came.
	ErrLost = errors.New("the connection to the broker was lost")
	// ErrVersion: the broker does not serve such a request.
	ErrVersion = errors.New("the broker does not serve this request")
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("the client of other brokers is closed")
)

// Software is what a broker says of itself in ApiVersions (KIP-511); by it the asked
// one knows that it is a broker who wants to see what brokers may ask for.
const Software = "belfry-broker"

// Limits and times.
const (
	// maxInFlight is how many requests a connection has without an answer; further ones wait.
	maxInFlight = 32
	// DefaultTimeout is how long an answer is waited for if the context does not say.
	DefaultTimeout = 30 * time.Second
	// dialTimeout bounds a connection's making and its first exchange.
	dialTimeout = 5 * time.Second
	// The wait after the first failed dial, and the longest one; it doubles in between.
	minBackOff = 20 * time.Millisecond
	maxBackOff = time.Second
	// maxFrame is the longest answer that is taken, in bytes.
	maxFrame = 256 << 20
)

// Options of a Client. Node, Listener and Image are required.
type Options struct {
	Node     metadata.BrokerID      // this broker, for the others' logs
	Listener string                 // the inter-broker listener's name
	Image    func() *metadata.Image // the newest one; it has the addresses
	// Dial connects to a broker. Nil: TCP. It may give any other road, e.g. within
	// the process for this broker itself.
	Dial func(ctx context.Context, to metadata.BrokerID, address string) (net.Conn, error)
	// Full gives why this broker takes no records of clients, "" if it does; leaders are told
	// with each fetch. Nil: it does.
	Full func() string
}

// Client asks other brokers. Its methods may be called from any goroutine.
type Client struct {
	o      Options
	format *kmsg.RequestFormatter
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // readers
	frames frames

	mu struct {
		sync.Mutex
		closed bool
		lines  map[lineKey]*line
	}
}

type lineKey struct {
	to   metadata.BrokerID
	lane string
}

// New wires a Client; it starts nothing. Close must be called.
func New(o Options) *Client {
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, _ metadata.BrokerID, address string) (net.Conn, error) {
			return Dial(ctx, address)
		}
	}
	c := &Client{o: o, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("broker-" + strconv.Itoa(int(o.Node))))}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mu.lines = make(map[lineKey]*line)
	return c
}

// Dial connects by TCP; a machine that is gone is noticed after ten seconds.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	return d.DialContext(ctx, "tcp", address)
}

// Do sends a request to a broker and gives its answer. Lanes are names that the
// caller chooses; there should be few. The version of req is set to the newest that
// both sides know, but not above the one it comes with if that is above 0. Byte slices
// of the answer belong to the caller.
//
// Blocks: until the answer is there, the connection fails or ctx ends; without a
// deadline in ctx at most DefaultTimeout. While the broker cannot be reached, calls
// wait up to a second before they fail, so that a caller may simply try again. A
// deadline that passes costs the connection: who does not answer in time is not
// asked again on it.
//
// Errors: those of this package, context.DeadlineExceeded, context.Canceled.
func (c *Client) Do(ctx context.Context, to metadata.BrokerID, lane string, req kmsg.Request) (kmsg.Response, error) {
	resp, _, err := c.ask(ctx, to, lane, req)
	return resp, err
}

// ask is Do, with the frame that the answer's byte slices are parts of.
func (c *Client) ask(ctx context.Context, to metadata.BrokerID, lane string, req kmsg.Request) (kmsg.Response, []byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	resp, frame, err := c.do(ctx, to, lane, req)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask broker %d for %s: %w", to, kmsg.NameForKey(req.Key()), err)
	}
	return resp, frame, nil
}

func (c *Client) do(ctx context.Context, to metadata.BrokerID, lane string, req kmsg.Request) (kmsg.Response, []byte, error) {
	l, err := c.line(to, lane)
	if err != nil {
		return nil, nil, err
	}
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.version(req); err != nil {
		return nil, nil, err
	}
	r, err := conn.exchange(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(r.body); err != nil {
		conn.fail(fmt.Errorf("it sent what is no answer: %w", err))
		return nil, nil, fmt.Errorf("%w: it sent what is no answer: %w", ErrLost, err)
	}
	return resp, r.frame, nil
}

// line finds or makes the line to a broker.
func (c *Client) line(to metadata.BrokerID, lane string) (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, ErrClosed
	}
	key := lineKey{to, lane}
	l := c.mu.lines[key]
	if l == nil {
		l = newLine(c, to)
		c.mu.lines[key] = l
	}
	return l, nil
}

// address looks a broker up.
func (c *Client) address(to metadata.BrokerID) (string, error) {
	b := c.o.Image().Broker(to)
	if b == nil {
		return "", fmt.Errorf("%w: it is not registered", ErrNoAddress)
	}
	for _, e := range b.Endpoints {
		if e.Listener == c.o.Listener {
			return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), nil
		}
	}
	return "", fmt.Errorf("%w: it has no listener %s", ErrNoAddress, c.o.Listener)
}

// Apply closes the connections to brokers that are gone or have moved; what waits
// on them fails with ErrLost. It is called with each new image.
func (c *Client) Apply(old, new *metadata.Image) {
	if old != nil && len(metadata.Diff(old, new).Brokers) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, l := range c.mu.lines {
		conn := l.conn.Load()
		if conn == nil {
			continue
		}
		if address, err := c.address(key.to); err != nil || address != conn.address {
			conn.fail(errors.New("the broker has moved"))
		}
	}
}

// Close ends every connection and waits for what runs; calls fail with ErrLost or ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.mu.closed = true
	lines := c.mu.lines
	c.mu.Unlock()
	c.cancel()
	for _, l := range lines {
		l.close()
	}
	c.wg.Wait()
	return nil
}
