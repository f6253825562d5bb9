package storage

import (
	"log/slog"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

// env is what every log shares.
type env struct {
	now     func() time.Time
	logger  *slog.Logger
	stats   *stats.Broker // nil in tests
	flushes *flushQueue
	trash   *trash
	// checkpoint writes the checkpoints of the logs of a directory; with must also from the reserve.
	checkpoint func(d *directory, must bool) error
}

func (e *env) flushed(d time.Duration, err error) {
	if e.stats != nil {
		e.stats.Flush(d, err)
	}
}

func (e *env) deleted(reason string, n int64) {
	if e.stats != nil && n > 0 {
		e.stats.DeletedBytes(reason, n)
	}
}

func (e *env) corruption(where string) {
	if e.stats != nil {
		e.stats.Corruption(where)
	}
}

func (e *env) online(dir string, online bool) {
	if e.stats != nil {
		e.stats.DirOnline(dir, online)
	}
}
