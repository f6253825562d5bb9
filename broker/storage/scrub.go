package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// The scrubber's pace (R21): it reads checkSize bytes every scrubPause, about 10 MB/s at
// most, and all closed segments once in scrubEvery.
const (
	scrubPause = 100 * time.Millisecond
	scrubEvery = 24 * time.Hour
)

// scrubAll checks every closed segment once. A log with a damaged one goes offline (R20).
func (s *Store) scrubAll(ctx context.Context) {
	pause := time.NewTicker(scrubPause)
	defer pause.Stop()
	for _, l := range s.Logs() {
		for _, seg := range *l.view.Load() {
			if ctx.Err() != nil {
				return
			}
			if l.Err() != nil {
				break
			}
			if !seg.sealed.Load() || seg.gone.Load() {
				continue
			}
			cuts := l.cutsSoFar()
			err := l.scrub(ctx, seg, pause.C)
			switch {
			case err == nil, ctx.Err() != nil, seg.gone.Load(), l.cutSince(cuts):
			case errors.As(err, new(errDamaged)):
				l.damaged(seg, err)
			default:
				_ = l.trouble("scrub", err)
			}
		}
	}
}

// damaged takes the log offline because of what was found in a segment.
func (l *Log) damaged(s *segment, err error) {
	l.env.corruption("segment")
	l.quarantine(fmt.Errorf("segment %q: %w", s.name(logSuffix), err))
}

// scrub checks a segment byte by byte, a step a tick.
// Errors: errDamaged; trouble with the disk.
func (l *Log) scrub(ctx context.Context, s *segment, tick <-chan time.Time) error {
	// Why a file of its own: the scrubber must not keep the segments' files open.
	f, err := openUnless(&s.gone, s.dir, s.name(logSuffix))
	if err != nil {
		return err
	}
	defer f.Close()
	size := s.size.Load()
	w := row{checker: &checker{f: paced{ctx, f, tick}, size: size, next: s.base, epoch: -1}, epochs: l.epochsNow(), anchor: -1}
	if err := w.rest(s, size); err != nil {
		return err
	}
	s.proved(0, size)
	return nil
}

// proved notes that the bytes from pos to `to` are good.
func (s *segment) proved(pos, to int64) {
	for {
		p := s.proven.Load()
		if pos > p || to <= p || s.proven.CompareAndSwap(p, to) {
			return
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
