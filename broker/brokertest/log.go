package brokertest

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
)

// errorLog keeps lines of level Error.
type errorLog struct {
	mu    sync.Mutex
	lines []string
}

func (e *errorLog) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

func (e *errorLog) keep(ctx context.Context, r slog.Record) error {
	var b bytes.Buffer
	if err := slog.NewTextHandler(&b, nil).Handle(ctx, r); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, b.String())
	return nil
}

// both is a handler that also keeps errors.
type both struct {
	slog.Handler
	errors *errorLog
}

func (h both) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		if err := h.errors.keep(ctx, r); err != nil {
			return err
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h both) WithAttrs(as []slog.Attr) slog.Handler { return both{h.Handler.WithAttrs(as), h.errors} }
func (h both) WithGroup(name string) slog.Handler    { return both{h.Handler.WithGroup(name), h.errors} }
