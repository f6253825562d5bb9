package quorum

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Network is how this node and the other members reach each other.
type Network struct {
	// Listener is the controller listener, open already; the Quorum closes it.
	Listener net.Listener
	// Address is where the others find it, HOST:PORT.
	Address string
	// Dial connects to the controller listener of another node. Nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// First are the controllers that form a new cluster, all at the same time, this
	// node among them. A node that belongs to a cluster already does not look at it.
	First []Voter
	// Join lets this node into a cluster that is there. Nil: it does not join.
	Join *Token
}

// A connection between two nodes begins with a greeting and its answer, both
//
//	length 2 (big-endian) | JSON
//
// the greeting after the magic. After a good answer to a greeting for raft the
// connection is raft's; every other one ends there.
const (
	doorMagic = "BELFRYQ1"
	// greetingLimit bounds what a stranger can make us read.
	greetingLimit = 8 << 10
	// greetingTime is how long a greeting and its answer may take.
	greetingTime = 5 * time.Second
	// maxGreeters is how many strangers are listened to at a time. Why so many: after
	// a leader's death every member of a large cluster comes at once.
	maxGreeters = 256
)

// Purposes of a connection.
const (
	forRaft = "raft"
	forForm = "form"
	forJoin = "join"
)

// greeting is what the one says that connects.
type greeting struct {
	Purpose string        `json:"purpose"`
	Cluster string        `json:"cluster,omitempty"` // raft: of the one that connects
	From    raft.ServerID `json:"from,omitempty"`    // raft: who it is
	To      raft.ServerID `json:"to,omitempty"`      // raft: whom it wants
	Join    *application  `json:"join,omitempty"`
}

// reply is what the other one answers.
type reply struct {
	Refused string    `json:"refused,omitempty"` // why not, and asking again does not help
	Later   string    `json:"later,omitempty"`   // why not now
	Leader  string    `json:"leader,omitempty"`  // join: ask at this address
	State   *standing `json:"state,omitempty"`   // form
	Cluster string    `json:"cluster,omitempty"` // join: the cluster that this node belongs to now
}

// door is the controller listener: it greets who comes and hands raft its
// connections. It implements raft.StreamLayer.
type door struct {
	network *Network
	logger  *slog.Logger
	answer  func(greeting) reply
	call    func(to raft.ServerID) greeting // what to say to a member for raft

	raft    chan net.Conn
	closing chan struct{}
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		closed bool
		conns  map[net.Conn]struct{}
		told   map[string]time.Time // refusals that were logged
	}
}

var _ raft.StreamLayer = (*door)(nil)

// errDoorClosed ends Accept and Dial.
var errDoorClosed = errors.New("the controller listener is closed")

func newDoor(n *Network, logger *slog.Logger) *door {
	d := &door{network: n, logger: logger, raft: make(chan net.Conn), closing: make(chan struct{})}
	d.mu.conns, d.mu.told = map[net.Conn]struct{}{}, map[string]time.Time{}
	return d
}

// open begins to answer. Requires: answer and call are set.
func (d *door) open() {
	d.running.Go(func() {
		greeters := make(chan struct{}, maxGreeters)
		for {
			conn, err := d.network.Listener.Accept()
			if err != nil {
				if !d.rest(err) {
					return
				}
				continue
			}
			select {
			case greeters <- struct{}{}:
			case <-d.closing:
			}
			if !d.keep(conn) {
				return
			}
			d.running.Go(func() {
				defer func() { <-greeters }()
				d.greet(conn)
			})
		}
	})
}

// acceptPause is how long an Accept that fails (no descriptors left) is not tried again.
const acceptPause = 50 * time.Millisecond

// rest waits after a failed Accept; false: the door is closed.
func (d *door) rest(err error) bool {
	select {
	case <-d.closing:
		return false
	default:
	}
	d.logger.Warn("cannot accept a connection of another node", "err", err)
	select {
	case <-d.closing:
		return false
	case <-time.After(acceptPause):
		return true
	}
}

// keep notes a connection, so that Close can close it; false: it is too late.
func (d *door) keep(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		conn.Close()
		return false
	}
	d.mu.conns[conn] = struct{}{}
	return true
}

// drop closes a connection.
func (d *door) drop(conn net.Conn) {
	conn.Close()
	d.mu.Lock()
	delete(d.mu.conns, conn)
	d.mu.Unlock()
}

// greet answers one that came.
func (d *door) greet(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(greetingTime))
	from := conn.RemoteAddr().String()
	var g greeting
	if err := readGreeting(conn, &g); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) { // Why not: somebody who only looked whether the port is open
			d.refuse(from, "it is no node of this program: "+err.Error())
		}
		d.drop(conn)
		return
	}
	r := d.answer(g)
	if r.Refused != "" {
		d.refuse(from, r.Refused)
	}
	if err := writeJSON(conn, r); err != nil || g.Purpose != forRaft || r.Refused != "" || r.Later != "" {
		d.drop(conn)
		return
	}
	conn.SetDeadline(time.Time{})
	select {
	case d.raft <- &kept{conn, d}:
	case <-d.closing:
		d.drop(conn)
	}
}

