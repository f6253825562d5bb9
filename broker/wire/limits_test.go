package wire_test

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

func TestHostileFrames(t *testing.T) {
	addr := start(t, wire.Options{Handler: handlerFunc(echo), MaxRequestBytes: 4 << 20})
	good := encode(heartbeat("group", 4), 1)
	bigFetch := append([]byte{0, 0x10, 0, 1, 0, 1, 0, 4}, make([]byte, 20)...)
	for name, b := range map[string][]byte{
		"size zero":                 {0, 0, 0, 0},
		"size negative":             {0x80, 0, 0, 0},
		"size of http":              []byte("GET / HTTP/1.1\r\n\r\n"),
		"size above the limit":      {0, 0x40, 0, 1},
		"size too small":            {0, 0, 0, 9, 0, 12, 0, 0, 0, 0, 0, 0, 0},
		"fetch above 1 MiB":         bigFetch,
		"body cut":                  append([]byte{0, 0, 0, 12}, good[4:16]...),
		"client ID beyond frame":    {0, 0, 0, 10, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1},
		"client ID of length -2":    {0, 0, 0, 10, 0, 12, 0, 0, 0, 0, 0, 0, 0xff, 0xfe},
		"tag bomb in header":        {0, 0, 0, 15, 0, 12, 0, 4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"tag bomb in ApiVersions":   {0, 0, 0, 18, 0, 18, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"array of a billion topics": {0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			c := dial(t, addr)
			c.send(b)
			c.closed()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	c := dial(t, addr)
	c.send(good)
	if id, _ := c.answer(); id != 1 {
		t.Error("the good frame is not answered")
	}
}

func TestSlowReaderIsNotRead(t *testing.T) {
	var served atomic.Int32
	blob := make([]byte, 1<<20)
	addr := start(t, wire.Options{MaxInFlight: 4, Handler: handlerFunc(func(r *wire.Request) {
		served.Add(1)
		r.Answer(wire.Pieces([]wire.Piece{{Bytes: blob}}, 0))
	})})
	c := dial(t, addr)
	const n = 100
	go func() {
		for i := range n {
			if _, err := c.Write(encode(heartbeat("g", 0), int32(i))); err != nil {
				return
			}
		}
	}()
	// the server takes some, then stands still
	var last int32
	settled(t, func() bool {
		now := served.Load()
		same := now == last && now > 0
		last = now
		return same
	})
	if got := served.Load(); got > 60 {
		t.Errorf("%d MiB of answers are owed to a client that does not read", got)
	}
	for i := range n {
		if id, body := c.answer(); id != int32(i) || len(body) != len(blob) {
			t.Fatalf("answer %d: correlation ID %d, %d bytes", i, id, len(body))
		}
	}
}

// TestMemoryBudget: frames wait for memory, other requests do not starve behind them, and it comes back.
func TestMemoryBudget(t *testing.T) {
	const n = 6
	parked := make(chan *wire.Request, n)
	addr := start(t, wire.Options{RequestMemory: 12 << 20, Handler: handlerFunc(func(r *wire.Request) {
		if r.Key == 0 {
			parked <- r
			return
		}
		echo(r)
	})})
	frame := encode(produce(-1, bytes.Repeat([]byte{7}, 900_000)), 1) // takes 1 MiB; there are 2.6 for it
	var clients []*client
	for range n {
		c := dial(t, addr)
		go func() { _, _ = c.Write(frame) }() // what the server does not read may block
		clients = append(clients, c)
	}
	settled(t, func() bool { return len(parked) == 2 })
	other := dial(t, addr)
	other.send(encode(heartbeat("g", 0), 5))
	if id, _ := other.answer(); id != 5 {
		t.Error("the heartbeat starves")
	}
	for range n {
		r := <-parked
		if got := r.Body.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records; len(got) != 900_000 || bytes.Count(got, []byte{7}) != len(got) {
			t.Error("records are damaged")
		}
		echo(r)
	}
	for _, c := range clients {
		if id, _ := c.answer(); id != 1 {
			t.Errorf("correlation ID %d", id)
		}
	}
}

// TestRecordsDone: requests whose records are done with wait for their answers without the memory
// of them, which the next requests get; all else of them stays.
func TestRecordsDone(t *testing.T) {
	const n = 9
	parked := make(chan *wire.Request, n)
	addr := start(t, wire.Options{RequestMemory: 12 << 20, Handler: handlerFunc(func(r *wire.Request) {
		got := r.Body.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records
		if len(got) < 900_000 || bytes.Count(got, []byte{byte(r.Correlation)}) != len(got) {
			t.Errorf("records of request %d are damaged", r.Correlation)
		}
		r.RecordsDone()
		r.RecordsDone() // has nothing to do
		parked <- r
	})})
	var clients []*client
	for i := range n { // takes 1 MiB each, or 2; there are 2.6 for it
		c := dial(t, addr)
		frame := encode(produce(-1, bytes.Repeat([]byte{byte(i)}, 900_000+i%2*200_000)), int32(i))
		go func() { _, _ = c.Write(frame) }() // the server may not read it before another was served
		clients = append(clients, c)
	}
	settled(t, func() bool { return len(parked) == n })
	for range n {
		r := <-parked
		if p := r.Body.(*kmsg.ProduceRequest).Topics[0]; p.Topic != "t" || len(p.Partitions) != 1 || p.Partitions[0].Records != nil {
			t.Errorf("request %d is %+v after its records", r.Correlation, p)
		}
		echo(r)
	}
	for i, c := range clients {
		if id, _ := c.answer(); id != int32(i) {
			t.Errorf("correlation ID %d, want %d", id, i)
		}
	}
}

// TestLanes: neither a large frame that does not arrive nor requests that nobody answers stop those of other kinds.
func TestLanes(t *testing.T) {
	var parked atomic.Int32
	addr := start(t, wire.Options{RequestMemory: 16 << 20, Handler: handlerFunc(func(r *wire.Request) {
		if r.Size > 16<<10 && r.Key == 12 {
			parked.Add(1)
			return
		}
		echo(r)
	})})
	stalled := dial(t, addr)
	large := encode(produce(-1, make([]byte, 8<<20)), 1)
	stalled.send(large[:4<<20])
	for range 3 {
		c := dial(t, addr)
		go func() {
			for i := range 60 {
				if _, err := c.Write(encode(heartbeat(string(make([]byte, 20<<10)), 0), int32(i))); err != nil {
					return
				}
			}
		}()
	}
	var last int32
	settled(t, func() bool { // 180 requests of 20 KiB are sent, 2 MiB is all there is
		now := parked.Load()
		same := now == last && now > 0
		last = now
		return same
	})
	if last >= 110 {
		t.Errorf("%d requests of 20 KiB are held by 2 MiB", last)
	}
	c := dial(t, addr)
	c.send(encode(produce(-1, make([]byte, 500_000)), 1), encode(heartbeat("g", 0), 2))
	for id := range int32(2) {
		if got, _ := c.answer(); got != id+1 {
			t.Errorf("correlation ID %d", got)
		}
	}
	stalled.send(large[4<<20:])
	if id, _ := stalled.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
}

func TestIdle(t *testing.T) {
	parked := make(chan *wire.Request, 1)
	addr := start(t, wire.Options{IdleTimeout: func() time.Duration { return 150 * time.Millisecond }, Handler: handlerFunc(func(r *wire.Request) { parked <- r })})
	begin := time.Now()
	quiet := dial(t, addr)
	busy := dial(t, addr)
	busy.send(encode(heartbeat("g", 0), 1))
	r := <-parked
	quiet.closed()
	if took := time.Since(begin); took < 140*time.Millisecond || took > 5*time.Second {
		t.Errorf("closed after %s", took)
	}
	// something is owed for longer than the timeout
	half := dial(t, addr)
	half.closed()
	echo(r)
	if id, _ := busy.answer(); id != 1 {
		t.Errorf("correlation ID %d", id)
	}
	busy.closed()
}

func TestLimits(t *testing.T) {
	var perIP atomic.Int32
	perIP.Store(2)
	addr := start(t, wire.Options{Handler: handlerFunc(echo), MaxPerIP: func() int { return int(perIP.Load()) }, MaxConnections: func() int { return 3 }})
	ping := func(c *client) {
		t.Helper()
		c.send(encode(heartbeat("g", 0), 1))
		c.answer()
	}
	a, b := dial(t, addr), dial(t, addr)
	ping(a)
	ping(b)
	dial(t, addr).closed()
	perIP.Store(100)
	c := dial(t, addr)
	ping(c)
	dial(t, addr).closed() // the total
	_ = a.Close()
	settled(t, func() bool {
		d, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer d.Close()
		_ = d.SetDeadline(time.Now().Add(time.Second))
		_, err = d.Write(encode(heartbeat("g", 0), 1))
		if err == nil {
			_, err = io.ReadFull(d, make([]byte, 10))
		}
		return err == nil
	})
}
