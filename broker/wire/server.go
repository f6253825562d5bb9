package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

// Listener is one door.
type Listener struct {
	Name   string // "PLAINTEXT"
	Public bool
	Net    net.Listener
	// Internal connections come from this process: they are not counted and no limit holds for them.
	Internal bool
}

// Defaults of Options.
const (
	DefaultMaxRequestBytes = 100 << 20
	DefaultRequestMemory   = 256 << 20
	DefaultIdleTimeout     = 10 * time.Minute
	DefaultMaxInFlight     = 64
	DefaultGrace           = 5 * time.Second
)

// maxKey bounds the keys that New asks about; Kafka has about ninety.
const maxKey = 256

// Options of a Server. Limits of zero mean the documented default.
type Options struct {
	Listeners []Listener
	Handler   Handler
	// Versions says what is served to a session, nil standing for any; it is asked before anything is decoded. Safe
	// for concurrent use.
	Versions        func(s *Session, key int16) (min, max int16, ok bool)
	Stats           *stats.Broker        // nil: nothing is counted
	Logger          *slog.Logger         // nil: slog.DiscardHandler
	MaxRequestBytes int                  // socket.request.max.bytes; default DefaultMaxRequestBytes
	RequestMemory   int64                // queued.max.request.bytes: budget for frames and decoded requests of all connections; default DefaultRequestMemory
	IdleTimeout     func() time.Duration // connections.max.idle.ms; default DefaultIdleTimeout; ≤ 0: never
	MaxPerIP        func() int           // max.connections.per.ip (dynamic); default and ≤ 0: no limit
	MaxConnections  func() int           // max.connections (dynamic); default and ≤ 0: no limit
	MaxInFlight     int                  // answers a connection may be owed; default DefaultMaxInFlight
	Grace           time.Duration        // for owed answers when Run ends; default DefaultGrace
}

// Server runs the listeners.
type Server struct {
	o      Options
	shapes map[int16]*shape
	budget *budget
	frames framePool
	wg     sync.WaitGroup // connections

	closings struct { // connections closed for what they sent
		sync.Mutex
		rate
	}

	mu struct {
		sync.Mutex
		conns  map[*conn]struct{}
		perIP  map[string]int
		nextID uint64
	}
}

// New checks the options and makes the tables; it starts nothing.
func New(o Options) (*Server, error) {
	switch {
	case len(o.Listeners) == 0:
		return nil, errors.New("cannot make server: no listeners")
	case o.Handler == nil:
		return nil, errors.New("cannot make server: no handler")
	case o.Versions == nil:
		return nil, errors.New("cannot make server: no versions")
	case o.MaxRequestBytes < 0, o.RequestMemory < 0, o.MaxInFlight < 0, o.Grace < 0:
		return nil, errors.New("cannot make server: negative limit")
	}
	for _, l := range o.Listeners {
		if l.Net == nil {
			return nil, fmt.Errorf("cannot make server: listener %q has no socket", l.Name)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxRequestBytes = orDefault(o.MaxRequestBytes, DefaultMaxRequestBytes)
	o.RequestMemory = orDefault(o.RequestMemory, DefaultRequestMemory)
	o.MaxInFlight = orDefault(o.MaxInFlight, DefaultMaxInFlight)
	o.Grace = orDefault(o.Grace, DefaultGrace)
	if o.IdleTimeout == nil {
		o.IdleTimeout = func() time.Duration { return DefaultIdleTimeout }
	}
	noLimit := func() int { return 0 }
	if o.MaxPerIP == nil {
		o.MaxPerIP = noLimit
	}
	if o.MaxConnections == nil {
		o.MaxConnections = noLimit
	}
	shapes := newShapes()
	for key := range int16(maxKey) {
		if _, last, ok := o.Versions(nil, key); ok && (shapes[key] == nil || shapes[key].max < last || key == keyProduce && last > maxProduceVersion) {
			return nil, fmt.Errorf("cannot make server: requests with key %d cannot be decoded up to version %d", key, last)
		}
	}
	s := &Server{o: o, shapes: shapes, budget: newBudget(o.RequestMemory)}
	s.closings.every = logEvery
	s.mu.conns = make(map[*conn]struct{})
	s.mu.perIP = make(map[string]int)
	return s, nil
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Run serves until ctx ends; then it stops accepting and reading, sends what is owed within the grace, and closes all
// connections. It closes the listeners. It returns once all its goroutines are over: a Handler that blocks in Serve
// must heed Request.Context.
// Errors: a listener that fails ends the whole server.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	connCtx, closeAll := context.WithCancelCause(context.WithoutCancel(ctx))
	defer closeAll(nil)

	var acceptors sync.WaitGroup
	acceptors.Go(func() { s.frames.age(ctx) })
	for _, l := range s.o.Listeners {
		acceptors.Go(func() {
			if err := s.accept(ctx, connCtx, l); err != nil {
				stop(err)
			}
		})
	}
	<-ctx.Done()
	for _, l := range s.o.Listeners {
		_ = l.Net.Close() // nobody is left to care; accept sees it
	}
	acceptors.Wait()

	s.drain()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	grace := time.NewTimer(s.o.Grace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		closeAll(errShutdown)
		<-done
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

var errShutdown = errors.New("server shuts down")

// drain lets every connection read no more and end once it owes nothing.
func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.drain()
	}
}

// noteClosed counts a connection closed for its own fault; ok says that it is time for a line about n of them.
func (s *Server) noteClosed() (n int, ok bool) {
	s.closings.Lock()
	defer s.closings.Unlock()
	return s.closings.note(time.Now())
}
