package replica

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// fakeSessions is a leader's side of Fetch: what broker/api does, in short. As there, a partition
// that is settled is looked at again when the follower names it, when it moved, and once in a
// while.
type fakeSessions struct {
	mu   sync.Mutex
	next int32
	all  map[int32]*fakeSession
}

type fakeSession struct {
	epoch int32
	over  chan struct{} // closed by the next request
	order list.List     // of *simWant
	index map[peer.PartitionID]*list.Element
}

type simWant struct {
	peer.FetchPartition
	told      bool
	hw, start record.Offset
	code      int16
	look      *look
}

// look is what a session knows of a partition's moves, and finds moves that nobody told.
type look struct {
	mu      sync.Mutex
	p       *Partition
	stop    func()
	moved   atomic.Bool
	quiet   bool // settled, and its follower was told so
	hw      record.Offset
	settled bool // with hw, when it was looked at last
	at      time.Time
	missed  string // a look that was due by time alone found something else than before
}

func (l *look) Moved(bool) { l.moved.Store(true) }

// due tells whether the partition is to be looked at, and begins that.
func (l *look) due(p *Partition, every time.Duration) (due, byTime bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.p != p {
		if l.stop != nil {
			l.stop()
		}
		l.p, l.stop = p, p.Observe(l)
		l.quiet = false
	}
	byTime = l.quiet && !l.moved.Load()
	if byTime && time.Since(l.at) < every {
		return false, false
	}
	l.moved.Store(false)
	l.quiet, l.at = false, time.Now()
	return true, byTime
}

// found takes in what was seen.
func (l *look) found(g *peer.FetchedPartition, settled, byTime bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missed = ""
	// Why not the last: to a process of before it may come as a surprise that there is another one.
	if byTime && (!settled || g.HighWatermark != l.hw) && g.Code != kerr.StaleBrokerEpoch.Code {
		l.missed = fmt.Sprintf("nobody told that it moved: settled %v, high watermark %d and before %d, code %d", settled, g.HighWatermark, l.hw, g.Code)
	}
	l.hw, l.settled = g.HighWatermark, settled
}

// tell notes that the follower is told what was found; it is not looked at again before the
// next move.
func (l *look) tell(g *peer.FetchedPartition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = l.settled && g.HighWatermark == l.hw
}

// untold gives a move that was not told. Requires: nothing moves.
func (s *fakeSessions) untold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.all {
		for id, e := range sess.index {
			l := e.Value.(*simWant).look
			l.mu.Lock()
			missed := l.missed
			l.mu.Unlock()
			if missed != "" && !l.moved.Load() {
				return fmt.Errorf("partition %d: %s", id.Partition, missed)
			}
		}
	}
	return nil
}

func (s *fakeSessions) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

func (s *fakeSession) put(p peer.FetchPartition) {
	e := s.index[p.PartitionID]
	if e == nil {
		e = s.order.PushBack(&simWant{look: new(look)})
		s.index[p.PartitionID] = e
	}
	w := e.Value.(*simWant)
	w.FetchPartition = p
	w.look.Moved(true)
}

// open finds or makes the session of a request and gives what it wants.
func (s *fakeSessions) open(f *peer.Fetch) (id int32, sess *fakeSession, wants []peer.FetchPartition, looks []*look, over chan struct{}, code int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[int32]*fakeSession)
	}
	if f.SessionEpoch == 0 {
		delete(s.all, f.Session)
		s.next++
		id = s.next
		sess = &fakeSession{index: make(map[peer.PartitionID]*list.Element)}
		s.all[id] = sess
	} else {
		id, sess = f.Session, s.all[f.Session]
		if sess == nil {
			return 0, nil, nil, nil, nil, kerr.FetchSessionIDNotFound.Code
		}
		if f.SessionEpoch != sess.epoch {
			return 0, nil, nil, nil, nil, kerr.InvalidFetchSessionEpoch.Code
		}
	}
	sess.epoch++
	if sess.over != nil {
		close(sess.over)
	}
	sess.over = make(chan struct{})
	for _, p := range f.Partitions {
		sess.put(p)
	}
	for _, p := range f.Forget {
		if e := sess.index[p]; e != nil {
			sess.order.Remove(e)
			delete(sess.index, p)
		}
	}
	for e := sess.order.Front(); e != nil; e = e.Next() {
		wants, looks = append(wants, e.Value.(*simWant).FetchPartition), append(looks, e.Value.(*simWant).look)
	}
	return id, sess, wants, looks, sess.over, 0
}

