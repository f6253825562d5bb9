package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belfry-mq/belfry/broker/wire"
)

// TestFiles sends pieces of every kind and size, from one file and on several connections at once.
func TestFiles(t *testing.T) {
	content := make([]byte, 24<<20)
	for i := range content {
		content[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i*7)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	parts := [][2]int{{0, 10}, {3, 16 << 10}, {5, 16<<10 + 1}, {100_000, 20 << 20}, {7, 0}, {1 << 20, 300_000}}
	var released atomic.Int32
	serve := func(r *wire.Request) {
		ps := []wire.Piece{{Bytes: []byte("head"), Release: func() { released.Add(1) }}}
		for _, p := range parts {
			readAt := func(b []byte, at int64) (int, error) { return copy(b, content[p[0]+int(at):]), nil }
			file := wire.Piece{File: f, Pos: int64(p[0]), Len: p[1], Release: func() { released.Add(1) }}
			memory := wire.Piece{Len: p[1], ReadAt: readAt, Release: func() { released.Add(1) }}
			ps = append(ps, file, wire.Piece{Bytes: content[p[0] : p[0]+p[1]]}, memory)
		}
		r.Answer(wire.Pieces(ps, 0))
	}
	want := []byte("head")
	for _, p := range parts {
		for range 3 {
			want = append(want, content[p[0]:p[0]+p[1]]...)
		}
	}
	converse := func(c *client) {
		c.send(encode(heartbeat("g", 4), 9), encode(heartbeat("g", 0), 10))
		if id, body := c.answer(); id != 9 || body[0] != 0 || !bytes.Equal(body[1:], want) {
			t.Error("flexible answer is damaged")
		}
		if id, body := c.answer(); id != 10 || !bytes.Equal(body, want) {
			t.Error("answer is damaged")
		}
	}
	addr := start(t, wire.Options{Handler: handlerFunc(serve)})
	pipes := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	startOn(t, pipes, wire.Options{Handler: handlerFunc(serve)})
	var wg sync.WaitGroup
	for range 3 {
		c := dial(t, addr)
		wg.Go(func() { converse(c) })
	}
	wg.Go(func() { converse(pipes.dial(t)) }) // no sendfile there
	wg.Wait()
	settled(t, func() bool { return released.Load() == int32(4*2*(1+2*len(parts))) })
}

// pipeListener is a listener inside the process.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial(t *testing.T) *client {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	l.conns <- theirs
	return &client{t: t, Conn: ours}
}

// TestShortFileClosesTheConnection: a frame that was promised larger cannot be mended.
func TestShortFileClosesTheConnection(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(50_000); err != nil {
		t.Fatal(err)
	}
	var released atomic.Int32
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		r.Answer(wire.Pieces([]wire.Piece{{File: f, Len: int(r.Correlation), Release: func() { released.Add(1) }}}, 0))
	})})
	for _, size := range []int32{50_001, 200_000} {
		c := dial(t, addr)
		c.send(encode(heartbeat("g", 0), size))
		b, err := io.ReadAll(c)
		if len(b) > 8+50_000 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	settled(t, func() bool { return released.Load() == 2 })
}

// TestClientLeaves: what was owed is released exactly once, whether it was answered before or after.
func TestClientLeaves(t *testing.T) {
	const n = 20
	var released [n]atomic.Int32
	parked := make(chan *wire.Request, n)
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	c := dial(t, addr)
	for i := range n {
		c.send(encode(heartbeat("g", 0), int32(i)))
	}
	answer := func(r *wire.Request) {
		r.Answer(wire.Pieces([]wire.Piece{{Bytes: make([]byte, 100), Release: func() { released[r.Correlation].Add(1) }}}, 0))
	}
	first := <-parked // never sent: it stands before all others
	for range n / 2 {
		answer(<-parked)
	}
	_ = c.Close()
	<-first.Context().Done()
	for range n - 1 - n/2 {
		answer(<-parked)
	}
	answer(first)
	settled(t, func() bool {
		for i := range released {
			if released[i].Load() != 1 {
				return false
			}
		}
		return true
	})
}
