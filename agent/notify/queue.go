package notify

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
)

const (
	// keepKeys and maxKeys bound the memory of what was delivered.
	keepKeys = 7 * 24 * time.Hour
	maxKeys  = 20_000
	// maxDead bounds the dead letters of a queue; the oldest goes first.
	maxDead = 1000
)

// message is one notification to one outlet, with all that is needed to deliver
// it after a restart.
type message struct {
	Key         string         `json:"key"`
	Created     time.Time      `json:"created"`
	Receiver    string         `json:"receiver"`
	GroupKey    string         `json:"group_key"`
	GroupLabels model.LabelSet `json:"group_labels"`
	RouteLabels model.LabelSet `json:"route_labels,omitempty"`
	Reason      int            `json:"reason"` // Alertmanager's notification reason
	Alerts      []*model.Alert `json:"alerts"`

	// For the other nodes of a cluster, see note.
	Wide     bool          `json:"wide,omitempty"` // it is about the cluster: any of them may have to tell it
	Firing   []uint64      `json:"firing,omitempty"`
	Resolved []uint64      `json:"resolved,omitempty"`
	Repeat   time.Duration `json:"repeat,omitempty"`

	safe <-chan struct{} // closed when it is on the disk; nil after a restart
}

// dead is a message that was given up.
type dead struct {
	Message *message  `json:"message,omitempty"` // in the state; an event only names the key
	Key     string    `json:"key"`
	Error   string    `json:"error"`
	At      time.Time `json:"at"`
}

// queue holds the messages of one outlet, oldest first.
type queue struct {
	name    string
	limit   int
	log     *slog.Logger
	journal *journal
	wake    chan struct{} // capacity 1: "there is a new first message"

	mu struct {
		sync.Mutex
		items     []*message
		dead      []*dead
		done      map[string]*finished // by key
		delivered uint64
		failed    uint64
		died      uint64
		lastError string
		lastTry   time.Time
	}
}

func openQueue(path, name string, limit int, log *slog.Logger) (*queue, error) {
	q := &queue{name: name, limit: limit, log: log, wake: make(chan struct{}, 1)}
	q.mu.done = map[string]*finished{}
	q.journal = newJournal(path, log, q.state)
	var other error
	err := q.journal.load(func(r *record) {
		if r.Head != nil && (r.Head.Queue != name || r.Head.Version != 1) {
			other = fmt.Errorf("cannot use queue %q: it is of %q, version %d", path, r.Head.Queue, r.Head.Version)
		}
		q.replay(r)
	})
	if err = cmp.Or(err, other); err != nil {
		return nil, err
	}
	return q, nil
}

// replay applies one record; applying a record twice changes nothing.
func (q *queue) replay(r *record) {
	switch {
	case r.Put != nil:
		if !q.knows(r.Put.Key) {
			q.mu.items = append(q.mu.items, r.Put)
		}
	case r.Done != nil:
		q.remove(r.Done.Key)
		q.mu.done[r.Done.Key] = r.Done
	case r.Dead != nil:
		d := *r.Dead
		if m := q.remove(d.Key); m != nil {
			d.Message = m
		}
		if d.Message != nil && !slices.ContainsFunc(q.mu.dead, func(x *dead) bool { return x.Key == d.Key }) {
			q.mu.dead = append(q.mu.dead, &d)
		}
	case r.Wake != "":
		q.revive(r.Wake)
	}
}

// state gives the records from which replay makes the present state.
func (q *queue) state() []record {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trim(time.Now())
	all := []record{{Head: &head{Queue: q.name, Version: 1}}}
	for _, f := range q.mu.done {
		all = append(all, record{Done: f})
	}
	for _, d := range q.mu.dead {
		all = append(all, record{Dead: d})
	}
	for _, m := range q.mu.items {
		all = append(all, record{Put: m})
	}
	return all
}

// trim forgets the oldest keys and dead letters.
func (q *queue) trim(now time.Time) {
	for key, f := range q.mu.done {
		if now.Sub(f.At) > keepKeys {
			delete(q.mu.done, key)
		}
	}
	if len(q.mu.done) > maxKeys {
		var ages []time.Time
		for _, f := range q.mu.done {
			ages = append(ages, f.At)
		}
		slices.SortFunc(ages, time.Time.Compare)
		oldest := ages[len(ages)-maxKeys]
		for key, f := range q.mu.done {
			if f.At.Before(oldest) {
				delete(q.mu.done, key)
			}
		}
	}
	if over := len(q.mu.dead) - maxDead; over > 0 {
		q.mu.dead = slices.Clone(q.mu.dead[over:])
	}
}

