package sampler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// source is one collector and what became of it. Only the heartbeat touches it;
// the collector's goroutine speaks through done alone.
type source struct {
	Collector
	log *slog.Logger

	done    chan result // nil while the collector rests; buffered for one
	samples []metric.Sample

	timeouts, failures int
	took               time.Duration
	late               bool // the last tick ended without an answer
	stuck              bool // it still runs for an earlier tick
}

type result struct {
	samples []metric.Sample
	err     error
	took    time.Duration
}

func newSource(c Collector, log *slog.Logger) *source {
	return &source{Collector: c, log: log.With("collector", c.Name())}
}

// start lets the collector run, unless it still runs for an earlier tick.
func (s *source) start(ctx context.Context, p Period) {
	s.samples, s.took = nil, 0
	if s.done != nil {
		select {
		case <-s.done: // it came in between: too late for its tick, free for this one
			s.done = nil
		default:
			s.stuck = true
			return
		}
	}
	s.stuck = false
	done := make(chan result, 1)
	s.done = done
	go func() {
		begun := time.Now()
		samples, err := collect(ctx, s.Collector, p)
		done <- result{samples, err, time.Since(begun)}
	}()
}

// await takes the collector's answer, or counts it as late.
func (s *source) await(ctx context.Context, p Period) {
	if s.stuck {
		s.timeouts++
		return
	}
	select {
	case r := <-s.done:
		s.finish(r, p)
		return
	default:
	}
	select {
	case r := <-s.done:
		s.finish(r, p)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return // the agent stops
		}
		s.timeouts++
		if !s.late {
			s.log.Warn("collector came too late: its metrics are absent")
		}
		s.late = true
	}
}

func (s *source) finish(r result, p Period) {
	s.done, s.late, s.took = nil, false, r.took
	switch {
	case errors.Is(r.err, context.DeadlineExceeded):
		s.timeouts++
		s.log.Warn("collector ran out of time", "error", r.err)
	case r.err != nil:
		s.failures++
		s.log.Warn("collector failed", "error", r.err)
	}
	if !p.Prime {
		s.samples = r.samples
	}
}

// take gives the samples of this tick.
func (s *source) take() []metric.Sample { return s.samples }

// drain waits for a collector that still runs, until patience ends. Requires: its
// context has ended.
//
// Why the bound: a collector may hang in the kernel, on a disk that does not
// answer, and no context reaches it there. The node must still be able to stop.
func (s *source) drain(patience <-chan struct{}) {
	if s.done == nil {
		return
	}
	select {
	case <-s.done:
		s.done = nil
	case <-patience:
		s.log.Error("collector hangs and is left behind")
	}
}

// collect turns a collector's panic into an error: a bug in one reading must not
// end the watch over all others.
func collect(ctx context.Context, c Collector, p Period) (samples []metric.Sample, err error) {
	defer func() {
		if r := recover(); r != nil {
			samples, err = nil, fmt.Errorf("collector %q panicked: %v\n%s", c.Name(), r, debug.Stack())
		}
	}()
	return c.Collect(ctx, p)
}
