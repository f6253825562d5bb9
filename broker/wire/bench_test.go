package wire_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/wire"
)

func BenchmarkRequests(b *testing.B) {
	addr := start(b, wire.Options{Handler: handlerFunc(echo)})
	one := encode(heartbeat("group", 4), 1)
	for _, depth := range []int{1, 32} {
		b.Run(map[int]string{1: "one at a time", 32: "pipelined"}[depth], func(b *testing.B) {
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			many := bytes.Repeat(one, depth)
			buf := make([]byte, depth*(4+4+1+7))
			b.ReportAllocs()
			for i := 0; i < b.N; i += depth {
				c.send(many)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "segment"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	for name, piece := range map[string]wire.Piece{
		"sendfile": {File: f, Len: size},
		"copy":     {Len: size, ReadAt: f.ReadAt},
	} {
		b.Run(name, func(b *testing.B) {
			addr := start(b, wire.Options{Handler: handlerFunc(func(r *wire.Request) { r.Answer(wire.Pieces([]wire.Piece{piece}, 0)) })})
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			one := encode(heartbeat("group", 0), 1)
			buf := make([]byte, 8+size)
			b.SetBytes(size)
			for b.Loop() {
				c.send(one)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
