package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// parts are what a node has started, in that order; stop ends them the other way
// round, whether the node ends by wish, by failure, or half-way through its start.
type parts struct {
	log    *slog.Logger
	list   []part
	failed chan error // capacity 1: the first part that ended by itself
}

type part struct {
	name string
	stop func() error
}

func newParts(log *slog.Logger) *parts {
	return &parts{log: log, failed: make(chan error, 1)}
}

// add notes how a part is ended.
func (p *parts) add(name string, stop func() error) {
	p.list = append(p.list, part{name, stop})
}

// run starts a part that blocks until its context ends. cancel asks it to end
// before its turn; stop waits for it in its turn.
func (p *parts) run(name string, f func(context.Context) error) (cancel func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := f(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("it ended without being asked")
			}
			select {
			case p.failed <- fmt.Errorf("cannot go on without %s: %w", name, err):
				err = nil // told once
			default:
			}
		}
		done <- err
	}()
	p.add(name, func() error {
		cancel()
		return <-done
	})
	return cancel
}

// stop ends everything and gives what went wrong.
func (p *parts) stop() error {
	var errs []error
	for i := len(p.list) - 1; i >= 0; i-- {
		if err := p.list[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("cannot stop %s cleanly: %w", p.list[i].name, err))
		}
		p.log.Debug("broker stop", "step", p.list[i].name)
	}
	p.list = nil
	return errors.Join(errs...)
}
