package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// rewrite replaces adjacent segments by one of what is left of their batches.
func (p *pass) rewrite(ctx context.Context, old []*segment) error {
	l := p.l
	s, changed, err := p.write(ctx, old)
	if err == nil && changed {
		err = l.swapIn(s, old)
	}
	if err != nil || !changed {
		s.drop()
		if rerr := l.removeCleaned(s); err == nil {
			err = rerr
		}
	}
	switch {
	case err == nil, errors.Is(err, errAborted), ctx.Err() != nil, !l.has(old) && l.Err() == nil:
		return nil
	case rotten(err):
		return err
	}
	return l.trouble("clean", err)
}

// errAborted ends a pass over segments that are not the log's any more.
var errAborted = errors.New("the segments changed")

// cleanedNames are the files of a segment that is being written beside the others.
func cleanedNames(s *segment, suffix string) []string {
	return []string{s.name(abortSuffix) + suffix, s.name(indexSuffix) + suffix, s.name(timeSuffix) + suffix, s.name(logSuffix) + suffix}
}

func (l *Log) removeCleaned(s *segment) error {
	for _, name := range cleanedNames(s, cleanedSuffix) {
		if err := l.dir().remove(name); err != nil {
			return err
		}
	}
	return nil
}

// write makes the .cleaned files, durably. changed is false if everything stays as it is.
func (p *pass) write(ctx context.Context, old []*segment) (s *segment, changed bool, err error) {
	l := p.l
	s = newSegment(l.dir().disk, l.folder, old[0].base)
	s.index.name += cleanedSuffix
	s.times.name += cleanedSuffix
	s.aborts.name += cleanedSuffix
	if err := l.removeCleaned(s); err != nil {
		return s, false, err
	}
	f, err := l.dir().disk.Create(s.name(logSuffix) + cleanedSuffix)
	if err != nil {
		return s, false, err
	}
	s.file.set(f)
	s.index.clear()
	s.times.clear()
	changed = len(old) > 1
	aborts := false // there are some to be overwritten
	for _, o := range old {
		aborts = aborts || o.aborts.len() > 0
		p.into = s
		var inner error
		err := l.eachHeader(o, o.base, func(b *record.Header, pos int64) bool {
			var batch []byte
			if batch, inner = o.readBatch(b, pos); inner != nil {
				return false
			}
			if _, inner = record.Verify(batch); inner != nil {
				return false
			}
			p.out = p.out[:0]
			if inner = p.filter(b, batch); inner != nil {
				return false
			}
			changed = changed || len(p.out) != len(batch) || string(p.out) != string(batch)
			inner = p.put(s, f, o)
			return inner == nil && ctx.Err() == nil
		})
		if err := errors.Join(err, inner, ctx.Err()); err != nil {
			return s, false, err
		}
	}
	s.noteTime()
	s.end.Store(old[len(old)-1].end.Load())
	if !changed {
		return s, false, nil
	}
	if err := f.Sync(); err != nil {
		return s, false, err
	}
	if err := s.index.save(true); err != nil {
		return s, false, err
	}
	if aborts {
		if err := s.aborts.save(true); err != nil {
			return s, false, err
		}
	}
	return s, true, s.times.save(true)
}

// put writes the batch in out behind what the new segment has.
func (p *pass) put(s *segment, f disk.File, from *segment) error {
	if len(p.out) == 0 {
		return nil
	}
	h, err := record.ReadHeader(p.out)
	if err != nil {
		return err
	}
	at := s.size.Load()
	if _, err := f.WriteAt(p.out, at); err != nil {
		return err
	}
	s.note(&h, at, from.keepTime.Load(), p.l.conf.Load().IndexInterval)
	s.size.Store(at + int64(len(p.out)))
	return nil
}

// swapIn puts the new segment in the place of the old ones. The rename of its .log to
// .swap, once durable, is the point of no return: recovery then finishes the rest.
func (l *Log) swapIn(s *segment, old []*segment) error {
	l.chores.Lock()
	defer l.chores.Unlock()
	if !l.has(old) {
		return errAborted
	}
	d := l.dir().disk
	for i, name := range cleanedNames(s, cleanedSuffix) {
		err := d.Rename(name, cleanedNames(s, swapSuffix)[i])
		if i == 0 && disk.IsAbsent(err) {
			continue // no aborted transactions, and there were none
		}
		if err == nil && i == 0 {
			// Why: without this index recovery would take it that nothing was aborted. The others it can make anew.
			err = d.Sync(l.folder)
		}
		if err != nil {
			return err
		}
	}
	if err := d.Sync(l.folder); err != nil {
		return err
	}
	for _, o := range old {
		o.gone.Store(true)
	}
	if err := replaceFiles(d, l.folder, s.base, basesOf(old)); err != nil {
		return err
	}
	s.index.name, s.times.name, s.aborts.name = s.name(indexSuffix), s.name(timeSuffix), s.name(abortSuffix)
	for _, x := range []*index{&s.index, &s.times, &s.aborts} {
		x.file.drop()
		x.release()
	}
	s.synced.Store(s.size.Load())
	s.named.Store(true)
	s.sealed.Store(true)
	l.mu.Lock()
	v := *l.view.Load()
	i := find(v, s.base)
	l.setView(append(append(v[:i:i], s), v[i+len(old):]...))
	l.mu.Unlock()
	for _, o := range old {
		o.drop()
	}
	return nil
}

