// Package brokertest runs a broker inside a test, as httptest runs a server: on a
// free port of loopback, with its data in a temporary directory, stopped when the
// test ends.
//
// It is for tests only. Invariant: when the test has ended so has every broker it
// started, and a broker that ended with an error failed its test.
package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// patience bounds every wait.
const patience = 30 * time.Second

// Broker is a broker under test. The embedded one is replaced by Restart.
type Broker struct {
	*broker.Broker

	t        testing.TB
	dir      string
	more     []string
	fs       disk.FS
	settings map[string]string
	log      *slog.Logger
	errors   *errorLog
	before   func(*broker.Broker) error
	addr     string // kept over restarts
	cancel   context.CancelCauseFunc
	done     chan error
}

// Option changes what Start does.
type Option func(*Broker)

// Set gives settings over the defaults.
func Set(settings map[string]string) Option {
	return func(b *Broker) { maps.Copy(b.settings, settings) }
}

// Dir puts the data into a directory that the test knows.
func Dir(dir string) Option { return func(b *Broker) { b.dir = dir } }

// More adds log directories to the one that Dir names.
func More(dirs ...string) Option { return func(b *Broker) { b.more = dirs } }

// FS puts the logs on another disk; the metadata log stays on the real one.
func FS(fs disk.FS) Option { return func(b *Broker) { b.fs = fs } }

// Before has something done with each broker before it runs.
func Before(do func(*broker.Broker) error) Option { return func(b *Broker) { b.before = do } }

// Start starts a broker and waits until it is ready.
func Start(t testing.TB, options ...Option) *Broker {
	t.Helper()
	b := prepare(t, options...)
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	return b
}

// prepare makes a broker that is not started.
func prepare(t testing.TB, options ...Option) *Broker {
	t.Helper()
	b := &Broker{t: t, settings: map[string]string{
		"listeners": "PLAINTEXT://" + port.Addr(t),
		// Why small: tests have no need of room for a real cluster.
		"storage.reserve.bytes":            "0",
		"offsets.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms": "0",
	}}
	b.errors = &errorLog{}
	b.log = slog.New(both{slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}), b.errors})
	for _, o := range options {
		o(b)
	}
	if b.dir == "" {
		b.dir = t.TempDir()
	}
	return b
}

// run starts the broker and waits until it is ready or has ended.
func (b *Broker) run() error {
	if b.addr != "" {
		b.settings["listeners"] = "PLAINTEXT://" + b.addr
	}
	values, err := config.Defaults().With(b.settings)
	if err != nil {
		return err
	}
	b.Broker, err = broker.New(broker.Options{Values: values, Dirs: append([]string{b.dir}, b.more...), FS: b.fs, Logger: b.log})
	if err != nil {
		return err
	}
	if b.before != nil {
		if err := b.before(b.Broker); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	b.cancel, b.done = cancel, make(chan error, 1)
	go func(n *broker.Broker, done chan<- error) { done <- n.Run(ctx) }(b.Broker, b.done)
	deadline := time.Now().Add(patience)
	for {
		ready, why := b.Ready()
		if ready {
			break
		}
		select {
		case err := <-b.done:
			b.cancel, b.done = nil, nil
			cancel(nil)
			return fmt.Errorf("cannot start broker: %w", err)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot start broker in %v: %v", patience, why)
		}
	}
	b.addr = b.Broker.Addr("PLAINTEXT").String()
	return nil
}

// Addr gives the address for clients, HOST:PORT. It stays the same over restarts.
func (b *Broker) Addr() string { return b.addr }

// Host gives Addr in parts.
func (b *Broker) Host() (host, port string) {
	host, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	return host, port
}

// DataDir gives the data directory.
func (b *Broker) DataDir() string { return b.dir }

// Errors gives the error lines that the broker has logged so far.
func (b *Broker) Errors() []string { return b.errors.all() }

// Stop ends the broker as an operator would, and waits for it. A stopped broker
// may be stopped again.
func (b *Broker) Stop() { b.t.Helper(); b.end(nil) }

// Kill ends the broker without a word to the others, and waits for it.
func (b *Broker) Kill() { b.t.Helper(); b.end(broker.ErrAtOnce) }

func (b *Broker) end(cause error) {
	b.t.Helper()
	if b.cancel == nil {
		return
	}
	b.cancel(cause)
	select {
	case err := <-b.done:
		if err != nil {
			b.t.Errorf("broker ended with: %v", err)
		}
	case <-time.After(patience):
		stacks := make([]byte, 1<<20)
		b.t.Fatalf("broker does not stop within %v:\n%s", patience, stacks[:runtime.Stack(stacks, true)])
	}
	b.cancel, b.done = nil, nil
}

// Restart stops the broker, runs between (which may be nil) and starts a new one on
// the same data, address and settings with more over them.
func (b *Broker) Restart(between func(), more map[string]string) {
	b.t.Helper()
	b.Stop()
	if between != nil {
		between()
	}
	maps.Copy(b.settings, more)
	if err := b.run(); err != nil {
		b.t.Fatal(err)
	}
}

// ForgetCleanShutdown makes the stopped broker's data look as after a crash: the
// next start recovers its logs. Requires: the broker is stopped.
func (b *Broker) ForgetCleanShutdown() {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, cleanShutdown)); err != nil {
		b.t.Fatal(err)
	}
}

// cleanShutdown is the file that storage leaves when it closed cleanly.
const cleanShutdown = "clean-shutdown"

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
