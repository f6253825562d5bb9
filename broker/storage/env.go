package storage

import (
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

// env is what every log shares.
type env struct {
	now     func() time.Time
	logger  *slog.Logger
	stats   *stats.Broker // nil in tests
	kept    bool
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

// failed notes why a directory is out of service, without the paths and offsets in the error.
func (e *env) failed(dir string, err error) {
	why := "see the log"
	var number syscall.Errno
	if errors.As(err, &number) {
		why = number.Error()
	}
	if e.stats != nil {
		e.stats.DirFailed(dir, why)
	}
}

func (e *env) online(dir string, online bool) {
	if e.stats != nil {
		e.stats.DirOnline(dir, online)
	}
}