// kept is a connection that the door forgets when it is closed.
type kept struct {
	net.Conn
	door *door
}

// Close implements net.Conn.
func (k *kept) Close() error {
	k.door.drop(k.Conn)
	return nil
}

// refusalPause is how often the same refusal is logged, and maxTold how many are remembered.
const (
	refusalPause = time.Minute
	maxTold      = 1000
)

// refuse logs why a connection was refused, the same thing once in a while.
func (d *door) refuse(from, why string) {
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	d.mu.Lock()
	last, known := d.mu.told[host+why]
	tell := !known || time.Since(last) > refusalPause
	if tell {
		if len(d.mu.told) >= maxTold {
			clear(d.mu.told)
		}
		d.mu.told[host+why] = time.Now()
	}
	d.mu.Unlock()
	if tell {
		d.logger.Warn("refused a connection to the controller listener", "from", from, "why", why)
	}
}

// Accept implements net.Listener, for raft.
func (d *door) Accept() (net.Conn, error) {
	select {
	case conn := <-d.raft:
		return conn, nil
	case <-d.closing:
		return nil, errDoorClosed
	}
}

// Addr implements net.Listener: this member's address.
func (d *door) Addr() net.Addr { return memberAddr(memberAddress(d.call("").From, d.network.Address)) }

// memberAddr is a member's address as a net.Addr.
type memberAddr raft.ServerAddress

// Network implements net.Addr.
func (memberAddr) Network() string { return "belfry" }

// String implements net.Addr.
func (a memberAddr) String() string { return string(a) }

// Close implements net.Listener: it closes every connection too.
func (d *door) Close() error {
	d.mu.Lock()
	if d.mu.closed {
		d.mu.Unlock()
		return nil
	}
	d.mu.closed = true
	close(d.closing)
	err := d.network.Listener.Close()
	for conn := range d.mu.conns {
		conn.Close()
	}
	clear(d.mu.conns)
	d.mu.Unlock()
	d.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot close the controller listener: %w", err)
	}
	return nil
}

// refusedError is a refusal that asking again does not change.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// Dial implements raft.StreamLayer.
func (d *door) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, hostPort := splitAddress(to)
	if hostPort == "" {
		return nil, fmt.Errorf("cannot reach member %q: it has no address", to)
	}
	conn, r, err := d.connect(hostPort, d.call(id), min(timeout, greetingTime))
	if err != nil {
		return nil, err
	}
	if r.Later != "" {
		conn.Close()
		return nil, fmt.Errorf("cannot reach node %d at %s: %s", nodeOf(id), hostPort, r.Later)
	}
	return conn, nil
}

// ask greets a node and gives its answer.
//
// Errors: refusedError; the network's.
func (d *door) ask(hostPort string, g greeting, timeout time.Duration) (reply, error) {
	conn, r, err := d.connect(hostPort, g, timeout)
	if err != nil {
		return r, err
	}
	conn.Close()
	return r, nil
}

// connect dials and greets. The connection has no deadline any more.
func (d *door) connect(hostPort string, g greeting, timeout time.Duration) (net.Conn, reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	dial := d.network.Dial
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, hostPort)
	if err != nil {
		return nil, reply{}, fmt.Errorf("cannot reach %s: %w", hostPort, err)
	}
	if !d.keep(conn) {
		return nil, reply{}, errDoorClosed
	}
	conn.SetDeadline(time.Now().Add(timeout))
	var r reply
	if _, err = io.WriteString(conn, doorMagic); err == nil {
		err = writeJSON(conn, g)
	}
	if err == nil {
		err = readJSON(conn, &r)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("cannot greet the node at %s: %w", hostPort, err)
	case r.Refused != "":
		err = fmt.Errorf("the node at %s refuses: %w", hostPort, &refusedError{r.Refused})
	}
	if err != nil {
		d.drop(conn)
		return nil, r, err
	}
	conn.SetDeadline(time.Time{})
	return &kept{conn, d}, r, nil
}

func readGreeting(r io.Reader, g *greeting) error {
	magic := make([]byte, len(doorMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return err
	}
	if string(magic) != doorMagic {
		return fmt.Errorf("it begins with %q, not %q", magic, doorMagic)
	}
	return readJSON(r, g)
}

func readJSON(r io.Reader, v any) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint16(head[:])
	if size > greetingLimit {
		return fmt.Errorf("it announces %d bytes, %d are allowed", size, greetingLimit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > greetingLimit {
		return fmt.Errorf("%d bytes are too many for a greeting, %d are allowed", len(b), greetingLimit)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
