package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Errors of Altered; compare with errors.Is.
var (
	// ErrStale: the controller is at another leader or partition epoch. This proposal was
	// not taken; one sent before may have been. The next image tells.
	ErrStale = errors.New("the proposal is not made on the controller's state")
	// ErrIneligible: the epochs are right, but a proposed member must not join: it is fenced,
	// shuts down, or has registered again (KIP-841, KIP-903).
	ErrIneligible = errors.New("a proposed member may not be in sync")
)

// ISR asks the controller for other in-sync sets (KIP-497).
type ISR interface {
	// Alter gives an answer for each proposal, in their order, or an error for all: then it
	// is not known what became of them.
	Alter(ctx context.Context, ps []Proposal) ([]Altered, error)
}

// Proposal is another in-sync set for a partition that this broker leads. The same set as
// before is one too: it moves the partition epoch, so that no older proposal can be taken
// any more.
type Proposal struct {
	Topic          topic.ID
	Partition      int32
	LeaderEpoch    record.Epoch
	PartitionEpoch int32 // of the state that it is made on
	ISR            []Member
}

// Member is a broker in an in-sync set and its registration; epoch -1: not known to the leader.
type Member struct {
	Broker      metadata.BrokerID
	BrokerEpoch int64
}

// Altered is the controller's answer.
type Altered struct {
	Err error // nil: the rest is the state now
	// PartitionEpoch and ISR are the state after it.
	PartitionEpoch int32
	ISR            []metadata.BrokerID
}

// Times of a proposal that was not taken.
const (
	alterTimeout = 5 * time.Second        // after which it is not known what became of it
	alterFirst   = 50 * time.Millisecond  // the first wait, doubled each time …
	alterMost    = 1 * time.Second        // … up to this
	alterRest    = 500 * time.Millisecond // before a follower that may not join is proposed again
)

// change is a proposal on its way.
type change struct {
	p        *Partition
	proposal Proposal
	tries    int       // that may still be taken
	at       time.Time // not sent before
}

// alterer sends proposals, as many as there are at a time, and again until it is known
// what became of them (R8).
type alterer struct {
	isr  ISR
	now  func() time.Time
	kick chan struct{} // capacity 1: look again

	mu struct {
		sync.Mutex
		queue []*change // at most one a partition
	}
}

func newAlterer(isr ISR, now func() time.Time) *alterer {
	return &alterer{isr: isr, now: now, kick: make(chan struct{}, 1)}
}

func (a *alterer) push(c *change) {
	a.mu.Lock()
	a.mu.queue = append(a.mu.queue, c)
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// run sends until ctx ends.
func (a *alterer) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, wait := a.due()
		if len(due) > 0 {
			a.ask(ctx, due)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.kick:
		}
	}
}

// due takes out what is to be sent now, and tells how long the next one has.
func (a *alterer) due() (due []*change, wait time.Duration) {
	now := a.now()
	wait = time.Hour
	a.mu.Lock()
	defer a.mu.Unlock()
	rest := a.mu.queue[:0]
	for _, c := range a.mu.queue {
		if left := c.at.Sub(now); left > 0 {
			wait = min(wait, left)
			rest = append(rest, c)
			continue
		}
		due = append(due, c)
	}
	clear(a.mu.queue[len(rest):])
	a.mu.queue = rest
	return due, wait
}

