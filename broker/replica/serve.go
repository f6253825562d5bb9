package replica

import (
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// FollowerFetch is what a follower says when it fetches.
type FollowerFetch struct {
	Broker      metadata.BrokerID
	BrokerEpoch int64         // its registration; -1: not said
	LeaderEpoch record.Epoch  // in which it takes this broker for the leader
	Offset      record.Offset // it has, durably, everything below
	LastFetched record.Epoch  // of its last record; -1: it has none
	LogStart    record.Offset
	Max         int // bytes
	MinOne      bool
}

// ReadFollower reads for a follower: whole batches up to the log's end. What its fetch says
// of the follower counts for the high watermark and the in-sync set from now on. When the
// logs part before the follower's offset, Diverged tells where, and nothing is read.
//
// Errors: storage.ErrOffsetOutOfRange (the marks in Fetched are right); ErrNotReplica,
// ErrStaleBroker; the refusals of CheckLeader.
func (p *Partition) ReadFollower(f FollowerFetch) (Fetched, error) {
	end, err := p.matches(&f)
	if err != nil {
		return Fetched{}, err
	}
	got := p.marks()
	if f.LastFetched >= 0 {
		epoch, ends := p.log.EndOf(f.LastFetched)
		if epoch < 0 {
			return got, storage.ErrOffsetOutOfRange
		}
		if epoch < f.LastFetched || ends < f.Offset {
			got.Diverged, got.EndEpoch, got.EndOffset = true, epoch, ends
			return got, nil
		}
	}
	if f.Offset < got.LogStart || f.Offset > end {
		return got, storage.ErrOffsetOutOfRange
	}
	how, err := p.heard(&f, end)
	if err != nil {
		return got, err
	}
	got = p.marks()
	got.Settled = how.inSync && f.Offset == end
	if f.Offset < end {
		err = p.readLimited(&got, &f, end, how)
	}
	return got, err
}

// matches checks that the follower means this leadership, and gives the log's end in it.
func (p *Partition) matches(f *FollowerFetch) (record.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFollowerLocked(f); err != nil {
		return -1, err
	}
	return p.log.End(), nil
}

func (p *Partition) checkFollowerLocked(f *FollowerFetch) error {
	epoch := f.LeaderEpoch
	if p.flaws.unfenced {
		epoch = -1
	}
	if err := p.checkLeaderLocked(epoch); err != nil {
		return err
	}
	if p.mu.lead.others[f.Broker] == nil {
		return ErrNotReplica
	}
	if f.LeaderEpoch < 0 {
		return ErrFencedEpoch // Why: a follower always knows; who does not say is none of ours
	}
	return nil
}

// standing is what a leader knows of the follower that fetches.
type standing struct {
	inSync bool // in the committed in-sync set
	again  bool // it was given records at that very offset before
}

// heard takes in how far the follower is. Its log is a beginning of this one up to its
// offset: that was looked at in this epoch, and within an epoch a leader cuts nothing.
func (p *Partition) heard(f *FollowerFetch, end record.Offset) (how standing, err error) {
	p.mu.Lock()
	if err := p.checkFollowerLocked(f); err != nil {
		p.mu.Unlock()
		return how, err
	}
	o := p.mu.lead.others[f.Broker]
	how.again = o.end == f.Offset && o.saw > f.Offset
	epoch := f.BrokerEpoch
	if p.flaws.zombies {
		epoch = -1
	}
	now := p.now()
	low := p.mu.lead.lowStart(p.log.Start())
	err = p.mu.lead.note(fetched{
		broker: f.Broker, brokerEpoch: epoch, offset: f.Offset, start: f.LogStart, logEnd: end, now: now,
	})
	if err != nil {
		p.mu.Unlock()
		return how, err
	}
	how.inSync = contains(p.mu.lead.isr.committed, f.Broker)
	c := p.growLocked(f.Broker, now)
	rose := p.mu.lead.lowStart(p.log.Start()) > low
	p.settle()
	if c != nil {
		p.alterer.push(c)
	}
	if rose {
		p.deleted()
	}
	return how, nil
}

// Replicated counts bytes of records that a follower was given of a read.
func (p *Partition) Replicated(f *Fetched, bytes int) {
	p.numbers.ReplicationOut(bytes)
	if f.counted {
		p.numbers.LimitedOut(bytes)
	}
}

// marks are the offsets that every answer carries.
func (p *Partition) marks() Fetched {
	return Fetched{HighWatermark: p.HighWatermark(), LastStable: p.LastStable(), LogStart: p.LogStart()}
}

// WatchEnd is Watch for followers: wake is called after each append, and after leadership
// or state changed, but not when only the high watermark moves.
func (p *Partition) WatchEnd(wake func()) (unwatch func()) {
	w := &watcher{wake: wake}
	p.mu.Lock()
	p.mu.tails.add(w)
	p.tails.Add(1)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if w.at >= 0 {
			p.tails.Add(-1)
		}
		p.mu.tails.remove(w)
	}
}

// appended tells the followers that wait. It costs next to nothing where none does.
func (p *Partition) appended() {
	p.observed(true)
	if p.tails.Load() == 0 {
		return
	}
	p.mu.Lock()
	wake := p.mu.tails.all()
	p.mu.Unlock()
	wakeAll(wake)
}

// FollowerReadable gives how many bytes a follower's read from there could give now, up to
// max; what cannot be read counts as max, so that its reader looks and is told why.
func (p *Partition) FollowerReadable(follower metadata.BrokerID, epoch record.Epoch, from record.Offset, max int) int {
	end := p.End()
	switch {
	case p.CheckLeader(epoch) != nil, from < p.LogStart(), from > end:
		return max
	case from == end, p.held(follower):
		return 0
	}
	return p.log.Bytes(from, end, max)
}
