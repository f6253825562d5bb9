package storage

import (
	"errors"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// producers takes the newest good snapshot and replays the batches behind it. Where an index
// of aborted transactions is to be made anew, it must be older than that segment.
func (r *recovery) producers() error {
	l := r.l
	now := l.env.now().UnixMilli()
	from, below := r.v[0].base, r.next
	for s := range r.remake {
		below = min(below, s.base)
	}
	var ended []endedTxn
	for i := len(r.snaps) - 1; i >= 0; i-- {
		name := fileName(l.folder, r.snaps[i], snapshotSuffix)
		if r.snaps[i] > r.next {
			if err := l.dir().remove(name); err != nil {
				return err
			}
			continue
		}
		if r.snaps[i] > below {
			continue
		}
		b, err := disk.ReadFile(l.dir().disk, name)
		if err != nil {
			return err
		}
		s, undecided, err := decodeProducers(b, now)
		if err == nil {
			l.mu.producers, ended, from = s, undecided, max(from, r.snaps[i])
			if err := r.dropSnapshots(r.snaps[:i]); err != nil {
				return err
			}
			break
		}
		l.env.corruption("snapshot")
		l.env.logger.Error("producer snapshot is damaged; an older one is used", "partition", l.name.String(), "file", name)
		if err := l.dir().remove(name); err != nil {
			return err
		}
	}
	l.undecided.reset(ended, l.mu.producers.firstOpen(), l.HighWatermark())
	return r.replay(from)
}

// dropSnapshots removes those that lie at the begin of no segment: each stop leaves one,
// and a newer one is there.
func (r *recovery) dropSnapshots(old []record.Offset) error {
	for _, at := range old {
		if i := find(r.v, at); r.v[i].base == at {
			continue // it goes with its segment
		}
		if err := r.l.dir().remove(fileName(r.l.folder, at, snapshotSuffix)); err != nil {
			return err
		}
	}
	return nil
}

// replay brings the producer state up to date with the batches at and above from.
func (r *recovery) replay(from record.Offset) error {
	l := r.l
	v := *l.view.Load()
	now := l.env.now().UnixMilli()
	for _, s := range v[find(v, from):] {
		if s.size.Load() == 0 {
			continue
		}
		index := s
		if !r.remake[s] {
			index = nil // it has them
		}
		var inner error
		err := l.eachHeader(s, from, func(b *record.Header, pos int64) bool {
			if !tracked(b) || b.Last() < from {
				return true
			}
			var m *record.Marker
			if b.Control() {
				if m, inner = s.markerAt(b, pos); inner != nil {
					return false
				}
			}
			l.mu.producers.follow(b, m, now)
			l.adoptTxnsLocked(index)
			return true
		})
		if err = errors.Join(err, inner); err != nil {
			return err
		}
	}
	return nil
}

// markerAt reads the marker of the control batch at pos, nil if it has none.
func (s *segment) markerAt(b *record.Header, pos int64) (*record.Marker, error) {
	batch, err := s.readBatch(b, pos)
	if err != nil {
		return nil, err
	}
	return markerIn(b, batch)
}
