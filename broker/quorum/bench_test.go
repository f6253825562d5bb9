package quorum

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// BenchmarkPropose is one change at a time: one fsync each.
func BenchmarkPropose(b *testing.B) {
	q, err := Open(Options{Dir: b.TempDir(), Node: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	if err := q.WaitLeading(ctx); err != nil {
		b.Fatal(err)
	}
	res := metadata.Resource{Kind: metadata.BrokerResource}
	i := 0
	for b.Loop() {
		i++
		if _, err := q.Propose(ctx, []metadata.Record{&metadata.ConfigSet{Resource: res, Name: "x", Value: fmt.Sprint(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}

func FuzzStateCopy(f *testing.F) {
	s := &state{}
	s.mu.values = map[string][]byte{"CurrentTerm": {1, 2, 3}}
	b := make([]byte, stateCopy)
	copy(b, s.encodeLocked())
	f.Add(b[stateHead:200])
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > stateCopy-stateHead {
			return
		}
		// A right head, so that the payload is reached.
		b := make([]byte, stateCopy)
		copy(b, stateMagic)
		copy(b[stateHead:], payload)
		binary.LittleEndian.PutUint32(b[16:], uint32(len(payload)))
		binary.LittleEndian.PutUint32(b[20:], sumCopy(b[:stateHead+len(payload)]))
		c := decodeCopy(b)
		if c == nil {
			return
		}
		again := &state{}
		again.mu.log, again.mu.values = c.log, c.values
		d := make([]byte, stateCopy)
		copy(d, again.encodeLocked())
		if e := decodeCopy(d); e == nil || len(e.log.Segments) != len(c.log.Segments) || len(e.values) != len(c.values) {
			t.Fatalf("%+v became %+v", c, e)
		}
	})
}
