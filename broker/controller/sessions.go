package controller

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// sessions is who was heard of when, as far as this controller knows: a state machine
// without a clock. It is empty while the node is not the active controller; one that
// becomes it gives every broker a whole session anew.
type sessions struct {
	timeout time.Duration

	mu struct {
		sync.Mutex
		active bool
		of     map[metadata.BrokerID]*session
	}
}

// session is what is known of one registered broker.
type session struct {
	epoch   int64                    // of the registration
	until   time.Time                // it is given up then
	ties    map[context.Context]bool // connections by which it was heard that are there still
	seen    uint64                   // index of the newest image that it acts on
	left    uint64                   // index at which its leaderships were gone; 0: it does not wish to stop
	offline map[place]bool
}

func newSessions(timeout time.Duration) *sessions { return &sessions{timeout: timeout} }

// start begins a session for each broker.
func (s *sessions) start(now time.Time, brokers []*metadata.Broker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.active = true
	s.mu.of = make(map[metadata.BrokerID]*session, len(brokers))
	for _, b := range brokers {
		s.mu.of[b.ID] = &session{epoch: b.Epoch, until: now.Add(s.timeout)}
	}
}

// stop forgets all.
func (s *sessions) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.active, s.mu.of = false, nil
}

// begin starts a session for a new registration.
func (s *sessions) begin(now time.Time, id metadata.BrokerID, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.active {
		s.mu.of[id] = &session{epoch: epoch, until: now.Add(s.timeout)}
	}
}

// end forgets a broker that was unregistered.
func (s *sessions) end(id metadata.BrokerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.of, id)
}

// beat notes that a registered broker was heard, and gives its session as it is then.
// ok is false if this is not the active controller.
func (s *sessions) beat(now time.Time, id metadata.BrokerID, epoch int64, seen uint64) (_ session, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.active {
		return session{}, false
	}
	of := s.mu.of[id]
	if of == nil || of.epoch != epoch {
		of = &session{epoch: epoch}
		s.mu.of[id] = of
	}
	of.until, of.seen = now.Add(s.timeout), max(of.seen, seen)
	return *of, true
}

// leaves notes at which index a broker that wishes to stop had lost its leaderships.
func (s *sessions) leaves(id metadata.BrokerID, epoch int64, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of := s.mu.of[id]; of != nil && of.epoch == epoch {
		of.left = index
	}
}

// lives tells whether a broker's session has not ended yet, and whether a connection by
// which it was heard is there still.
func (s *sessions) lives(now time.Time, id metadata.BrokerID) (within, tied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.mu.of[id]
	if of == nil {
		return false, false
	}
	return now.Before(of.until), len(of.ties) > 0
}

// expired gives the brokers that were not heard for too long, in ID order.
func (s *sessions) expired(now time.Time) (ids []metadata.BrokerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, of := range s.mu.of {
		if !now.Before(of.until) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// extend makes up for time in which nobody could be heard, because this process stood still.
func (s *sessions) extend(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.mu.of {
		of.until = of.until.Add(by)
	}
}

// lowest gives the oldest image that any of these brokers acts on.
func (s *sessions) lowest(ids []metadata.BrokerID) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := ^uint64(0)
	for _, id := range ids {
		if of := s.mu.of[id]; of != nil {
			low = min(low, of.seen)
		} else {
			low = 0
		}
	}
	return low
}

// tie notes a connection by which a broker is heard; news is false if it is known.
func (s *sessions) tie(id metadata.BrokerID, epoch int64, conn context.Context) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.mu.of[id]
	if of == nil || of.epoch != epoch || of.ties[conn] {
		return false
	}
	if of.ties == nil {
		of.ties = make(map[context.Context]bool)
	}
	of.ties[conn] = true
	return true
}

// untie notes that a connection is gone, and tells whether it was the last one by which
// this registration was heard.
func (s *sessions) untie(id metadata.BrokerID, epoch int64, conn context.Context) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.mu.of[id]
	if of == nil || of.epoch != epoch || !of.ties[conn] {
		return false
	}
	delete(of.ties, conn)
	return len(of.ties) == 0
}

// failed notes which replicas of a broker lie on failed disks, and tells whether that is new.
func (s *sessions) failed(id metadata.BrokerID, epoch int64, places []place) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.mu.of[id]
	if of == nil || of.epoch != epoch {
		return false
	}
	now := make(map[place]bool, len(places))
	for _, p := range places {
		now[p] = true
		news = news || !of.offline[p]
	}
	of.offline = now
	return news
}

// offline tells whether a broker's replica lies on a failed disk.
func (s *sessions) offline(id metadata.BrokerID, p place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.mu.of[id]
	return of != nil && of.offline[p]
}