func (q *queue) knows(key string) bool {
	_, done := q.mu.done[key]
	return done ||
		slices.ContainsFunc(q.mu.items, func(m *message) bool { return m.Key == key }) ||
		slices.ContainsFunc(q.mu.dead, func(d *dead) bool { return d.Key == key })
}

func (q *queue) remove(key string) *message {
	at := slices.IndexFunc(q.mu.items, func(m *message) bool { return m.Key == key })
	if at < 0 {
		return nil
	}
	m := q.mu.items[at]
	q.mu.items = slices.Delete(q.mu.items, at, at+1)
	return m
}

// put takes a message unless its key is known; the channel is closed when it is
// on the disk. A queue that is full gives its oldest message up for it.
func (q *queue) put(m *message) (safe <-chan struct{}, fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.knows(m.Key) {
		return nil, false
	}
	if len(q.mu.items) >= q.limit {
		q.bury(q.mu.items[0].Key, fmt.Errorf("the queue is full: %d messages wait", q.limit), time.Now())
	}
	q.mu.items = append(q.mu.items, m)
	m.safe = q.journal.append(&record{Put: m})
	poke(q.wake)
	return m.safe, true
}

// first gives the message to deliver next; nil when there is none.
func (q *queue) first() *message {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 {
		return nil
	}
	return q.mu.items[0]
}

// finish notes a delivery, and gives what other nodes have to know of it; nil: nothing.
func (q *queue) finish(m *message, now time.Time) *note {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &finished{Key: m.Key, At: now, Note: noteOf(q.name, m, now)}
	q.note(f, now)
	q.mu.delivered++
	q.mu.lastError, q.mu.lastTry = "", now
	return f.Note
}

// learn notes a delivery by another node: what waits here with its key need not be told. False:
// it is known.
func (q *queue) learn(n *note, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, done := q.mu.done[n.Key]; done {
		return false
	}
	q.note(&finished{Key: n.Key, At: n.At, Note: n}, now)
	return true
}

// note is finish and learn under the lock.
func (q *queue) note(f *finished, now time.Time) {
	q.remove(f.Key)
	q.mu.dead = slices.DeleteFunc(q.mu.dead, func(d *dead) bool { return d.Key == f.Key })
	q.mu.done[f.Key] = f
	q.journal.append(&record{Done: f})
	if len(q.mu.done) > 2*maxKeys {
		q.trim(now)
	}
}

// notes gives the newest deliveries that other nodes have to know of.
func (q *queue) notes(most int) []*note {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*note
	for _, f := range q.mu.done {
		if f.Note != nil {
			all = append(all, f.Note)
		}
	}
	slices.SortFunc(all, func(a, b *note) int { return b.At.Compare(a.At) })
	return all[:min(most, len(all))]
}

// told says whether a message with this key was delivered, here or by another node.
func (q *queue) told(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, done := q.mu.done[key]
	return done
}

// waitsFor gives the earliest moment that a waiting message about the cluster tells of; zero: none waits.
func (q *queue) waitsFor() (first time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.mu.items {
		for _, a := range m.Alerts {
			at := a.StartsAt
			if a.Resolved() {
				at = a.EndsAt
			}
			if m.Wide && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
	}
	return first
}

// fail notes an attempt that failed; the message stays.
func (q *queue) fail(err error, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.failed++
	q.mu.lastError, q.mu.lastTry = err.Error(), now
}

// giveUp makes a message a dead letter.
func (q *queue) giveUp(key string, err error, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bury(key, err, now)
}

// bury is giveUp under the lock.
func (q *queue) bury(key string, err error, now time.Time) {
	m := q.remove(key)
	if m == nil {
		return
	}
	q.mu.died++
	q.mu.dead = append(q.mu.dead, &dead{Message: m, Key: key, Error: err.Error(), At: now})
	q.journal.append(&record{Dead: &dead{Key: key, Error: err.Error(), At: now}})
	if len(q.mu.dead) > 2*maxDead {
		q.trim(now)
	}
	q.log.Error("notification given up", "queue", q.name, "key", key, "error", err)
}

// retry puts a dead letter back in the queue.
func (q *queue) retry(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.revive(key) {
		return false
	}
	q.journal.append(&record{Wake: key})
	poke(q.wake)
	return true
}

func (q *queue) revive(key string) bool {
	at := slices.IndexFunc(q.mu.dead, func(d *dead) bool { return d.Key == key })
	if at < 0 {
		return false
	}
	m := q.mu.dead[at].Message
	m.Created = time.Now() // its patience begins anew
	q.mu.dead = slices.Delete(q.mu.dead, at, at+1)
	q.mu.items = append(q.mu.items, m)
	return true
}
