package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/brokertest"
)

// gate holds what comes from a broker back while it is shut, as a broker that is stuck or
// starved of processor time does.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while it is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

func (g *gate) now() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// gated is a connection behind a gate.
type gated struct {
	net.Conn
	g      *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.g.now():
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestSlowIsNotDead holds a broker's answers back: for some periods that kills nobody, for
// good it does, and the first answer brings it back to life.
func TestSlowIsNotDead(t *testing.T) {
	node, book, g := brokertest.Start(t), &ledger{}, newGate()
	id := fmt.Sprint(node.Node())
	a, err := agent.New(agent.Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Period: time.Second, Broker: id, Statistics: node.Stats(),
		Cluster: cluster.Options{Seeds: []string{node.Addr()}, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := node.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return &gated{Conn: c, g: g, closed: make(chan struct{})}, nil
		}},
		Alarm: agent.Part{Name: "ledger", Receiver: book},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	seen := func() bool {
		_, ok := value(book.last(), metric.CurrentTopics)
		return ok
	}
	brokertest.Eventually(t, "a pass that succeeds", seen)

	g.shut()
	n := len(book.snapshots())
	brokertest.Eventually(t, "four periods without a pass", func() bool { return len(book.snapshots()) >= n+4 })
	if seen() {
		t.Fatal("a pass got through the gate: nothing is tested here")
	}
	g.lift()
	brokertest.Eventually(t, "a pass that succeeds again", seen)
	for _, s := range book.snapshots() {
		if v, ok := value(s, metric.BrokerAlive, onBroker, id); ok && v != 1 {
			t.Errorf("broker_alive is %v while the broker is slow", v)
		}
	}

	shut := time.Now()
	g.shut()
	alive := func(want float64) func() bool {
		return func() bool {
			v, ok := value(book.last(), metric.BrokerAlive, onBroker, id)
			return ok && v == want
		}
	}
	brokertest.Eventually(t, "a stuck broker is reported", alive(0))
	if silent := time.Since(shut); silent < 8*time.Second { // the last answer may be a second and a half old
		t.Errorf("reported after %v: too soon", silent)
	}
	g.lift()
	brokertest.Eventually(t, "a broker that answers again", alive(1))
}
