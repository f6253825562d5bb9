package replica

import (
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quota"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// limits are how fast this broker replicates what its topics name as limited, in each role
// (KIP-73). All records of these partitions count; only replicas that are not in sync wait,
// so that a limit never makes a client wait.
type limits struct{ leader, follower *quota.Limit }

func newLimits(now func() time.Time) *limits {
	return &limits{leader: quota.New(quota.Unlimited, now), follower: quota.New(quota.Unlimited, now)}
}

// set takes the rates of now, in bytes a second.
func (l *limits) set(leader, follower int64) {
	l.leader.Set(leader)
	l.follower.Set(follower)
}

// leadsLimited tells whether what this leader sends of the partition counts.
func (p *Partition) leadsLimited() bool {
	return !p.limits.leader.Free() && p.settings.Load().leaders.Has(p.name.Partition, int32(p.self))
}

// followsLimited tells whether what this follower fetches of the partition counts.
func (p *Partition) followsLimited() bool {
	return !p.limits.follower.Free() && p.settings.Load().followers.Has(p.name.Partition, int32(p.self))
}

// held tells whether a follower has to wait for the leader's limit.
func (p *Partition) held(follower metadata.BrokerID) bool {
	if !p.leadsLimited() || p.limits.leader.Left() > 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.lead != nil && !contains(p.mu.lead.isr.committed, follower)
}

// LimitWait gives how long it takes until a follower that was held gets more.
func (p *Partition) LimitWait() time.Duration { return p.limits.leader.Wait() }

// readLimited reads up to the log's end for a follower, and no more than the limit leaves it
// if it is not in sync: at least one batch, while anything is left.
func (p *Partition) readLimited(got *Fetched, f *FollowerFetch, end record.Offset, how standing) (err error) {
	if !p.leadsLimited() {
		got.Slice, err = p.readFor(f.Offset, f.Max, end, f.MinOne, how)
		return err
	}
	most, minOne := f.Max, f.MinOne
	if left := p.limits.leader.Left(); !how.inSync && left <= 0 {
		got.Held = true
		return nil
	} else if !how.inSync && left < int64(most) {
		most, minOne = int(left), true
	}
	got.Slice, err = p.readFor(f.Offset, most, end, minOne, how)
	if err != nil {
		return err
	}
	if n := got.Slice.Len(); n > f.Max && !f.MinOne { // the one batch does not fit the answer any more
		got.Slice.Release()
		got.Slice = storage.Slice{}
		return nil
	}
	if got.counted = true; how.inSync {
		p.limits.leader.Pass(got.Slice.Len())
	} else {
		p.limits.leader.Spend(got.Slice.Len())
	}
	return nil
}

// readFor reads for a follower. What it asks for again is checked first. Why: it may be what it
// was given that it could not use, and nobody but this broker can find out whether that lies
// here as it was written.
func (p *Partition) readFor(from record.Offset, most int, end record.Offset, minOne bool, how standing) (storage.Slice, error) {
	if how.again {
		return p.log.ReadChecked(from, most, end, minOne)
	}
	return p.log.Read(from, most, end, minOne)
}

// Unsent takes back what a read for a follower counted: it was not sent.
func (p *Partition) Unsent(f *Fetched) {
	if f.counted {
		p.limits.leader.Spend(-f.Slice.Len())
		f.counted = false
	}
}