// has tells whether the segments are a part of the log still.
func (l *Log) has(old []*segment) bool {
	if l.Err() != nil {
		return false
	}
	v := *l.view.Load()
	i := find(v, old[0].base)
	if i+len(old) >= len(v) {
		return false
	}
	for n, o := range old {
		if v[i+n] != o {
			return false
		}
	}
	return true
}

// replaceFiles makes the .swap files of base the segment, and removes the segments that
// went into it. Why the old indexes go first: one that outlives its segment would point
// into the new one.
func replaceFiles(d disk.Dir, folder string, base record.Offset, old []record.Offset) error {
	remove := func(name string) error {
		if err := d.Remove(name); err != nil && !disk.IsAbsent(err) {
			return err
		}
		return nil
	}
	for _, o := range old {
		for _, suffix := range []string{indexSuffix, timeSuffix} {
			if err := remove(fileName(folder, o, suffix)); err != nil {
				return err
			}
		}
		if o == base {
			continue
		}
		for _, suffix := range []string{logSuffix, snapshotSuffix, abortSuffix} {
			if err := remove(fileName(folder, o, suffix)); err != nil {
				return err
			}
		}
	}
	if err := d.Sync(folder); err != nil {
		return err
	}
	for _, suffix := range []string{abortSuffix, logSuffix, indexSuffix, timeSuffix} {
		name := fileName(folder, base, suffix)
		err := d.Rename(name+swapSuffix, name)
		if err == nil && suffix == abortSuffix {
			err = d.Sync(folder) // as in swapIn
		}
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	return d.Sync(folder)
}

// finishSwaps completes the replacements that a crash interrupted.
func finishSwaps(d disk.Dir, folder string) error {
	entries, err := d.List(folder)
	if err != nil {
		return err
	}
	var swaps, bases []record.Offset
	logs := map[record.Offset]bool{}
	for _, e := range entries {
		if base, ok := baseOf(e.Name, logSuffix+swapSuffix); ok {
			swaps = append(swaps, base)
			logs[base] = true
		} else if base, ok := baseOf(e.Name, logSuffix); ok {
			bases = append(bases, base)
		}
	}
	for _, base := range swaps {
		end, err := swapEnd(d, fileName(folder, base, logSuffix+swapSuffix), base)
		if err != nil {
			return err
		}
		old := []record.Offset{base}
		for _, b := range bases {
			if b > base && b < end {
				old = append(old, b)
			}
		}
		if err := replaceFiles(d, folder, base, old); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if base, ok := baseOf(e.Name, abortSuffix+swapSuffix); ok && !logs[base] {
			if err := d.Remove(folder + "/" + e.Name); err != nil && !disk.IsAbsent(err) {
				return err
			}
		}
		// Index files whose segment was swapped in already, or never will be.
		for _, suffix := range []string{indexSuffix + swapSuffix, timeSuffix + swapSuffix} {
			if base, ok := baseOf(e.Name, suffix); ok && !logs[base] {
				if err := finishIndex(d, folder+"/"+e.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// finishIndex removes an index that was left behind as .swap: it is made anew from the segment.
func finishIndex(d disk.Dir, name string) error {
	for _, n := range []string{name, strings.TrimSuffix(name, swapSuffix)} {
		if err := d.Remove(n); err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	return nil
}

// swapEnd checks a .swap segment and gives the offset behind its last batch. All
// segments that begin below it went into it.
func swapEnd(d disk.Dir, name string, base record.Offset) (record.Offset, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	c := &checker{f: f, size: info.Size, next: base, epoch: -1}
	for {
		_, err := c.batch()
		if errors.Is(err, io.EOF) {
			return c.next, nil
		}
		if errors.As(err, new(errDamaged)) {
			return 0, fmt.Errorf("segment %q: %w: %w", name, errDamage, err)
		}
		if err != nil {
			return 0, err
		}
	}
}