// serve answers a fetch, after a while if there is nothing.
func (s *fakeSessions) serve(w *world, set *Set, from, to metadata.BrokerID, f *peer.Fetch) (*peer.FetchAnswer, error) {
	id, sess, wants, looks, over, code := s.open(f)
	if code != 0 {
		return &peer.FetchAnswer{Code: code}, nil
	}
	w.keep(kept{from, to, *f, wants})
	wake := make(chan struct{}, 1)
	for _, want := range wants {
		if p, err := set.Partition(nameOf(want.Partition)); err == nil {
			defer p.WatchEnd(func() { kick(wake) })()
		}
	}
	timer := time.NewTimer(f.Wait)
	defer timer.Stop()
	for last := false; ; {
		got, urgent := readWants(set, from, f, wants, looks)
		if urgent || last {
			return &peer.FetchAnswer{Session: id, Partitions: s.settle(sess, got, f.SessionEpoch == 0)}, nil
		}
		select {
		case <-wake:
		case <-timer.C:
			last = true
		case <-over:
			last, over = true, nil
		case <-w.ctx.Done():
			return nil, errSim
		}
	}
}

func readWants(set *Set, from metadata.BrokerID, f *peer.Fetch, wants []peer.FetchPartition, looks []*look) (out []peer.FetchedPartition, urgent bool) {
	left := f.MaxBytes
	for i, w := range wants {
		l := new(look)
		if looks != nil { // else the request comes a second time
			l = looks[i]
		}
		byTime := false
		if p, err := set.Partition(nameOf(w.Partition)); err == nil && looks != nil {
			var due bool
			if due, byTime = l.due(p, set.o.Replication.LagTime/4); !due {
				continue
			}
		}
		got, settled := readWant(set, from, f, w, min(left, w.MaxBytes), left == f.MaxBytes)
		l.found(&got, settled, byTime)
		left = max(0, left-len(got.Records))
		urgent = urgent || got.Code != 0 || got.Diverged || len(got.Records) > 0
		out = append(out, got)
	}
	return out, urgent
}

func readWant(set *Set, from metadata.BrokerID, f *peer.Fetch, w peer.FetchPartition, most int, minOne bool) (out peer.FetchedPartition, settled bool) {
	out = peer.FetchedPartition{PartitionID: w.PartitionID, HighWatermark: -1, LogStart: -1}
	p, err := set.Partition(nameOf(w.Partition))
	if err != nil {
		out.Code = kerr.NotLeaderForPartition.Code
		return out, false
	}
	got, err := p.ReadFollower(FollowerFetch{
		Broker: from, BrokerEpoch: f.BrokerEpoch, LeaderEpoch: w.LeaderEpoch, Offset: w.Offset,
		LastFetched: w.LastFetched, LogStart: w.LogStart, Max: most, MinOne: minOne,
	})
	switch {
	case errors.Is(err, storage.ErrOffsetOutOfRange):
		out.Code = kerr.OffsetOutOfRange.Code
	case errors.Is(err, ErrStaleBroker):
		out.Code = kerr.StaleBrokerEpoch.Code
		return out, false
	case err != nil:
		out.Code = kerr.NotLeaderForPartition.Code
		return out, false
	}
	out.HighWatermark, out.LogStart = got.HighWatermark, got.LogStart
	out.Diverged, out.EndEpoch, out.EndOffset = got.Diverged, got.EndEpoch, got.EndOffset
	if got.Slice.Len() > 0 {
		out.Records = make([]byte, got.Slice.Len())
		if _, err := got.Slice.ReadAt(out.Records, 0); err != nil {
			out.Code, out.Records = kerr.KafkaStorageError.Code, nil
		}
	}
	got.Slice.Release()
	return out, got.Settled
}

// settle gives what the follower must be told.
func (s *fakeSessions) settle(sess *fakeSession, got []peer.FetchedPartition, full bool) (out []peer.FetchedPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range got {
		e := sess.index[g.PartitionID]
		if e == nil {
			out = append(out, g)
			continue
		}
		w := e.Value.(*simWant)
		changed := !w.told || g.Code != 0 || w.code != 0 || g.Diverged || len(g.Records) > 0 || w.hw != g.HighWatermark || w.start != g.LogStart
		w.told, w.code, w.hw, w.start = true, g.Code, g.HighWatermark, g.LogStart
		w.look.tell(&g)
		if len(g.Records) > 0 {
			sess.order.MoveToBack(e)
		}
		if full || changed {
			out = append(out, g)
		}
	}
	return out
}
