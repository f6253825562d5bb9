package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

const (
	logEvery      = 10 * time.Second // one line about refused connections of a listener
	acceptPause   = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// accept takes connections of one listener until ctx ends. connCtx is theirs.
func (s *Server) accept(ctx, connCtx context.Context, l Listener) error {
	counts := s.o.Stats
	if l.Internal {
		counts = nil
	}
	count := counts.Listener(l.Name, l.Public)
	refusals := rate{every: logEvery}
	pause := acceptPause
	for {
		nc, err := l.Net.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("cannot accept on listener %q: %w", l.Name, err)
			}
			// Why go on: out of file descriptors, or a client that left before it was served. Both pass.
			s.o.Logger.Warn("cannot accept connection", "listener", l.Name, "error", err, "pause", pause)
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, maxAcceptWait)
			continue
		}
		pause = acceptPause
		c, err := s.admit(connCtx, nc, l, count)
		if err != nil {
			_ = nc.Close()
			count.Refused.Add(1)
			if n, ok := refusals.note(time.Now()); ok {
				s.o.Logger.Warn("refused connections", "listener", l.Name, "remote", nc.RemoteAddr(), "error", err, "count", n)
			}
			continue
		}
		count.Accepted.Add(1)
		count.Connections.Add(1)
		s.wg.Go(func() {
			defer count.Connections.Add(-1)
			defer s.leave(c)
			c.run()
		})
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// admit registers a connection, or says which limit it breaks.
func (s *Server) admit(ctx context.Context, nc net.Conn, l Listener, count *stats.Listener) (*conn, error) {
	ip := ipOf(nc.RemoteAddr())
	perIP, total := s.o.MaxPerIP(), s.o.MaxConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.Internal: // no limit
	case total > 0 && len(s.mu.conns) >= total:
		return nil, fmt.Errorf("%d connections are open", total)
	case perIP > 0 && s.mu.perIP[ip] >= perIP:
		return nil, fmt.Errorf("%d connections from one address are open", perIP)
	}
	s.mu.nextID++
	s.mu.perIP[ip]++
	c := newConn(ctx, s, nc, &Session{ID: s.mu.nextID, Remote: nc.RemoteAddr(), Listener: l.Name, Public: l.Public}, count)
	s.mu.conns[c] = struct{}{}
	return c, nil
}

func (s *Server) leave(c *conn) {
	ip := ipOf(c.session.Remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
	if s.mu.perIP[ip]--; s.mu.perIP[ip] == 0 {
		delete(s.mu.perIP, ip)
	}
}

// ipOf gives the address without port; what is no IP address counts as one.
func ipOf(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	if a == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// rate lets one of many lines through.
type rate struct {
	every time.Duration
	last  time.Time
	n     int
}

// note counts one event; ok says that it is time for a line about the n events since the last one.
func (r *rate) note(now time.Time) (n int, ok bool) {
	r.n++
	if !r.last.IsZero() && now.Sub(r.last) < r.every {
		return 0, false
	}
	n, r.n, r.last = r.n, 0, now
	return n, true
}
