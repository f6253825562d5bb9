// Program nats is the client of NATS JetStream for the bench: it publishes to a stream for a
// while, reads it back, and prints both as JSON. It has a module of its own, so that the broker
// does not depend on another one's client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// result is what is printed.
type result struct {
	Produced amount `json:"produced"`
	Consumed amount `json:"consumed"`
}

type amount struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func main() {
	addr := flag.String("addr", "127.0.0.1:4222", "HOST:PORT of the server")
	size := flag.Int("size", 1000, "bytes of a message")
	d := flag.Duration("for", 3*time.Second, "how long messages are published")
	wait := flag.Bool("sync", false, "wait for the answer to each message")
	consume := flag.Bool("consume", false, "read them back")
	flag.Parse()
	res, err := run(*addr, *size, *d, *wait, *consume)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(res)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
}

const subjects = 6

func run(addr string, size int, d time.Duration, wait, consume bool) (res result, err error) {
	var late atomic.Bool
	nc, err := nats.Connect("nats://" + addr)
	if err != nil {
		return res, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096),
		jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) { late.Store(true) }))
	if err != nil {
		return res, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+2*time.Minute)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "bench", Subjects: []string{"bench.*"}, Storage: jetstream.FileStorage})
	if err != nil {
		return res, err
	}
	n, took, err := publish(ctx, js, size, d, wait)
	if err != nil {
		return res, err
	}
	if late.Load() {
		return res, errors.New("a message was refused")
	}
	res.Produced = amount{n * int64(size), took.Seconds()}
	if consume {
		if took, err = read(ctx, stream, n); err != nil {
			return res, err
		}
		res.Consumed = amount{n * int64(size), took.Seconds()}
	}
	return res, js.DeleteStream(ctx, "bench")
}

func publish(ctx context.Context, js jetstream.JetStream, size int, d time.Duration, wait bool) (n int64, took time.Duration, err error) {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	var names [subjects]string
	for i := range names {
		names[i] = fmt.Sprint("bench.", i)
	}
	begin := time.Now()
	for time.Since(begin) < d {
		subject := names[n%subjects]
		if wait {
			_, err = js.Publish(ctx, subject, value)
		} else {
			_, err = js.PublishAsync(subject, value, jetstream.WithStallWait(time.Minute))
		}
		if err != nil {
			return 0, 0, err
		}
		n++
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	return n, time.Since(begin), nil
}

func read(ctx context.Context, stream jetstream.Stream, n int64) (time.Duration, error) {
	c, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return 0, err
	}
	done := make(chan struct{})
	var got int64
	begin := time.Now()
	consuming, err := c.Consume(func(jetstream.Msg) {
		if got++; got == n {
			close(done)
		}
	}, jetstream.PullMaxMessages(5000))
	if err != nil {
		return 0, err
	}
	defer consuming.Stop()
	select {
	case <-done:
		return time.Since(begin), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
