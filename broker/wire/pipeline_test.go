package wire_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/wire"
)

// TestPipelined sends small requests many at a time: answered at once, later, or by turns, all are answered in order,
// also when fewer may be owed than are sent, and when rubbish follows.
func TestPipelined(t *testing.T) {
	later := func(r *wire.Request) { go echo(r) }
	turns := func(r *wire.Request) {
		if r.Correlation%3 == 0 {
			later(r)
			return
		}
		echo(r)
	}
	for name, answer := range map[string]func(*wire.Request){"at once": echo, "later": later, "by turns": turns} {
		for _, owed := range []int{1, 2, 5, 64} {
			t.Run(name, func(t *testing.T) {
				addr := start(t, wire.Options{MaxInFlight: owed, Handler: handlerFunc(answer)})
				c := dial(t, addr)
				const n = 500
				var all []byte
				for i := range int32(n) {
					all = append(all, encode(produce(-1, []byte{1}), i)...)
				}
				all = append(all, 0, 0, 0, 20, 0, 0, 99, 99, 0, 0, 0, 0)
				all = append(all, make([]byte, 12)...)
				go c.send(all)
				for i := range int32(n) {
					if id, _ := c.answer(); id != i {
						t.Fatalf("answer to %d, want %d", id, i)
					}
				}
				c.closed()
			})
		}
	}
}

// TestSlowReaderGetsAll: a client that takes its answers late and little by little gets them whole, whether they were
// sent by the reader or after it.
func TestSlowReaderGetsAll(t *testing.T) {
	blob := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 20_000)
	var mu sync.Mutex
	released := 0
	addr := start(t, wire.Options{Handler: handlerFunc(func(r *wire.Request) {
		r.Answer(wire.Pieces([]wire.Piece{{Bytes: blob, Release: func() {
			mu.Lock()
			defer mu.Unlock()
			released++
		}}}, 0))
	})})
	c := dial(t, addr)
	const n = 200
	go func() {
		for i := range int32(n) {
			c.send(encode(heartbeat("g", 0), i))
		}
	}()
	for i := range int32(n) {
		id, body := c.answer()
		if id != i || !bytes.Equal(body, blob) {
			t.Fatalf("answer %d of %d bytes, want %d of %d", id, len(body), i, len(blob))
		}
	}
	settled(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return released == n
	})
}

// TestIdleAfterTraffic: the time-out counts from the last traffic, not from the first, and a frame that was late
// leaves no shorter one behind.
func TestIdleAfterTraffic(t *testing.T) {
	const idle = 1500 * time.Millisecond // Why so long: a busy machine holds the test up for half a second now and then
	addr := start(t, wire.Options{IdleTimeout: func() time.Duration { return idle }, Handler: handlerFunc(echo)})
	c := dial(t, addr)
	one := encode(heartbeat("g", 0), 1)
	for begin := time.Now(); time.Since(begin) < 2*idle; {
		c.send(one[:7])
		c.send(one[7:])
		c.answer()
	}
	last := time.Now()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("read gives %v, want the end", err)
	}
	if quiet := time.Since(last); quiet < idle*3/4 {
		t.Errorf("closed after %v, want %v", quiet, idle)
	}
}