func (a *alterer) ask(ctx context.Context, due []*change) {
	live := due[:0]
	ps := make([]Proposal, 0, len(due))
	for _, c := range due {
		if p, ok := c.p.sending(c); ok {
			live, ps = append(live, c), append(ps, p)
		}
	}
	if len(ps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	answers, err := a.isr.Alter(ctx, ps)
	cancel()
	if err == nil && len(answers) != len(ps) {
		err = errors.New("the controller did not answer each proposal")
	}
	for i, c := range live {
		answer := Altered{Err: err}
		if err == nil {
			answer = answers[i]
		}
		if c.p.altered(c, answer) {
			a.push(c)
		}
	}
}

// sending gives a change's proposal if it is still wanted.
func (p *Partition) sending(c *change) (Proposal, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.change != c {
		return Proposal{}, false
	}
	return c.proposal, true
}

// altered takes the controller's answer; again tells that the change is to be sent once more.
func (p *Partition) altered(c *change, a Altered) (again bool) {
	p.mu.Lock()
	if p.mu.change != c {
		p.mu.Unlock()
		return false
	}
	now := p.now()
	// Why only the first time: the answer says that this try was not taken, not what becomes
	// of an earlier one.
	sure := errors.Is(a.Err, ErrIneligible) && c.tries == 0
	switch {
	case a.Err == nil:
		p.count(len(p.mu.lead.isr.committed), len(a.ISR))
		p.mu.change, p.mu.partitionEpoch = nil, a.PartitionEpoch
		p.membersLocked(isr{committed: a.ISR}, p.mu.lead.replicas)
		return false
	case sure, p.flaws.rashRollBack:
		p.mu.change, p.mu.noChange = nil, now.Add(alterRest)
		p.membersLocked(isr{committed: p.mu.lead.isr.committed}, p.mu.lead.replicas)
		return false
	case errors.Is(a.Err, ErrIneligible):
		// Why not roll back: an earlier try may still be on its way. The set as it is,
		// proposed anew, moves the partition epoch past it.
		c.proposal.ISR = p.signedLocked(p.mu.lead.isr.committed)
	}
	c.at = now.Add(min(alterMost, alterFirst<<min(c.tries, 5)))
	c.tries++
	p.mu.Unlock()
	return true
}

// proposeLocked begins a change of the in-sync set, unless one is under way.
// Requires: mu is held, this broker leads. The caller gives a change to the alterer after mu.
func (p *Partition) proposeLocked(ids []metadata.BrokerID) *change {
	if p.alterer == nil || p.mu.change != nil {
		return nil
	}
	c := &change{p: p, proposal: Proposal{
		Topic: p.id, Partition: p.name.Partition, LeaderEpoch: p.mu.epoch,
		PartitionEpoch: p.mu.partitionEpoch, ISR: p.signedLocked(ids),
	}}
	p.mu.change = c
	p.mu.lead.members(isr{committed: p.mu.lead.isr.committed, proposed: ids}, p.mu.lead.replicas, p.now())
	return c
}

// signedLocked puts the registrations to the members, as this leader knows them.
func (p *Partition) signedLocked(ids []metadata.BrokerID) []Member {
	out := make([]Member, 0, len(ids))
	for _, id := range ids {
		m := Member{Broker: id, BrokerEpoch: p.cluster.epoch(id)}
		if o := p.mu.lead.others[id]; o != nil && o.epoch >= 0 {
			m.BrokerEpoch = o.epoch
		}
		out = append(out, m)
	}
	return out
}

// growLocked proposes a follower that has what a member needs.
func (p *Partition) growLocked(id metadata.BrokerID, now time.Time) *change {
	l := p.mu.lead
	if p.mu.change != nil || now.Before(p.mu.noChange) || contains(l.isr.maximal(), id) {
		return nil
	}
	if !l.joins(id) && !p.flaws.anyJoins {
		return nil
	}
	if o := l.others[id]; !p.cluster.serves(id, o.epoch) && !p.flaws.zombies {
		return nil
	}
	return p.proposeLocked(append(append([]metadata.BrokerID(nil), l.isr.committed...), id))
}

// invite proposes a follower that may join since its broker is in service. Why not at its
// next fetch alone: the one before waits at this leader, for half a second where nothing is
// produced.
func (p *Partition) invite() {
	now := p.now()
	p.mu.Lock()
	var c *change
	if l := p.mu.lead; l != nil && len(l.isr.maximal()) < len(l.replicas) {
		for _, id := range l.replicas {
			if id != p.self && c == nil {
				c = p.growLocked(id, now)
			}
		}
	}
	p.mu.Unlock()
	if c != nil {
		p.alterer.push(c)
	}
}

// shrink proposes the in-sync set without those who are behind for too long.
func (p *Partition) shrink(now time.Time, patience time.Duration) {
	end := p.log.End()
	p.mu.Lock()
	if p.mu.lead == nil || p.mu.change != nil || now.Before(p.mu.noChange) {
		p.mu.Unlock()
		return
	}
	slow := p.mu.lead.slow(now, end, patience)
	if len(slow) == 0 {
		p.mu.Unlock()
		return
	}
	var rest []metadata.BrokerID
	for _, id := range p.mu.lead.isr.committed {
		if !contains(slow, id) {
			rest = append(rest, id)
		}
	}
	c := p.proposeLocked(rest)
	p.mu.Unlock()
	if c != nil {
		p.alterer.push(c)
	}
}

// count notes in the numbers that an in-sync set has another size.
func (p *Partition) count(before, after int) {
	switch {
	case after < before:
		p.numbers.ISRShrunk()
	case after > before:
		p.numbers.ISRExpanded()
	}
}
