package api

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

const (
	// sessionIdle is how long a session must have been silent to make room for another.
	// Source: Kafka, min.incremental.fetch.session.eviction.ms.
	sessionIdle = 2 * time.Minute
	// maxSessionPartitions bounds the memory of all sessions together: some 300 bytes each.
	maxSessionPartitions = 200_000
	// Epochs with a meaning of their own (KIP-227).
	sessionInitial = 0
	sessionFinal   = -1
)

// fetchSessions remembers what consumers fetch, so that they need not say it each
// time and are told only what changed (KIP-227). It is a cache: a session that is
// gone costs its client one full fetch.
type fetchSessions struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		byID       map[int32]*list.Element // of lru; each holds a *fetchSession
		lru        list.List               // front = used last
		partitions int                     // of all sessions
	}
}

func newFetchSessions(now func() time.Time) *fetchSessions {
	s := &fetchSessions{now: now}
	s.mu.byID = map[int32]*list.Element{}
	return s
}

// fetchSession is one client's list of partitions.
type fetchSession struct {
	id   int32
	byID bool // the client names topics by ID
	used time.Time

	mu    sync.Mutex
	epoch int32         // of the next request
	over  chan struct{} // closed when the next request comes: the one that waits is answered then
	// order is turned: what returned records goes to the end, so that every
	// partition has its turn when a response is full.
	order list.List // of *tracked
	index map[trackedKey]*list.Element

	agenda *agenda // of a follower's session; nil: a consumer's
}

type trackedKey struct {
	topic     string
	id        topic.ID
	partition int32
}

// tracked is one partition of a session and what its client was told last.
type tracked struct {
	want           wanted
	told           bool
	high, lso, low record.Offset
	code           int16

	watched // of a follower's session
}

func keyOf(w wanted) trackedKey {
	if !w.id.IsZero() {
		return trackedKey{id: w.id, partition: w.name.Partition}
	}
	return trackedKey{topic: w.name.Topic, partition: w.name.Partition}
}

// create makes a session, or gives nil when there is no room: the client then
// simply fetches without. A is a follower's agenda, nil for a consumer.
func (s *fetchSessions) create(wants []wanted, byID bool, slots int, a *agenda) *fetchSession {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.mu.lru.Len() > 0 && (s.mu.lru.Len() >= slots || s.mu.partitions+len(wants) > maxSessionPartitions) {
		oldest := s.mu.lru.Back().Value.(*fetchSession)
		if now.Sub(oldest.used) < sessionIdle {
			return nil
		}
		s.removeLocked(oldest.id)
	}
	for e := s.mu.lru.Back(); a != nil && e != nil && now.Sub(e.Value.(*fetchSession).used) >= sessionIdle; {
		old := e.Value.(*fetchSession)
		e = e.Prev()
		if old.agenda != nil { // of a follower that is gone or has begun another
			s.removeLocked(old.id)
		}
	}
	if slots <= 0 || len(wants) > maxSessionPartitions {
		return nil
	}
	n := &fetchSession{byID: byID, used: now, epoch: 1, over: make(chan struct{}), index: map[trackedKey]*list.Element{}, agenda: a}
	for n.id == 0 || s.mu.byID[n.id] != nil {
		n.id = rand.Int32()
	}
	for _, w := range wants {
		n.put(w)
	}
	s.mu.byID[n.id] = s.mu.lru.PushFront(n)
	s.mu.partitions += len(n.index)
	return n
}

// find gives a session for its next request.
//
// Errors: FETCH_SESSION_ID_NOT_FOUND.
func (s *fetchSessions) find(id int32) (*fetchSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.mu.byID[id]
	if e == nil {
		return nil, refuse(kerr.FetchSessionIDNotFound, "the fetch session is not known (any more): start one with a full fetch")
	}
	found := e.Value.(*fetchSession)
	found.used = s.now()
	s.mu.lru.MoveToFront(e)
	return found, nil
}

// close forgets a session; one that is not there is no error.
func (s *fetchSessions) close(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(id)
}

