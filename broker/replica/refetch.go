package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// A replica whose log is damaged serves nobody, and is fetched anew from its leader (R20):
//
//  1. storage finds the damage and takes the log out of service; whoever waits is told;
//  2. the controller is told which replica it is, and the last leader epoch in which that may
//     have been heard of (Set.Damaged). It takes the replica out of the ISR and out of those
//     that may lead, has another one lead, and begins a new leader epoch, also where the
//     leader stays;
//  3. when this broker sees that in an image, the damaged files are set aside and an empty log
//     follows the leader, as a new replica's does.
//
// Where no other replica has everything, the controller changes nothing of that, and the
// damaged one stays as it is: what is left of it may be the best there is.
//
// Why a new epoch: fetches from before the damage, and in-sync sets proposed because of
// them, may still be on their way. They name an old epoch and are refused; in the new one
// the replica has said nothing before its log was empty (R3, R8). So step 3 needs nothing
// but the image, however old that is.

// Damaged is a replica whose data was found damaged.
type Damaged struct {
	Topic     topic.ID
	Partition int32
	Epoch     record.Epoch // the last leader epoch in which it may have been heard of
}

// Damaged gives the replicas here whose data is damaged and that were not set aside yet.
func (s *Set) Damaged() (all []Damaged) {
	for name, e := range *s.partitions.Load() {
		if e.damage() != nil {
			all = append(all, Damaged{Topic: e.id, Partition: name.Partition, Epoch: e.heard()})
		}
	}
	return all
}

// damage gives why the entry's data is not what was written, nil if nothing is known of that.
func (e *entry) damage() error {
	switch {
	case e.partition != nil:
		return e.partition.log.Damage()
	case errors.Is(e.err, storage.ErrNameless):
		return e.err
	}
	return nil
}

// heard gives the last leader epoch in which the replica may have said how far it is.
func (e *entry) heard() record.Epoch {
	if e.partition == nil {
		return e.epoch
	}
	_, epoch := e.partition.Leader()
	return max(e.epoch, epoch)
}

// renounced tells whether the cluster goes on without what a replica had: another one leads,
// in an epoch after the one in which it may have been heard of, and it is neither in sync nor
// one that may lead.
func renounced(p *metadata.Partition, self metadata.BrokerID, heard record.Epoch) bool {
	return p.LeaderEpoch > heard && p.Leader != self && p.Leader != metadata.NoBroker &&
		!slices.Contains(p.ISR, self) && !slices.Contains(p.ELR, self)
}

// A log that is damaged again soon after it was fetched anew is left for a while, longer each
// time: a disk that spoils everything must not keep its leaders busy.
const (
	refetchMemory = time.Hour        // after which a damage is forgotten
	refetchFirst  = 10 * time.Second // from the damage before
	refetchMost   = 10 * time.Minute
)

// errRests tells that a damaged replica is left as it is for a while.
var errRests = errors.New("it is damaged again")

// refetchRest gives how long a log must have been left since it was set aside last, if that
// happened n times in refetchMemory.
func refetchRest(n int) time.Duration {
	if n == 0 {
		return 0
	}
	return min(refetchMost, refetchFirst<<min(n-1, 16))
}

// setAside makes room for a log that is fetched anew, in the place of a damaged one.
//
// Errors: it is not time yet; the log cannot be set aside. It is tried again.
func (s *Set) setAside(name topic.Partition, w *wish, old *entry, why error) error {
	now := s.o.Now()
	n, last := s.store.asides(name, w.id, now.Add(-refetchMemory))
	if at := last.Add(refetchRest(n)); n > 0 && now.Before(at) && !now.Before(last) {
		return fmt.Errorf("%w: it was fetched anew %d times of late, the next time is at %s: %w", errRests, n, at.Format(time.TimeOnly), why)
	}
	kept, err := s.store.setAside(name, w.id)
	if err != nil {
		return err
	}
	s.o.Logger.Warn("a damaged replica is fetched anew from its leader; its files are kept until somebody deletes them",
		"partition", name.String(), "leader", int(w.state.Leader), "kept", kept, "why", why)
	s.o.Stats.ReplicaRefetched()
	s.mu.Lock()
	s.mu.damaged[name] = &damaged{id: w.id, again: old} // also if nobody has looked yet
	s.mu.Unlock()
	s.hurry()
	return nil
}

// damaged is what is told of a damaged replica.
type damaged struct {
	id topic.ID
	// again is what was set aside, if the replica is being fetched anew.
	// Why not a bool: whoever looks for damage finds it here until the new log is in its place.
	again *entry
}

// lookForDamage tells the world of replicas whose damage is news.
func (s *Set) lookForDamage() {
	news := false
	for name, e := range *s.partitions.Load() {
		why := e.damage()
		if why == nil || !s.noteDamage(name, e) {
			continue
		}
		news = true
		dir := ""
		if e.partition != nil {
			dir = e.partition.log.Dir()
		}
		s.o.Stats.ReplicaDamaged(name, dir, storage.WhyDamaged(why))
	}
	if news {
		s.hurry()
	}
}

// noteDamage notes a damage and tells whether it is news.
func (s *Set) noteDamage(name topic.Partition, e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.mu.damaged[name]; d != nil && d.id == e.id && (d.again == nil || d.again == e) {
		return false
	}
	s.mu.damaged[name] = &damaged{id: e.id}
	return true
}

// forgetDamage ends the telling of replicas that are whole and in sync again, or gone.
func (s *Set) forgetDamage(wishes map[topic.Partition]wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, d := range s.mu.damaged {
		w, here := wishes[name]
		here = here && w.id == d.id
		if here && !(d.again != nil && slices.Contains(w.state.ISR, s.o.Node)) {
			continue
		}
		delete(s.mu.damaged, name)
		s.o.Stats.ReplicaWhole(name)
		if here {
			s.o.Logger.Info("a replica that was damaged is whole and in sync again", "partition", name.String())
		}
	}
}

// hurry has the controller told soon.
func (s *Set) hurry() {
	if s.o.Hurry != nil {
		s.o.Hurry()
	}
}
