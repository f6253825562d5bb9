package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

const (
	// defaultCleanEvery is how often the cleaner looks for a log that is dirty enough.
	// Source: Kafka, log.cleaner.backoff.ms.
	defaultCleanEvery = 15 * time.Second
	// cleanKeys bounds the offset map of a pass: about 32 MiB. What does not fit is left to the next pass.
	cleanKeys = 512 << 10
)

// keyHash stands for a record's key. Why a cryptographic hash: two keys with one hash
// would delete each other, and keys come from clients.
type keyHash [16]byte

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash(sum[:16])
}

// cleanAll cleans the dirtiest log until none is dirty enough (R26).
func (s *Store) cleanAll(ctx context.Context) {
	tried := map[*Log]bool{}
	now := s.env.now().UnixMilli()
	for _, l := range s.Logs() {
		if err := l.rollOverdue(now); err != nil && l.Err() == nil {
			s.o.Logger.Warn("log was not rolled for its compaction", "partition", l.name.String(), "error", err)
		}
	}
	// Why: the next checkpoint may be a minute away, and who asks for a short max.compaction.lag.ms does not want to wait for it.
	if slices.ContainsFunc(s.Logs(), (*Log).awaitsCheckpoint) {
		s.checkpointAll(ctx)
	}
	for ctx.Err() == nil {
		var worst *Log
		var most float64
		for _, l := range s.Logs() {
			if tried[l] {
				continue
			}
			if r, due := l.dirty(now); due && (worst == nil || r > most) {
				worst, most = l, r
			}
		}
		if worst == nil {
			return
		}
		tried[worst] = true
		if err := worst.clean(ctx, now); err != nil && ctx.Err() == nil && worst.Err() == nil {
			s.o.Logger.Warn("log was not cleaned", "partition", worst.name.String(), "error", err)
		}
	}
}

// cleanBound gives the offset up to which the log may be cleaned: below the last stable
// offset, which is not above the high watermark, and the active segment.
func (l *Log) cleanBound() record.Offset {
	stable := l.LastStable(l.HighWatermark())
	v := *l.view.Load()
	return min(stable, v[len(v)-1].base)
}

// cleanable gives the closed segments that end at or below the bound and, on disk, below
// the recovery point. Why: cleaning leaves gaps, which above it would look like lost data.
// The first one with a message that is not as old as min.compaction.lag.ms ends them.
func (l *Log) cleanable(bound record.Offset, now int64) []*segment {
	v := *l.view.Load()
	bound = min(bound, record.Offset(l.settled.Load()))
	lag := l.conf.Load().MinLag.Milliseconds()
	n := 0
	for n+1 < len(v) && v[n+1].base <= bound && v[n].sealed.Load() && (lag <= 0 || v[n].keepTime.Load() <= now-lag) {
		n++
	}
	return v[:n]
}

// awaitsCheckpoint tells whether a closed segment could be cleaned were it below the recovery point on disk.
func (l *Log) awaitsCheckpoint() bool {
	if !l.conf.Load().Compact || l.Err() != nil {
		return false
	}
	bound, settled := l.cleanBound(), record.Offset(l.settled.Load())
	v := *l.view.Load()
	for i, s := range v[:len(v)-1] {
		if end := v[i+1].base; end <= bound && (end > settled || !s.sealed.Load()) {
			return true
		}
	}
	return false
}

// overdue tells whether a message of the segment should have been compacted by now.
func (s *segment) overdue(now int64, c *LogConfig) bool {
	first := s.firstTime.Load()
	return c.Compact && c.MaxLag > 0 && first > 0 && now-first > c.MaxLag.Milliseconds()
}

// rollOverdue closes an active segment that is to be compacted and has not grown large or
// old enough by itself.
func (l *Log) rollOverdue(now int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readyLocked() != nil {
		return nil
	}
	if s := l.active(); s.size.Load() == 0 || !s.overdue(now, l.conf.Load()) {
		return nil
	}
	_, err := l.rollLocked()
	return err
}

// dirty gives the share of bytes that no pass has seen yet, and whether it is time to clean.
func (l *Log) dirty(now int64) (float64, bool) {
	c := l.conf.Load()
	if !c.Compact || l.Err() != nil || l.moving.Load() != nil {
		return 0, false
	}
	var all, dirty int64
	overdue := false
	for _, s := range l.cleanable(l.cleanBound(), now) {
		all += s.size.Load()
		if s.end.Load() > l.cleaned.Load() {
			dirty += s.size.Load()
			overdue = overdue || s.overdue(now, c)
		}
	}
	if dirty == 0 {
		return 0, false
	}
	r := float64(dirty) / float64(all)
	return r, overdue || r >= c.MinCleanable
}

