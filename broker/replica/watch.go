package replica

import "slices"

// watcher is one interest in a partition's moves.
type watcher struct {
	wake func()
	at   int // index in watchers; -1: out
}

// watchers are the interests in one partition. Guarded by the partition's mu.
type watchers []*watcher

func (ws *watchers) add(w *watcher) {
	w.at = len(*ws)
	*ws = append(*ws, w)
}

func (ws *watchers) remove(w *watcher) {
	if w.at < 0 {
		return
	}
	last := len(*ws) - 1
	moved := (*ws)[last]
	(*ws)[w.at], moved.at = moved, w.at
	(*ws)[last] = nil
	*ws = (*ws)[:last]
	w.at = -1
}

// all gives a copy that may be used without the lock.
func (ws watchers) all() []*watcher {
	if len(ws) == 0 {
		return nil
	}
	return append([]*watcher(nil), ws...)
}

func wakeAll(ws []*watcher) {
	for _, w := range ws {
		w.wake()
	}
}

// Observer is told of every move of a partition, by the one who makes it and at once: Moved
// must not block, and take no lock that is held while a partition is called. Loud tells that
// there is more than a new high watermark: an append, another leadership, other replicas in
// sync, a deleted beginning. What retention deletes is not told.
type Observer interface{ Moved(loud bool) }

// Observe has o told of moves until stop is called; one that is on its way may still come.
// Unlike Watch it is made to stay: it costs an append no lock.
func (p *Partition) Observe(o Observer) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.observeLocked(func(all []Observer) []Observer { return append(all, o) })
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.observeLocked(func(all []Observer) []Observer {
			if at := slices.Index(all, o); at >= 0 {
				return slices.Delete(all, at, at+1)
			}
			return all
		})
	}
}

// observeLocked puts another list in the place of the one there is.
func (p *Partition) observeLocked(change func([]Observer) []Observer) {
	var all []Observer
	if now := p.observers.Load(); now != nil {
		all = slices.Clone(*now)
	}
	all = change(all)
	p.observers.Store(&all)
}

// observed tells the observers. Requires: mu is not held.
func (p *Partition) observed(loud bool) {
	if all := p.observers.Load(); all != nil {
		for _, o := range *all {
			o.Moved(loud)
		}
	}
}

// Watch calls wake (it must not block and must not append, reading is fine) after each move of the high
// watermark and after leadership, log start or state changed, until unwatch is called. A
// wake that was on its way may still come during and just after unwatch; unwatch may be
// called more than once.
func (p *Partition) Watch(wake func()) (unwatch func()) {
	w := &watcher{wake: wake}
	p.mu.Lock()
	p.mu.watchers.add(w)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.mu.watchers.remove(w)
		p.mu.Unlock()
	}
}
