package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection. Requests are written under the writing token; one goroutine
// reads the answers and gives each to the first call that waits.
type conn struct {
	client  *Client
	address string
	socket  net.Conn
	in      *bufio.Reader
	max     map[int16]int16 // newest served version by API key
	writing chan struct{}   // holds one token; guards next
	next    int32           // correlation ID
	slots   chan struct{}   // one for each request without an answer
	gone    chan struct{}   // closed when the connection has failed

	mu struct {
		sync.Mutex
		waiting []*call
		err     error // why it has failed
	}
}

// call is one request that waits. The answer's channel has room for it: nobody need take it.
type call struct {
	correlation int32
	flexible    bool
	answer      chan reply // capacity 1
}

// reply is an answer's body, and the frame that it is a part of.
type reply struct{ frame, body []byte }

func newConn(c *Client, socket net.Conn, address string) *conn {
	n := &conn{
		client: c, address: address, socket: socket, in: bufio.NewReaderSize(socket, 64<<10),
		writing: make(chan struct{}, 1), slots: make(chan struct{}, maxInFlight), gone: make(chan struct{}),
	}
	n.writing <- struct{}{}
	return n
}

// greet asks what the broker serves. Requires: nobody else uses the connection yet.
func (c *conn) greet() error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version = 3
	req.ClientSoftwareName, req.ClientSoftwareVersion = Software, "1"
	if _, err := c.socket.Write(c.client.format.AppendRequest(nil, req, c.next)); err != nil {
		return err
	}
	frame, err := c.frame()
	if err != nil {
		return err
	}
	if got := int32(binary.BigEndian.Uint32(frame)); got != c.next {
		return fmt.Errorf("it answers request %d, not %d", got, c.next)
	}
	c.next++
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = req.Version
	if err := resp.ReadFrom(frame[4:]); err != nil {
		return fmt.Errorf("it sent what is no answer to ApiVersions: %w", err)
	}
	if resp.ErrorCode != 0 {
		return fmt.Errorf("it answers ApiVersions with error %d", resp.ErrorCode)
	}
	c.max = make(map[int16]int16, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		c.max[k.ApiKey] = k.MaxVersion
	}
	return nil
}

// version sets the version that both sides know.
func (c *conn) version(req kmsg.Request) error {
	theirs, ok := c.max[req.Key()]
	if !ok {
		return ErrVersion
	}
	ours := req.MaxVersion()
	if v := req.GetVersion(); v > 0 {
		ours = min(ours, v)
	}
	req.SetVersion(min(ours, theirs))
	return nil
}

// exchange sends a request and gives its answer.
func (c *conn) exchange(ctx context.Context, req kmsg.Request) (reply, error) {
	w, err := c.send(ctx, req)
	if err != nil {
		return reply{}, err
	}
	select {
	case r := <-w.answer:
		return r, nil
	case <-c.gone:
		select {
		case r := <-w.answer: // it came before
			return r, nil
		default:
			return reply{}, c.lost()
		}
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.fail(errors.New("it did not answer in time"))
		}
		return reply{}, ctx.Err()
	}
}

// send writes a request and notes that its answer is waited for.
func (c *conn) send(ctx context.Context, req kmsg.Request) (*call, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.gone:
		return nil, unreachable(c.why())
	case <-ctx.Done():
		return nil, unreachable(ctx.Err())
	}
	select {
	case <-c.writing:
	case <-c.gone:
		return nil, unreachable(c.why())
	case <-ctx.Done():
		<-c.slots
		return nil, unreachable(ctx.Err())
	}
	defer func() { c.writing <- struct{}{} }()
	w := &call{correlation: c.next, flexible: req.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16(), answer: make(chan reply, 1)}
	if !c.wait(w) {
		return nil, unreachable(c.why())
	}
	c.next++
	deadline, _ := ctx.Deadline() // Do sets one; a cancelled call still ends its write, within it
	if err := c.socket.SetWriteDeadline(deadline); err != nil {
		c.fail(err)
		return nil, c.lost()
	}
	if _, err := c.socket.Write(c.client.format.AppendRequest(nil, req, w.correlation)); err != nil {
		c.fail(err) // half a request may be out
		return nil, c.lost()
	}
	return w, nil
}

// wait notes a call; false if the connection has failed.
func (c *conn) wait(w *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return false
	}
	c.mu.waiting = append(c.mu.waiting, w)
	return true
}

// read takes answers until the connection fails.
func (c *conn) read() {
	for {
		frame, err := c.frame()
		if err != nil {
			c.fail(err)
			return
		}
		if err := c.deliver(frame); err != nil {
			c.fail(err)
			return
		}
	}
}

// deliver gives an answer to the first call that waits.
func (c *conn) deliver(frame []byte) error {
	c.mu.Lock()
	if len(c.mu.waiting) == 0 {
		c.mu.Unlock()
		return errors.New("it answers what nobody asked")
	}
	w := c.mu.waiting[0]
	c.mu.waiting[0] = nil
	c.mu.waiting = c.mu.waiting[1:]
	c.mu.Unlock()
	<-c.slots
	if got := int32(binary.BigEndian.Uint32(frame)); got != w.correlation {
		return fmt.Errorf("it answers request %d, not %d", got, w.correlation)
	}
	body := frame[4:]
	if w.flexible { // the header's tags: a broker sends none
		if len(body) == 0 || body[0] != 0 {
			return errors.New("its answer has tags in the header")
		}
		body = body[1:]
	}
	w.answer <- reply{frame, body}
	return nil
}

// frame reads one answer: its correlation ID and what follows.
func (c *conn) frame() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > maxFrame {
		return nil, fmt.Errorf("it sent an answer of %d bytes; at least 4 and at most %d are taken", size, maxFrame)
	}
	b := c.client.frames.take(int(size))
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, err
	}
	return b, nil
}

// alive tells that the connection has not failed.
func (c *conn) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// fail ends the connection; the first reason counts.
func (c *conn) fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return
	}
	c.mu.err = why
	close(c.gone)
	_ = c.socket.SetDeadline(time.Unix(1, 0)) // wakes whoever reads or writes, also where Close would wait for them
	_ = c.socket.Close()                      // nobody is left to care
}

func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

func (c *conn) lost() error { return fmt.Errorf("%w: %w", ErrLost, c.why()) }
