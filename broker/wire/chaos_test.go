package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// chaos answers in every way, now or later, and counts pieces that are to be released.
type chaos struct {
	file    *os.File
	late    chan *Request
	pieces  atomic.Int64
	release atomic.Int64
	twice   atomic.Int64
	served  atomic.Int64
}

func (h *chaos) Serve(r *Request) {
	h.served.Add(1)
	switch r.Correlation % 16 {
	case 15:
		panic("BUG: on purpose")
	case 14:
		r.Drop(errors.New("on purpose"))
	case 0, 1, 2, 3, 4, 5:
		h.late <- r
	default:
		h.answer(r)
	}
}

func (h *chaos) answer(r *Request) {
	switch r.Correlation % 5 {
	case 0:
		r.AnswerHere(Message(r.Body.ResponseKind(), 0))
	case 1, 2:
		r.Answer(Pieces([]Piece{h.piece(Piece{Bytes: []byte{1, 2, 3}}), h.piece(Piece{File: h.file, Pos: 5, Len: 100_000})}, 0))
	case 3:
		r.AnswerHere(Pieces([]Piece{h.piece(Piece{File: h.file, Len: 1000}), h.piece(Piece{Len: 40_000, ReadAt: h.file.ReadAt})}, 0))
	case 4:
		r.AnswerNothing()
	}
}

func (h *chaos) piece(p Piece) Piece {
	h.pieces.Add(1)
	var once atomic.Bool
	p.Release = func() {
		h.release.Add(1)
		if once.Swap(true) {
			h.twice.Add(1)
		}
	}
	return p
}

// answerLate answers what was put aside, in small heaps and no order, until the channel is closed.
func (h *chaos) answerLate(r *rand.Rand) {
	var heap []*Request
	for q := range h.late {
		heap = append(heap, q)
		if len(heap) < 1+r.IntN(8) {
			continue
		}
		r.Shuffle(len(heap), func(i, j int) { heap[i], heap[j] = heap[j], heap[i] })
		for _, q := range heap {
			h.answer(q)
		}
		heap = heap[:0]
	}
	for _, q := range heap {
		h.answer(q)
	}
}

// misbehave is one connection of a client that sends good and bad, reads or does not, and leaves at any time. Answers
// must come in order.
func misbehave(t *testing.T, r *rand.Rand, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(250 * time.Millisecond)) // it leaves then, whatever is owed
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.IntN(4) > 0 {
		wg.Go(func() { readInOrder(t, c) })
	} else {
		defer func() { _ = c.Close() }()
	}
	f := kmsg.NewRequestFormatter()
	first := int32(r.IntN(1000)) * 1000
	for i := range int32(1 + r.IntN(40)) {
		var req kmsg.Request = &kmsg.HeartbeatRequest{Version: int16(r.IntN(5)), Group: "g"}
		if r.IntN(3) == 0 {
			p := &kmsg.ProduceRequest{Version: 7, Acks: 1, Topics: []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, r.IntN(300_000))}}}}}
			req = p
		}
		b := f.AppendRequest(nil, req, first+i)
		switch r.IntN(60) {
		case 0:
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		case 1:
			b = b[:r.IntN(len(b))]
		case 2:
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// readInOrder reads answers until the connection ends; the handler skips some correlation IDs, none goes back.
func readInOrder(t *testing.T, c net.Conn) {
	last := int32(-1)
	var head [8]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		id := int32(binary.BigEndian.Uint32(head[4:]))
		// a flipped bit may have hit a correlation ID: then it is not of this connection's thousand
		if last >= 0 && id/1000 == last/1000 && id <= last {
			t.Errorf("answer %d after %d", id, last)
			return
		}
		last = id
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:]))-4); err != nil {
			return
		}
	}
}

// TestChaos: whatever clients and handlers do, all memory and every piece comes back exactly once.
func TestChaos(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &chaos{file: file, late: make(chan *Request, 1000)}
	s, err := New(Options{
		Listeners: []Listener{{Name: "PLAINTEXT", Net: l}}, Handler: h, RequestMemory: 16 << 20, MaxInFlight: 8, Grace: 100 * time.Millisecond,
		Versions: func(_ *Session, key int16) (int16, int16, bool) {
			return 0, map[int16]int16{0: 7, 12: 4}[key], key == 0 || key == 12
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	late := make(chan struct{})
	go func() {
		defer close(late)
		h.answerLate(rand.New(rand.NewPCG(1, 1)))
	}()
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for range 8 {
				misbehave(t, r, l.Addr().String())
			}
		})
	}
	clients.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(h.late)
	<-late
	if h.served.Load() < 300 {
		t.Errorf("only %d requests were served", h.served.Load())
	}
	if made, back := h.pieces.Load(), h.release.Load(); made != back || h.twice.Load() != 0 {
		t.Errorf("%d pieces, %d released, %d of them twice", made, back, h.twice.Load())
	}
	for name, l := range map[string]lane{"small": s.budget.small, "other": s.budget.other, "produce": s.budget.produce, "large": s.budget.large} {
		if !l.frames.sem.TryAcquire(l.frames.size) || !l.decoded.sem.TryAcquire(l.decoded.size) {
			t.Errorf("memory of lane %s is lost", name)
		}
	}
	if len(s.mu.conns) != 0 || len(s.mu.perIP) != 0 {
		t.Errorf("%d connections are still known, %d addresses", len(s.mu.conns), len(s.mu.perIP))
	}
}