// pass is one cleaning of one log.
type pass struct {
	l      *Log
	latest map[keyHash]record.Offset // of the keys in the dirty part
	end    record.Offset             // the map knows the keys below
	last   map[int64]lastOf          // each producer's last batch
	txns   walk
	into   *segment // the segment that is being written
	now    int64    // ms
	keep   int64    // ms that a tombstone stays (delete.retention.ms)
	out    []byte   // batches that wait to be written
}

// clean removes records whose key came again, in all segments up to the bound.
// Why all: what the dirty part replaces lies in the clean one.
func (l *Log) clean(ctx context.Context, now int64) error {
	v := l.cleanable(l.cleanBound(), now)
	c, home := l.conf.Load(), l.dir()
	p := &pass{l: l, latest: map[keyHash]record.Offset{}, now: now, keep: c.DeleteRetention.Milliseconds(), last: map[int64]lastOf{}}
	l.mu.Lock()
	for id, s := range l.mu.producers.known {
		p.last[id] = lastOf{s.last, s.epoch}
	}
	l.mu.Unlock()
	if len(v) == 0 {
		return nil
	}
	aborted, err := abortedIn(*l.view.Load(), v[0].base, record.Offset(v[len(v)-1].end.Load()))
	if err != nil {
		return l.cleanTrouble(v, err)
	}
	p.txns = newWalk(aborted)
	if err := p.mapKeys(ctx, v); errors.Is(err, errAborted) {
		return nil
	} else if err != nil {
		return err
	}
	p.txns = newWalk(aborted)
	for len(v) > 0 && v[0].base < p.end {
		n, size := 1, v[0].size.Load()
		for n < len(v) && size+v[n].size.Load() <= min(c.SegmentBytes, math.MaxInt32) && record.Offset(v[n].end.Load())-v[0].base <= math.MaxInt32 {
			size += v[n].size.Load()
			n++
		}
		if err := p.rewrite(ctx, v[:n]); err != nil {
			return err
		}
		v = v[n:]
	}
	if l.dir() == home { // Why: a move takes the files as they were
		l.cleaned.Store(int64(p.end))
	}
	return nil
}

// mapKeys notes the last offset of each key from the first dirty offset on, until the map is full.
func (p *pass) mapKeys(ctx context.Context, v []*segment) error {
	from := record.Offset(p.l.cleaned.Load())
	p.end = from
	for _, s := range v {
		if s.end.Load() <= int64(from) {
			continue
		}
		var inner error
		err := p.l.eachHeader(s, from, func(b *record.Header, pos int64) bool {
			if len(p.latest)+int(b.Count) > cleanKeys && len(p.latest) > 0 {
				inner = record.ErrStop
				return false
			}
			if inner = p.see(s, b, pos); inner != nil {
				return false
			}
			p.end = b.Last() + 1
			return inner == nil && ctx.Err() == nil
		})
		switch {
		case errors.Is(inner, record.ErrStop):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case s.gone.Load():
			return errAborted
		case err != nil || inner != nil:
			return p.l.readTrouble(errors.Join(err, inner))
		}
		p.end = record.Offset(s.end.Load())
	}
	return nil
}

// see notes the keys of a batch unless it was aborted: what a transaction took back replaces nothing.
func (p *pass) see(s *segment, b *record.Header, pos int64) error {
	if b.Control() {
		m, err := s.markerAt(b, pos)
		if err == nil {
			p.txns.marker(b, m)
		}
		return err
	}
	if p.txns.records(b) {
		return nil
	}
	return p.mapBatch(s, b, pos)
}

// cleanTrouble draws the consequences of an error over segments that may be gone.
func (l *Log) cleanTrouble(v []*segment, err error) error {
	if !l.has(v) && l.Err() == nil {
		return nil
	}
	return l.readTrouble(err)
}

func (p *pass) mapBatch(s *segment, b *record.Header, pos int64) error {
	batch, err := s.readBatch(b, pos)
	if err != nil {
		return err
	}
	return record.Each(batch, func(r record.Record) error {
		if r.Key != nil {
			p.latest[hashKey(r.Key)] = r.Offset
		}
		return nil
	})
}

