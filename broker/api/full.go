package api

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// fullFor is how long a follower's word holds that its storage is full; it says so with each
// fetch. Why not for ever: one that is down does not grow, and must not stop its leaders.
const fullFor = 10 * time.Second

// fullFollowers are brokers that follow this one and refuse clients' records because their
// storage is full: what this broker takes into the partitions that they hold would go there.
type fullFollowers struct {
	any atomic.Bool // there may be one; a produce looks no further while there is none
	mu  struct {
		sync.Mutex
		by map[metadata.BrokerID]fullFollower
	}
}

type fullFollower struct {
	reason string
	until  time.Time
}

// heard takes what a follower says of itself with a fetch.
func (f *fullFollowers) heard(id metadata.BrokerID, reason string, now time.Time) {
	if reason == "" && !f.any.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if reason == "" {
		delete(f.mu.by, id)
	} else {
		if f.mu.by == nil {
			f.mu.by = map[metadata.BrokerID]fullFollower{}
		}
		f.mu.by[id] = fullFollower{reason, now.Add(fullFor)}
	}
	f.any.Store(len(f.mu.by) > 0)
}

// among gives why one of these replicas takes no records of clients; "" if all do.
func (f *fullFollowers) among(replicas []metadata.BrokerID, now time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range replicas {
		if full, ok := f.mu.by[id]; ok && now.Before(full.until) {
			return fmt.Sprintf("broker %d holds a replica: %s", id, full.reason)
		}
	}
	return ""
}

// hearFull notes whether the broker that fetches is full.
func (a *API) hearFull(r *wire.Request, replica int32, tags interface{ Each(func(uint32, []byte)) }) {
	if replica < 0 || r.Session == nil || r.Session.Software != peer.Software {
		return
	}
	reason := ""
	tags.Each(func(tag uint32, v []byte) {
		if tag == peer.TagFull {
			reason = string(v)
		}
	})
	a.full.heard(metadata.BrokerID(replica), reason, a.now())
}

// braked gives why a partition takes no records of clients; "" if it does.
func (a *API) braked(name topic.Partition, now time.Time) string {
	if reason := a.brake.Load(); reason != nil {
		return *reason
	}
	if !a.full.any.Load() {
		return ""
	}
	t := a.image().Topic(name.Topic)
	if t == nil || int(name.Partition) >= len(t.Partitions) {
		return ""
	}
	return a.full.among(t.Partitions[name.Partition].Replicas, now)
}
