package storage

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// The scrubber's pace (R21): it reads checkSize bytes every scrubPause, about 10 MB/s at
// most, and all closed segments once in scrubEvery.
const (
	scrubPause = 100 * time.Millisecond
	scrubEvery = 24 * time.Hour
)

// scrubAll checks every closed segment once. What is damaged is counted and told once;
// it is served on, as clients check the CRC too and may still read the rest.
func (s *Store) scrubAll(ctx context.Context) {
	pause := time.NewTicker(scrubPause)
	defer pause.Stop()
	for _, l := range s.Logs() {
		if l.Err() != nil {
			continue
		}
		for _, seg := range *l.view.Load() {
			if ctx.Err() != nil {
				return
			}
			if !seg.sealed.Load() || seg.gone.Load() || seg.damaged.Load() {
				continue
			}
			err := seg.scrub(ctx, pause.C)
			switch {
			case err == nil, ctx.Err() != nil, seg.gone.Load():
			case errors.As(err, new(errDamaged)):
				seg.damaged.Store(true)
				s.env.corruption("segment")
				s.o.Logger.Error("segment is damaged", "partition", l.name.String(), "dir", l.dir.path, "segment", int64(seg.base), "error", err)
			default:
				_ = l.trouble("scrub", err)
			}
		}
	}
}

// scrub checks a segment byte by byte, a step a tick.
// Errors: errDamaged; trouble with the disk.
func (s *segment) scrub(ctx context.Context, tick <-chan time.Time) error {
	// Why a file of its own: the scrubber must not keep the segments' files open.
	f, err := openUnless(&s.gone, s.dir, s.name(logSuffix))
	if err != nil {
		return err
	}
	defer f.Close()
	c := &checker{f: paced{ctx, f, tick}, size: s.size.Load(), next: s.base, epoch: -1}
	for {
		if _, err := c.batch(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// paced is a file that is read no faster than ticks come.
type paced struct {
	ctx  context.Context
	file disk.File
	tick <-chan time.Time
}

func (p paced) ReadAt(b []byte, at int64) (int, error) {
	select {
	case <-p.tick:
		return p.file.ReadAt(b, at)
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
}
