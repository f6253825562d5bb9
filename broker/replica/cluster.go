package replica

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// cluster is what partitions ask about brokers: the others', as the newest image has them,
// and this one's standing with the controller.
type cluster struct {
	self  metadata.BrokerID
	own   atomic.Int64 // this process' broker epoch; -1: not registered
	image atomic.Pointer[metadata.Image]

	base  time.Time
	lease atomic.Int64 // ns after base; noLease: no end
}

const noLease = math.MaxInt64

func newCluster(self metadata.BrokerID, now time.Time) *cluster {
	c := &cluster{self: self, base: now}
	c.own.Store(-1)
	c.lease.Store(noLease)
	return c
}

// epoch gives a broker's registration, -1 if it is not known.
func (c *cluster) epoch(id metadata.BrokerID) int64 {
	if id == c.self {
		return c.own.Load()
	}
	if b := c.broker(id); b != nil {
		return b.Epoch
	}
	return -1
}

// serves tells whether a broker is in service under the very registration by which it
// fetches, and not on its way out. Why that counts: one that stops goes on fetching for a
// moment, and the high watermark would wait for it while its return is proposed (R4).
func (c *cluster) serves(id metadata.BrokerID, epoch int64) bool {
	b := c.broker(id)
	return b.Active() && b.Epoch == epoch
}

func (c *cluster) broker(id metadata.BrokerID) *metadata.Broker {
	if img := c.image.Load(); img != nil {
		return img.Broker(id)
	}
	return nil
}

// isolated tells whether the controller has not been heard of for a session: by now this
// broker may be fenced, and another one lead in its place (R12).
func (c *cluster) isolated(now func() time.Time) bool {
	until := c.lease.Load()
	return until != noLease && int64(now().Sub(c.base)) > until
}

// Registered notes this process' broker epoch. Followers sign their fetches with it.
func (s *Set) Registered(epoch int64) { s.cluster.own.Store(epoch) }

// Lease notes until when this broker counts as in service without a further word from the
// controller: the time at which the answered heartbeat was sent, and a session. Past it
// nothing is taken with acks 0 or 1, and no in-sync set shrinks (R12). Without a call there
// is no such time.
func (s *Set) Lease(until time.Time) { s.cluster.lease.Store(int64(until.Sub(s.cluster.base))) }