// stays tells whether a record is kept; horizon is when its batch's tombstones may go, -1 not said yet.
func (p *pass) stays(r *record.Record, horizon int64) bool {
	if r.Key == nil {
		return true
	}
	if last, ok := p.latest[hashKey(r.Key)]; ok && r.Offset < last {
		return false
	}
	return r.Value != nil || horizon < 0 || p.now < horizon || r.Offset >= p.end
}

// filter appends what is left of a batch to out.
func (p *pass) filter(b *record.Header, batch []byte) error {
	if b.Control() {
		return p.filterMarker(b, batch)
	}
	if p.txns.records(b) {
		if p.needed(b) {
			p.out = appendEmpty(p.out, *b)
		}
		return nil
	}
	horizon := int64(-1)
	if b.Attributes&record.DeleteHorizonBit != 0 {
		horizon = b.FirstTimestamp
	}
	builder := record.NewBuilder(b.Codec())
	builder.Header = *b
	kept, tombstones := int32(0), false
	err := record.Each(batch, func(r record.Record) error {
		if p.stays(&r, horizon) {
			builder.AddAt(r)
			kept++
			tombstones = tombstones || r.Value == nil && r.Key != nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	stamp := tombstones && horizon < 0 && b.Last() < p.end
	switch {
	case kept == b.Count && !stamp:
		p.out = append(p.out, batch...)
	case kept > 0:
		return p.rebuild(b, batch, builder, horizon, stamp)
	case p.needed(b):
		// The last batch of a producer survives without records: its sequence is still needed (R27).
		p.out = appendEmpty(p.out, *b)
	}
	return nil
}

// rebuild appends a batch of the records that are left, at the offsets that they had.
func (p *pass) rebuild(b *record.Header, batch []byte, builder *record.Builder, horizon int64, stamp bool) error {
	if stamp {
		horizon = p.now + p.keep
	}
	if horizon >= 0 {
		before := int64(-1)
		if b.Attributes&record.DeleteHorizonBit != 0 {
			before = b.FirstTimestamp
		}
		out, err := stamped(b, batch, horizon, func(r *record.Record) bool { return p.stays(r, before) })
		p.out = append(p.out, out...)
		return err
	}
	out, err := builder.Build()
	if err != nil {
		return err
	}
	h, err := record.ReadHeader(out)
	if err != nil {
		return err
	}
	h.LastDelta = b.LastDelta
	h.Put(out)
	record.WriteCRC(out)
	p.out = append(p.out, out...)
	return nil
}

// stamped gives a batch of the records that stay with a delete horizon: the base
// timestamp is the horizon, and the records' timestamps count from there (KIP-534).
// It is not compressed. Why: only the tombstones' batches become so, and not for long.
func stamped(b *record.Header, batch []byte, horizon int64, stays func(*record.Record) bool) ([]byte, error) {
	h := *b
	h.Attributes = b.Attributes&^record.CodecMask | record.DeleteHorizonBit
	h.FirstTimestamp, h.MaxTimestamp, h.Count = horizon, record.NoTimestamp, 0
	out := make([]byte, record.HeaderSize, len(batch))
	var body []byte
	err := record.Each(batch, func(r record.Record) error {
		if !stays(&r) {
			return nil
		}
		body = append(body[:0], 0)
		body = binary.AppendVarint(body, r.Timestamp-horizon)
		body = binary.AppendVarint(body, int64(r.Offset-b.Base))
		body = appendField(body, r.Key)
		body = appendField(body, r.Value)
		body = binary.AppendVarint(body, int64(len(r.Headers)))
		for _, f := range r.Headers {
			body = binary.AppendVarint(body, int64(len(f.Key)))
			body = append(body, f.Key...)
			body = appendField(body, f.Value)
		}
		out = binary.AppendVarint(out, int64(len(body)))
		out = append(out, body...)
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
		h.Count++
		return nil
	})
	h.Length = int32(len(out) - record.LogOverhead)
	h.Put(out)
	record.WriteCRC(out)
	return out, err
}

// appendField appends a nullable field of a record.
func appendField(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

// appendEmpty appends a batch without records that keeps offsets and sequence of b.
func appendEmpty(out []byte, b record.Header) []byte {
	b.Count = 0
	b.Length = record.HeaderSize - record.LogOverhead
	b.Attributes &^= record.CodecMask
	at := len(out)
	out = append(out, make([]byte, record.HeaderSize)...)
	b.Put(out[at:])
	record.WriteCRC(out[at:])
	return out
}
