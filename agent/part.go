package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Back-off of a part that fails: doubled from the first to the last; a part that
// ran longer than the last begins anew.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// turns is how many receivers share a period: so much of it each may use.
const turns = 8

// part keeps one room alive.
type part struct {
	Part
	log  *slog.Logger
	turn time.Duration

	stop            context.CancelFunc
	over            chan struct{} // closed when Run is over
	busy            chan struct{} // closed when the receiver returned; nil while it rests
	restarts, skips atomic.Int64
}

func newPart(p Part, period time.Duration, log *slog.Logger) *part {
	return &part{Part: p, turn: period / turns, log: log.With("part", p.Name)}
}

// begin lets the part run, beyond the end of ctx, until end is called.
func (p *part) begin(ctx context.Context) {
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.over = make(chan struct{})
	go func() {
		defer close(p.over)
		p.run(ctx)
	}()
}

// end stops what begin began and waits for it. Requires: no more snapshots come.
func (p *part) end() {
	p.drain()
	p.stop()
	<-p.over
}

// Receive hands a snapshot on and waits for a turn's time. A receiver that is
// still at an earlier one misses this one. Only the heartbeat calls it.
func (p *part) Receive(ctx context.Context, s *metric.Snapshot) {
	if p.busy != nil {
		select {
		case <-p.busy:
			p.busy = nil
		default:
			p.skips.Add(1)
			return
		}
	}
	busy := make(chan struct{})
	p.busy = busy
	go func() {
		defer close(busy)
		if err := p.receive(ctx, s); err != nil {
			p.restarts.Add(1)
			p.log.Error("part failed to take a snapshot", "error", err)
		}
	}()
	timer := time.NewTimer(p.turn)
	defer timer.Stop()
	select {
	case <-busy:
		p.busy = nil
	case <-ctx.Done():
	case <-timer.C:
		p.log.Warn("part is slow to take a snapshot: the next ones do not wait for it")
	}
}

func (p *part) receive(ctx context.Context, s *metric.Snapshot) (err error) {
	defer recovered(&err)
	p.Receiver.Receive(ctx, s)
	return nil
}

// drain waits for a receiver that is still at it, for one turn more. Requires: its
// context has ended.
func (p *part) drain() {
	if p.busy == nil {
		return
	}
	timer := time.NewTimer(p.turn)
	defer timer.Stop()
	select {
	case <-p.busy:
	case <-timer.C:
		p.log.Error("part hangs and is left behind")
	}
}

// run keeps the part's Run going until ctx ends.
func (p *part) run(ctx context.Context) {
	if p.Runner == nil {
		return
	}
	pause := firstPause
	for {
		begun := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			if err != nil {
				p.log.Warn("part did not stop cleanly", "error", err)
			}
			return
		}
		if time.Since(begun) > lastPause {
			pause = firstPause
		}
		p.restarts.Add(1)
		p.log.Error("part ended and is started again", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

func (p *part) once(ctx context.Context) (err error) {
	defer recovered(&err)
	return p.Runner.Run(ctx)
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}
