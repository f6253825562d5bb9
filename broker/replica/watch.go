package replica

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