func (s *fetchSessions) removeLocked(id int32) {
	e := s.mu.byID[id]
	if e == nil {
		return
	}
	gone := e.Value.(*fetchSession)
	delete(s.mu.byID, id)
	s.mu.lru.Remove(e)
	gone.mu.Lock()
	for _, e := range gone.index {
		e.Value.(*tracked).unwatch()
	}
	s.mu.partitions -= len(gone.index)
	gone.index, gone.order = map[trackedKey]*list.Element{}, list.List{}
	gone.mu.Unlock()
}

// next moves a session on by one request: adds, changes and forgets partitions and
// gives the whole list in its present order, or of a follower's what is to be looked at.
//
// Errors: INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR,
// FETCH_SESSION_ID_NOT_FOUND when the session would outgrow the cache.
func (s *fetchSessions) next(f *fetchSession, by *fetchCall, epoch int32, byID bool, wants []wanted, forget []trackedKey) ([]wanted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.mu.byID[f.id] == nil {
		return nil, refuse(kerr.FetchSessionIDNotFound, "the fetch session was closed just now: start one with a full fetch")
	}
	if epoch != f.epoch {
		return nil, refuse(kerr.InvalidFetchSessionEpoch, "the fetch session is at another request: start a new one with a full fetch")
	}
	if byID != f.byID {
		return nil, refuse(kerr.FetchSessionTopicIDError, "the fetch session names its topics the other way: start a new one with a full fetch")
	}
	if s.mu.partitions+len(wants) > maxSessionPartitions {
		return nil, refuse(kerr.FetchSessionIDNotFound, "the fetch session is too large: start one with a full fetch")
	}
	f.epoch++
	if f.epoch <= 0 {
		f.epoch = 1
	}
	close(f.over)
	f.over = make(chan struct{})
	before := len(f.index)
	for _, w := range wants {
		f.put(w)
	}
	for _, k := range forget {
		if e := f.index[k]; e != nil {
			e.Value.(*tracked).unwatch()
			f.order.Remove(e)
			delete(f.index, k)
		}
	}
	s.mu.partitions += len(f.index) - before
	if f.agenda != nil {
		return append(f.takeLocked(s.now(), by), f.sweepLocked(s.now(), by)...), nil
	}
	out := make([]wanted, 0, len(f.index))
	for e := f.order.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*tracked).want)
	}
	return out, nil
}

// superseded gives what is closed when a later request of the session comes. Requires: no
// later one has come yet, as requests of a connection are taken in order.
func (f *fetchSession) superseded() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// put adds or changes a partition. Requires: f.mu, or nobody else knows f.
func (f *fetchSession) put(w wanted) {
	k := keyOf(w)
	e := f.index[k]
	if e == nil {
		t := &tracked{}
		e = f.order.PushBack(t)
		t.session, t.at, f.index[k] = f, e, e
	}
	t := e.Value.(*tracked)
	t.want = w
	if f.agenda != nil {
		t.Moved(false)
	}
}

// settle notes what the client is told and gives what it must be told: everything
// in a full answer, else what changed.
func (f *fetchSession) settle(results []result, full bool) []result {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := results[:0]
	for i := range results {
		res := &results[i]
		e := f.index[keyOf(res.want)]
		if e == nil { // closed or forgotten by a request in between
			out = append(out, *res)
			continue
		}
		t := e.Value.(*tracked)
		changed := t.news(res)
		t.tell(res)
		if res.got.Slice.Len() > 0 && f.agenda == nil {
			f.order.MoveToBack(e)
		}
		if !full && !changed {
			res.drop()
			continue
		}
		out = append(out, *res)
	}
	return out
}

// news tells whether a result has something that the client was not told yet.
func (t *tracked) news(res *result) bool {
	g := &res.got
	return !t.told || res.code != 0 || t.code != 0 || res.diverged || res.nearer || g.Slice.Len() > 0 ||
		t.high != g.HighWatermark || t.lso != g.LastStable || t.low != g.LogStart
}

func (t *tracked) tell(res *result) {
	t.told, t.code = true, res.code
	t.high, t.lso, t.low = res.got.HighWatermark, res.got.LastStable, res.got.LogStart
}
